"""Entry points: what a command's errors look like, its exit codes, and the short spelling of how a run is made.

Exit codes of every command: 0 when all that was asked for is there, 1 when something failed and the rest was done, 2
for bad input, told in one line (of a file a line for each bad row), 75 after SIGTERM and 130 after Ctrl-C (both go on
with the same command).
"""

import functools
import io
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cli.errors import FULL, WHERE, in_one_line, raised_by_hydra, require_plain
from cli.help import answer
from cli.main import typed
from experiments.errors import UserError
from experiments.interruption import Interrupted
from records import ROOT

CONF = ROOT / "conf"
OmegaConf.register_new_resolver("root", lambda: str(ROOT), replace=True)  # of places in conf/*.yaml


def command(config_name: str) -> Callable[[Callable[[DictConfig], bool | None]], Callable[..., None]]:
    """Make an entry point of a function that takes the configuration and returns whether all succeeded.

    The entry point takes the command line from `sys.argv`, or a list of arguments, and ends with an exit code of this
    module. What Hydra refuses is one line with what there is instead; HYDRA_FULL_ERROR=1 shows the traceback.

    Args:
        config_name: the file of conf/ without its ending.
    """

    def decorate(main: Callable[[DictConfig], bool | None]) -> Callable[..., None]:
        failed: list[bool] = []  # of a multirun, whether each of its jobs failed
        given: list[str] = []  # the words of the command line

        @functools.wraps(main)
        def guarded(config: DictConfig) -> None:
            try:
                with exit_codes(again=once_more(module_of(main), given)):
                    if main(config) is False:
                        raise SystemExit(1)
            except SystemExit as end:
                if HydraConfig.get().mode is not RunMode.MULTIRUN or end.code not in (1, 2):
                    raise
                failed.append(True)  # what it was is told; the other jobs do not depend on it
            else:
                failed.append(False)

        entry = hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(guarded)

        @functools.wraps(guarded)
        def run(arguments: Sequence[str] | None = None) -> None:
            words = sys.argv[1:] if arguments is None else arguments
            for stream in (sys.stdout, sys.stderr):  # a terminal without the letters of a text shows their codes
                if isinstance(stream, io.TextIOWrapper):
                    stream.reconfigure(errors="backslashreplace")
            answer(words, config_name, module_of(main), main.__globals__["__doc__"])
            given[:] = words
            former, wants_traceback = sys.argv, FULL in os.environ
            sys.argv = [former[0], *spelled_out(words, config_name)]
            failed.clear()
            try:
                if wants_traceback:
                    entry()
                else:
                    with exit_codes(words=words), raised_by_hydra():
                        require_plain(words)
                        entry()
                if any(failed):
                    print(f"error: {sum(failed)} of {len(failed)} jobs of this multirun failed", file=sys.stderr)
                    raise SystemExit(1)
            finally:
                sys.argv = former

        return run

    return decorate


@contextmanager
def exit_codes(where: str = WHERE, words: Sequence[str] = (), again: str = "") -> Iterator[None]:
    """What is raised inside the block becomes a line on stderr and an exit code, see the module.

    Args:
        where: what tells the options that there are, see `in_one_line`.
        words: of the command line.
        again: the command, as it is typed; shown where it goes on.
    """
    on = f":\n  {again}" if again else ""
    try:
        yield
    except Interrupted as stop:
        print(f"\ninterrupted by {stop}: the same command goes on from there{on}", file=sys.stderr)
        raise SystemExit(stop.code) from None
    except KeyboardInterrupt:
        print(f"\ninterrupted: what is finished is kept, and the same command goes on{on}", file=sys.stderr)
        raise SystemExit(130) from None
    except UserError as error:  # of rows there may be several lines
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        print(f"error: {in_one_line(str(error), words, where)}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:
        print(f"error: {error.filename or 'the system'}: {error.strerror or error}", file=sys.stderr)
        raise SystemExit(2) from None


def module_of(main: Callable[..., Any]) -> str:
    """What `python -m` runs to reach the function, also when that is what runs now."""
    spec = main.__globals__.get("__spec__")
    return (spec.name if spec else main.__module__).removesuffix(".__main__")


def once_more(module: str, words: Sequence[str], *other: str) -> str:
    """The command line once more, as it is typed in a shell, with other values of some options.

    >>> once_more("experiments.train", ["how.workers=2", "method.lr=0.1"], "method.lr=0.03", "retry=true")
    'python -m experiments.train workers=2 method.lr=0.03 retry=true'
    """
    keys = {word.partition("=")[0] for word in other}
    kept = [word.removeprefix("how.") for word in words]
    kept = [word for word in kept if word.partition("=")[0].lstrip("+") not in keys]
    return f"{typed(module)} {shlex.join([*kept, *other])}".rstrip()


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
