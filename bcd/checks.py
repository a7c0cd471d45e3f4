"""Checks of arguments that several files share. Each raises ValueError with the value in the message."""

from typing import Any


def require_whole(name: str, value: Any, *, least: int, why: str) -> None:
    """Raise ValueError, saying why, unless `value` is a whole number and at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name}={value!r} is not possible: {why}")


def require_flag(name: str, value: Any, *allowed: object) -> None:
    """Raise ValueError unless `value` is True, False or one of `allowed` (None for a kernel that torch chooses)."""
    if not any(value is choice for choice in (True, False, *allowed)):
        raise ValueError(f"{name}={value!r} is not one of {', '.join(map(repr, (True, False, *allowed)))}")
