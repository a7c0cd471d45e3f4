"""What of a parametrized test runs in `make test`: pairwise covers of several axes, chosen values of one.

In a cover every two values of different axes meet; it is far smaller than the product.
"""

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
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


def crossed(
    ids: Callable[[Any], object] | None = None, /, **axes: Sequence[Any] | Mapping[str, Any]
) -> pytest.MarkDecorator:
    """Parametrizes a test over all combinations, of which those outside the cover are slow.

    Args:
        ids: the name of a value in the id of a test, as in `pytest.mark.parametrize`; None: the value as text.
        **axes: the values of each argument of the test, a list, or a mapping of names to values.
    """
    named = [
        list(values.items()) if isinstance(values, Mapping) else [((ids or str)(value), value) for value in values]
        for values in axes.values()
    ]
    covered = set(rows(*map(len, named)))
    every = [
        pytest.param(
            *(pairs[i][1] for pairs, i in zip(named, row, strict=True)),
            id="-".join(str(pairs[i][0]) for pairs, i in zip(named, row, strict=True)),
            marks=() if row in covered else pytest.mark.slow,
        )
        for row in itertools.product(*(range(len(values)) for values in axes.values()))
    ]
    return pytest.mark.parametrize(list(axes), every)


def tiered(values: Sequence[Any], quick: Collection[Any]) -> list[Any]:
    """The values as parameters of a test, of which those that are not quick are slow; a tuple is several arguments."""
    assert set(quick) <= set(values), "a quick value that there is not"
    return [
        pytest.param(
            *(value if isinstance(value, tuple) else (value,)), marks=() if value in quick else pytest.mark.slow
        )
        for value in values
    ]


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
