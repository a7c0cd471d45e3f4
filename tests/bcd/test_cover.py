import itertools
import math

import pytest

from tests.bcd.cover import cover, product


@pytest.mark.parametrize("sizes", [(6, 10, 7, 2), (2, 2), (3, 3, 2, 6), (2, 2, 2, 2, 2), (5, 1, 3), (4, 4, 4)])
def test_every_pair_of_values_of_two_axes_occurs(sizes):
    axes = [[f"{name}{i}" for i in range(size)] for name, size in zip("abcde", sizes, strict=False)]
    chosen = cover(*axes)
    assert len(set(chosen)) == len(chosen)
    assert set(chosen) <= set(itertools.product(*axes))
    for i, j in itertools.combinations(range(len(axes)), 2):
        assert {(row[i], row[j]) for row in chosen} == set(itertools.product(axes[i], axes[j]))
    assert chosen == cover(*axes)
    least = max(a * b for a, b in itertools.combinations(sizes, 2))
    assert least <= len(chosen) <= min(1.5 * least, math.prod(sizes))


def test_the_rest_of_the_product_is_slow():
    mark = product(a=[1, 2], b={"x": 3, "y": 4}, c=[None, True])
    names, rows = mark.args
    assert names == ("a", "b", "c")
    assert {row.values for row in rows} == set(itertools.product([1, 2], [3, 4], [None, True]))
    fast = {row.id for row in rows if not row.marks}
    assert fast == {"-".join(row) for row in cover(["1", "2"], ["x", "y"], ["None", "True"])}
    assert len(fast) == 4
    assert {mark.name for row in rows for mark in row.marks} == {"slow"}
