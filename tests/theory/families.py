"""The families of conf/problem, each made once: their constants take long."""

import functools
from typing import Any

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
