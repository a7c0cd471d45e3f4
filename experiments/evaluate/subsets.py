"""Fixed subsets of test sets: the same items for every model, machine and copy of the data."""

from collections.abc import Mapping, Sequence
from typing import Any

from records import digest


def identity(row: Mapping[str, Any], fields: Sequence[str]) -> str:
    """SHA-256 of the fields that make an item what it is, so that copies with other ids choose the same items."""
    return digest({name: row[name] for name in fields})


def chosen(rows: Sequence[Mapping[str, Any]], fields: Sequence[str], size: int) -> list[Mapping[str, Any]]:
    """The `size` rows of the smallest `identity`, in that order; one row of each identity.

    The order of `rows` has no influence, and a smaller subset is the beginning of a larger one. Repeated items are
    dropped because a standard error that counts them twice is too small.
    """
    distinct: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        key = identity(row, fields)
        if key not in distinct or digest(row) < digest(distinct[key]):
            distinct[key] = row
    return [distinct[key] for key in sorted(distinct)[:size]]
