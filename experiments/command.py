"""Entry points: what a command's errors look like, its exit codes, and the short spelling of how a run is made.

Exit codes of every command: 0 when all that was asked for is there, 1 when something failed and the rest was done, 2
for bad input, told in one line, 75 after SIGTERM and 130 after Ctrl-C (both go on with the same command).
"""

import functools
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import hydra
import yaml
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from cli.help import answer
from experiments.interruption import Interrupted
from records import ROOT

CONF = ROOT / "conf"
FULL = "HYDRA_FULL_ERROR"


def command(config_name: str) -> Callable[[Callable[[DictConfig], bool | None]], Callable[..., None]]:
    """Make an entry point of a function that takes the configuration and returns whether all succeeded.

    The entry point takes the command line from `sys.argv`, or a list of arguments, and ends with an exit code of this
    module. What Hydra refuses is one line with what there is instead; HYDRA_FULL_ERROR=1 shows the traceback.

    Args:
        config_name: the file of conf/ without its ending.
    """

    def decorate(main: Callable[[DictConfig], bool | None]) -> Callable[..., None]:
        @functools.wraps(main)
        def guarded(config: DictConfig) -> None:
            with exit_codes():
                if main(config) is False:
                    raise SystemExit(1)

        entry = hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(guarded)

        @functools.wraps(guarded)
        def run(arguments: Sequence[str] | None = None) -> None:
            words = sys.argv[1:] if arguments is None else arguments
            answer(words, config_name, main.__module__.removesuffix(".__main__"), main.__globals__["__doc__"])
            former, wants_traceback = sys.argv, FULL in os.environ
            sys.argv = [former[0], *spelled_out(words, config_name)]
            os.environ[FULL] = "1"  # lets Hydra raise what it would report in thirty lines
            try:
                if wants_traceback:
                    entry()
                else:
                    with exit_codes():
                        entry()
            finally:
                sys.argv = former
                if not wants_traceback:
                    os.environ.pop(FULL, None)

        return run

    return decorate


@contextmanager
def exit_codes(where: str = "--cfg job prints all that there are") -> Iterator[None]:
    """What is raised inside the block becomes a line on stderr and an exit code, see the module.

    Args:
        where: what tells the options that there are, see `in_one_line`.
    """
    try:
        yield
    except Interrupted as stop:
        print(f"\ninterrupted by {stop}: the same command goes on from there", file=sys.stderr)
        raise SystemExit(stop.code) from None
    except KeyboardInterrupt:
        print("\ninterrupted: what is finished is kept, and the same command goes on", file=sys.stderr)
        raise SystemExit(130) from None
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        print(f"error: {in_one_line(str(error), where)}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:
        print(f"error: {error.filename or 'the system'}: {error.strerror or error}", file=sys.stderr)
        raise SystemExit(2) from None


@functools.cache
def how_keys(config_name: str) -> tuple[str, ...]:
    """The keys under `how` in conf/NAME.yaml: how runs are made, apart from what is run."""
    return tuple(yaml.safe_load((CONF / f"{config_name}.yaml").read_text(encoding="utf-8"))["how"])


def spelled_out(arguments: Sequence[str], config_name: str = "train") -> list[str]:
    """Overrides with `how.` before the keys that belong there, which may be left out on a command line.

    >>> spelled_out(["method=badam", "workers=4", "checkpoint.every=10", "+how.dry=true"])
    ['method=badam', 'how.workers=4', 'how.checkpoint.every=10', '+how.dry=true']
    """
    belongs_to_how = rf"^([+~]*)(?=(?:{'|'.join(how_keys(config_name))})(?:[.=]|$))"
    return [re.sub(belongs_to_how, r"\1how.", item) for item in arguments]


def in_one_line(message: str, where: str = "--cfg job prints all that there are") -> str:
    """Hydra's message in one line, with what there is instead.

    Args:
        where: what tells the options that there are.

    >>> in_one_line("In 'train': Could not find 'rule/adan'\\nAvailable options in 'rule':\\n\\tadam\\n\\tsgd")
    'rule=adan is not one of adam, sgd'
    >>> in_one_line("Could not override 'metod'.\\nTo append to your config use +metod=badam")
    "there is no option 'metod' here, with the method and the other choices given; --cfg job prints all that there are"
    """
    lines = [line for line in message.partition("Config search path")[0].splitlines() if line.strip()]
    if missing := re.search(r"Could not find '([^']+)/([^/']+)'", message):
        options = ", ".join(line.strip() for line in lines if line.startswith("\t"))
        choice = f"{missing[1]}={missing[2]}"
        return f"{choice} is not one of {options}" if options else f"there is no {choice}"
    if unknown := re.search(r"Could not override '([^']+)'", message):
        return f"there is no option '{unknown[1]}' here, with the method and the other choices given; {where}"
    return " ".join(line.strip() for line in lines)
