"""Checks of arguments. Each raises ValueError, with the value in the message.

NAME=VALUE is not possible: WHY          NAME=VALUE is not one of CHOICES
"""

import math
from numbers import Integral, Real
from typing import Any


def require_whole(
    name: str, value: Any, *, least: int | None = None, or_none: bool = False, why: str | None = None
) -> None:
    """Raise ValueError unless `value` is a whole number, and neither True nor False.

    Args:
        name: of the argument, for the message.
        value: what was given for it.
        least: the smallest possible number; None: any.
        or_none: whether None is possible too.
        why: for the message, in place of the one that these make.

    >>> require_whole("steps", 0, least=1, or_none=True)
    Traceback (most recent call last):
    ValueError: steps=0 is not possible: it must be a whole number, at least 1, or None
    """
    if value is None and or_none:
        return
    if isinstance(value, bool) or not isinstance(value, Integral) or (least is not None and value < least):
        at_least = "" if least is None else f", at least {least}"
        refuse(name, value, why or f"it must be a whole number{at_least}{', or None' * or_none}")


def require_number(
    name: str,
    value: Any,
    *,
    least: float | None = None,
    above: float | None = None,
    below: float = math.inf,
    or_none: bool = False,
    why: str | None = None,
) -> None:
    """Raise ValueError unless `value` is a number in the range, and neither True nor False.

    Args:
        name: as in `require_whole`.
        value: as in `require_whole`.
        least: the smallest possible number, or None.
        above: what it must exceed, or None.
        below: what it must be below; infinity: any that is finite.
        or_none: as in `require_whole`.
        why: as in `require_whole`.

    >>> require_number("share", 1.0, least=0, below=1)
    Traceback (most recent call last):
    ValueError: share=1.0 is not possible: it must be a number, at least 0 and below 1
    """
    if value is None and or_none:
        return
    lowest = -math.inf if above is None else above
    too_low = least is not None and isinstance(value, Real) and value < least
    in_range = isinstance(value, Real) and lowest < value < below  # pyright: ignore[reportOperatorIssue]
    if isinstance(value, bool) or too_low or not in_range:
        bounds = [f"at least {least:g}"] if least is not None else [f"above {above:g}"] if above is not None else []
        bounds.append("finite" if below == math.inf else f"below {below:g}")
        refuse(name, value, why or f"it must be a number, {' and '.join(bounds)}{', or None' * or_none}")


def require_positive(name: str, value: Any, *, or_none: bool = False, why: str | None = None) -> None:
    """Raise ValueError unless `value` is a finite number above 0; the arguments are those of `require_whole`."""
    require_number(name, value, above=0, or_none=or_none, why=why)


def require_flag(name: str, value: Any, *allowed: object) -> None:
    """Raise ValueError unless `value` is True, False or one of `allowed` (None for a kernel that torch chooses)."""
    if not any(value is choice for choice in (True, False, *allowed)):
        raise ValueError(f"{name}={value!r} is not one of {', '.join(map(repr, (True, False, *allowed)))}")


def require_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise ValueError unless `value` is one of the words; those of a Literal are `typing.get_args` of it."""
    if value not in choices:
        raise ValueError(f"{name}={value!r} is not one of {', '.join(choices)}")


def plain(value: Any) -> Any:
    """A number of another library, such as numpy's, as Python's own, which every file format knows.

    >>> from fractions import Fraction
    >>> plain((Fraction(1, 2), 3, "no number"))
    (0.5, 3, 'no number')
    """
    if isinstance(value, tuple):
        return tuple(map(plain, value))
    if type(value) in (bool, int, float) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def refuse(name: str, value: Any, why: str) -> None:
    """Raise ValueError with the value and the reason."""
    raise ValueError(f"{name}={value!r} is not possible: {why}")
