"""The cover of axes: every two values of different axes meet, and it is small and always the same."""

import itertools

import pytest

from tests.cover import cover, crossed

AXES = {
    "two": {"a": [1, 2]},
    "pair": {"a": "xyz", "b": [True, False]},
    "square": {name: range(3) for name in "abcd"},
    "tall": {"a": range(2), "b": range(7), "c": range(5), "d": range(2), "e": range(6)},
    "single": {"a": [None], "b": [1], "c": [2, 3]},
    "unhashable": {"a": [[1], [2]], "b": [{}, {"x": 1}], "c": [3, 4]},
}


@pytest.mark.parametrize("axes", AXES.values(), ids=AXES)
def test_every_two_values_meet(axes):
    rows = cover(**axes)
    assert all(row.keys() == axes.keys() for row in rows)
    for a in axes:
        assert [value for value in axes[a] if value not in [row[a] for row in rows]] == []
    for a, b in itertools.combinations(axes, 2):
        met = [(row[a], row[b]) for row in rows]
        assert [two for two in itertools.product(axes[a], axes[b]) if two not in met] == []


def test_it_is_far_smaller_than_the_product_and_always_the_same():
    assert 9 <= len(cover(**AXES["square"])) <= 12 < 3**4
    assert 42 <= len(cover(**AXES["tall"])) <= 50 < 2 * 7 * 5 * 2 * 6
    assert cover(**AXES["tall"]) == cover(**AXES["tall"])
    assert cover(a=[1, 2], b=[3, 4], c=[5, 6]) == [
        {"a": 1, "b": 3, "c": 5},
        {"a": 1, "b": 4, "c": 6},
        {"a": 2, "b": 3, "c": 6},
        {"a": 2, "b": 4, "c": 5},
    ]


def test_a_crossed_test_has_every_combination_and_is_slow_outside_the_cover():
    names, params = crossed(**AXES["tall"]).args
    assert names == list(AXES["tall"])
    assert [param.values for param in params] == list(itertools.product(*AXES["tall"].values()))
    covered = [dict(zip(names, param.values, strict=True)) for param in params if not param.marks]
    assert sorted(map(str, covered)) == sorted(map(str, cover(**AXES["tall"])))
    assert {mark.name for param in params for mark in param.marks} == {"slow"}


def test_an_axis_without_a_value_is_refused():
    with pytest.raises(ValueError, match=r"sizes=\(2, 0\) is not possible"):
        cover(a=[1, 2], b=[])
