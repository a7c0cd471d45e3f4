"""The families of conf/problem, each made once: their constants take long; and a run of theory.verify."""

import functools
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir

import records
from theory import verify
from theory.problems.__main__ import FOLDER, load

UNBOUNDED = {"bilinear"}  # a counter-example without a minimum; test_master.py has its tests
NAMES = sorted({path.stem for path in FOLDER.glob("*.yaml")} - UNBOUNDED)

family = functools.cache(load)


@functools.cache
def instances(name: str) -> list[Any]:
    """The whole sweep of a family."""
    return list(family(name).instances())


@functools.cache
def showcase(name: str) -> Any:
    """The example of a family."""
    return family(name).showcase()


def verified(folder: Path, *overrides: str) -> int:
    """The exit code of theory.verify with these overrides, in this process."""
    with initialize_config_dir(str(records.ROOT / "conf"), version_base="1.3"):
        return verify.run(verify.plan([*overrides, f"records_dir={folder}", "workers=1"]))
