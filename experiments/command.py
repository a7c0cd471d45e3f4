"""How an entry point starts: what Hydra refuses is one line that names the value and what there is, exit code 2."""

import os
import re
import sys
from collections.abc import Callable

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

FULL = "HYDRA_FULL_ERROR"


def start(main: Callable[[], object]) -> None:
    """Call a function that `hydra.main` decorates.

    Hydra's own report has a line for every choice, its search path and an advice that often does not help. A user who
    sets HYDRA_FULL_ERROR=1 gets the traceback.
    """
    if FULL in os.environ:
        main()
        return
    os.environ[FULL] = "1"  # lets Hydra raise
    try:
        main()
    except (HydraException, OmegaConfBaseException) as error:
        print(f"error: {in_one_line(str(error))}", file=sys.stderr)
        raise SystemExit(2) from None
    finally:
        os.environ.pop(FULL, None)


def in_one_line(message: str, where: str = "--cfg job prints all that there are") -> str:
    """Hydra's message in one line, with what there is instead.

    where: what tells the options that there are.

    >>> in_one_line("In 'train': Could not find 'rule/adan'\\nAvailable options in 'rule':\\n\\tadam\\n\\tsgd")
    'rule=adan is not one of adam, sgd'
    >>> in_one_line("Could not override 'metod'.\\nTo append to your config use +metod=badam")
    "there is no option 'metod' here, with the method and the other choices given; --cfg job prints all that there are"
    """
    lines = [line for line in message.partition("Config search path")[0].splitlines() if line.strip()]
    if found := re.search(r"Could not find '([^']+)/([^/']+)'", message):
        options = ", ".join(line.strip() for line in lines if line.startswith("\t"))
        return f"{found[1]}={found[2]} is not one of {options}" if options else f"there is no {found[1]}={found[2]}"
    if found := re.search(r"Could not override '([^']+)'", message):
        return f"there is no option '{found[1]}' here, with the method and the other choices given; {where}"
    return " ".join(line.strip() for line in lines)
