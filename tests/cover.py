"""Pairwise covers: of all combinations of some axes, few in which every two values of different axes meet."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import pytest


def cover(**axes: Sequence[Any]) -> list[dict[str, Any]]:
    """Combinations of one value an axis, such that any two values of different axes meet in one of them.

    It depends on the order of the axes and of their values alone, not on chance.

    Args:
        **axes: the values of each axis, at least one.

    Returns:
        The combinations, each a mapping of every axis to a value.

    Raises:
        ValueError: for an axis without a value.
    """
    return [{name: axes[name][i] for name, i in zip(axes, row, strict=True)} for row in rows(*map(len, axes.values()))]


def crossed(ids: Callable[[Any], object] | None = None, /, **axes: Sequence[Any]) -> pytest.MarkDecorator:
    """Parametrizes a test over all combinations, of which those outside the cover are slow.

    Args:
        ids: the name of a value in the id of a test, as in `pytest.mark.parametrize`.
        **axes: the values of each argument of the test.
    """
    covered = set(rows(*map(len, axes.values())))
    every = [
        pytest.param(
            *(values[i] for values, i in zip(axes.values(), row, strict=True)),
            marks=() if row in covered else pytest.mark.slow,
        )
        for row in itertools.product(*(range(len(values)) for values in axes.values()))
    ]
    return pytest.mark.parametrize(list(axes), every, ids=ids)


def rows(*sizes: int) -> list[tuple[int, ...]]:
    """The cover of axes of these sizes, as indices.

    Greedy: a row starts with the first pair that has not met; then axis by axis takes the index that makes the most
    new pairs with those taken before.
    """
    if 0 in sizes:
        raise ValueError(f"sizes={sizes} is not possible: an axis must have a value")
    if len(sizes) == 1:
        return [(i,) for i in range(sizes[0])]
    # Keys of a mapping, which keep their order: that of a set changes from process to process.
    unmet = {
        ((a, i), (b, j)): None
        for a, b in itertools.combinations(range(len(sizes)), 2)
        for i, j in itertools.product(range(sizes[a]), range(sizes[b]))
    }
    made = []
    while unmet:
        row = dict(next(iter(unmet)))
        for axis in sorted(set(range(len(sizes))) - set(row)):
            row[axis] = max(
                range(sizes[axis]),
                key=lambda i, axis=axis: sum(pair(taken, (axis, i)) in unmet for taken in row.items()),
            )
        for two in itertools.combinations(row.items(), 2):
            unmet.pop(pair(*two), None)
        made.append(tuple(row[axis] for axis in range(len(sizes))))
    return made


def pair(one: tuple[int, int], other: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Two (axis, index) in the order of their axes."""
    return (one, other) if one < other else (other, one)
