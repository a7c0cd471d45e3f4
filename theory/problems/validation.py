"""Checks of arguments that the problems share; every message names the value."""

import math
from collections.abc import Sequence
from typing import Any


def positive_integer(name: str, value: Any) -> int:
    """`value` if it is an integer >= 1, else ValueError."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name}={value!r} is not possible: it must be an integer of at least 1")
    return value


def at_least(name: str, value: Any, low: float, *, strict: bool = False) -> float:
    """`value` as float if it is finite and >= low (> low if strict), else ValueError."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not (low < value if strict else low <= value) or not value < math.inf:
        limit = f"above {low:g}" if strict else f"at least {low:g}"
        raise ValueError(f"{name}={value!r} is not possible: it must be {limit} and finite")
    return float(value)


def block_sizes(sizes: Sequence[int]) -> list[int]:
    """The sizes as a list if there is at least one and all are integers >= 1, else ValueError."""
    if not sizes:
        raise ValueError("sizes=[] is not possible: at least one block is needed")
    return [positive_integer("size of a block", size) for size in sizes]


def choice(name: str, value: Any, allowed: Sequence[int]) -> int:
    """`value` if it is one of the allowed integers, else ValueError."""
    if isinstance(value, bool) or value not in allowed:
        raise ValueError(f"{name}={value!r} is not possible: it must be one of {', '.join(map(str, allowed))}")
    return value
