"""Statistics of the studies: against scipy's tests, by simulation, and at the edges."""

import numpy as np
import pytest
from scipy import stats

from paper.read import statistics

CELLS = {
    "a": {0: 0.70, 1: 0.72, 2: 0.69, 7: 0.5},
    "b": {0: 0.66, 1: 0.67, 2: 0.66},
    "c": {0: 0.60, 1: 0.61, 2: 0.60},
    "d": {0: 0.58, 1: 0.60, 2: 0.57},
}


def test_a_paired_difference_is_the_paired_t_test_over_shared_seeds() -> None:
    found = statistics.contrast({"a": 1, "b": -1}, CELLS)
    a, b = ([CELLS[cell][seed] for seed in range(3)] for cell in "ab")
    theirs = stats.ttest_rel(a, b)
    assert found is not None
    assert found.n == 3
    assert found.mean == pytest.approx(np.mean(np.subtract(a, b)))
    assert found.p == pytest.approx(theirs.pvalue)
    assert (found.low, found.high) == pytest.approx(theirs.confidence_interval(0.95))
    assert found.below() == pytest.approx(stats.ttest_rel(a, b, alternative="less").pvalue)
    assert found.above() == pytest.approx(stats.ttest_rel(a, b, alternative="greater").pvalue)


def test_an_interaction_is_a_difference_of_differences() -> None:
    found = statistics.contrast({"a": 1, "b": -1, "c": -1, "d": 1}, CELLS)
    by_seed = [(CELLS["a"][s] - CELLS["b"][s]) - (CELLS["c"][s] - CELLS["d"][s]) for s in range(3)]
    assert found is not None
    assert found.p == pytest.approx(stats.ttest_1samp(by_seed, 0).pvalue)


def test_without_two_shared_seeds_there_is_no_difference() -> None:
    assert statistics.contrast({"a": 1, "x": -1}, CELLS) is None
    assert statistics.contrast({"a": 1, "x": -1}, CELLS | {"x": {7: 0.1, 8: 0.2}}) is None


def test_equivalence_needs_both_sides() -> None:
    found = statistics.contrast({"a": 1, "b": -1}, CELLS)
    assert found is not None
    values = [CELLS["a"][s] - CELLS["b"][s] for s in range(3)]
    for margin in (0.01, 0.05, 0.2):
        upper = stats.ttest_1samp(values, margin, alternative="less").pvalue
        lower = stats.ttest_1samp(values, -margin, alternative="greater").pvalue
        assert found.within(margin) == pytest.approx(max(upper, lower))
    assert found.within(0.2) < 0.05 < found.within(0.05)


def test_runs_that_are_equal_in_every_digit_decide_without_a_division() -> None:
    found = statistics.contrast({"a": 1, "b": -1}, {"a": {0: 2.0, 1: 3.0}, "b": {0: 1.0, 1: 2.0}})
    assert found is not None
    assert (found.error, found.below(), found.above(), found.p) == (0.0, 1.0, 0.0, 0.0)
    assert (found.within(2.0), found.within(0.5), found.smallest_detectable()) == (0.0, 1.0, 0.0)


def test_holm_keeps_the_order_and_never_falls() -> None:
    assert statistics.holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert statistics.holm([0.9, 0.5]) == [1.0, 1.0]
    assert statistics.holm([]) == []


@pytest.mark.parametrize("n", [3, 5])
def test_the_smallest_detectable_difference_is_found_four_times_in_five(n: int) -> None:
    values = np.random.default_rng(1).normal(0, 1, n)
    found = statistics.contrast({"a": 1, "b": -1}, {"a": dict(enumerate(values)), "b": dict.fromkeys(range(n), 0.0)})
    assert found is not None
    shift = found.smallest_detectable() / (found.error * np.sqrt(n))  # in standard deviations of a difference
    drawn = np.random.default_rng(2).normal(shift, 1, (40_000, n))
    assert np.mean(stats.ttest_1samp(drawn, 0, axis=1).pvalue <= 0.05) == pytest.approx(0.8, abs=0.01)


def test_a_mean_of_one_run_has_no_interval() -> None:
    found = statistics.mean([0.5])
    assert (found.mean, found.low, found.high, found.n) == (0.5, -np.inf, np.inf, 1)
    with pytest.raises(ValueError, match=r"values=\[\]"):
        statistics.mean([])


def test_the_additive_model_is_the_paired_test_where_there_are_two_cells() -> None:
    two = {cell: {seed: CELLS[cell][seed] for seed in range(3)} for cell in "ab"}
    paired, found = statistics.contrast({"a": 1, "b": -1}, two), statistics.additive(two)("a", "b")
    assert paired is not None
    assert (found.mean, found.low, found.high, found.n) == pytest.approx(
        (paired.mean, paired.low, paired.high, paired.n)
    )


def test_the_additive_model_is_an_analysis_of_variance_by_cell_and_seed() -> None:
    cells = {cell: {seed: CELLS[cell][seed] for seed in range(3)} for cell in CELLS}
    y = np.array([[cells[cell][seed] for seed in range(3)] for cell in CELLS])
    residuals = y - y.mean(axis=1, keepdims=True) - y.mean(axis=0) + y.mean()
    spread = np.sqrt(np.sum(residuals**2) / 6)
    found = statistics.additive(cells)("b", "d")
    assert found.mean == pytest.approx(y[1].mean() - y[3].mean())
    assert (found.error, found.n) == (pytest.approx(spread * np.sqrt(2 / 3)), 7)


def test_a_seed_that_a_cell_lacks_is_no_bias_under_the_additive_model() -> None:
    easy = {"a": {0: 1.0, 1: 2.0, 2: 3.0}, "b": {0: 1.5, 1: 2.5}, "c": {0: 1.1, 2: 3.0}}
    assert statistics.additive(easy)("b", "a").mean == pytest.approx(0.5, abs=0.05)
    with pytest.raises(ValueError, match="2 values of 1 cells and 2 seeds leave none for the noise"):
        statistics.additive({"a": {0: 1.0, 1: 2.0}})
