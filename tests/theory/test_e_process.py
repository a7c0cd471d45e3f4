"""The betting test: rarely rejects what is true, soon rejects what is false, sees no future, does not overflow."""

import numpy as np
import pytest

from theory.e_process import LARGEST, THRESHOLD, log_wealth, rejects


def draws(name: str, size: tuple[int, ...], seed: int) -> np.ndarray:
    """Nonnegative samples with mean 1."""
    generator = np.random.default_rng(seed)
    return {
        "square": lambda: generator.standard_normal(size) ** 2,
        "exponential": lambda: generator.exponential(size=size),
        "rare": lambda: 50.0 * (generator.random(size) < 0.02),
        "heavy": lambda: np.exp(1.5 * generator.standard_normal(size) - 1.125),
        "constant": lambda: np.ones(size),
    }[name]()


NAMES = ["square", "exponential", "rare", "heavy", "constant"]


@pytest.mark.parametrize("name", NAMES)
def test_a_true_bound_is_rejected_at_most_at_the_nominal_rate(name: str) -> None:
    """Ville's inequality at three thresholds, for 4000 processes of 500 samples each."""
    highest = log_wealth(draws(name, (500, 4000), 1), 1.0).max(axis=0)
    for threshold in (2.0, 20.0, THRESHOLD):
        rate = (highest >= np.log(threshold)).mean()
        assert rate <= 1 / threshold, (threshold, rate)
    if name in ("square", "exponential"):
        assert (highest >= np.log(20)).mean() > 0.001, "a test that never rejects would pass too"


@pytest.mark.parametrize(("name", "factor", "soon"), [("square", 0.5, 150), ("exponential", 0.5, 80),
                                                      ("exponential", 0.9, 2500), ("heavy", 0.5, 600),
                                                      ("constant", 0.5, 30), ("constant", 0.9, 200)])  # fmt: skip
def test_a_false_bound_is_rejected_quickly(name: str, factor: float, soon: int) -> None:
    reached = log_wealth(draws(name, (4000, 100), 2), factor) >= np.log(THRESHOLD)
    assert reached.any(axis=0).mean() > 0.95
    assert np.median(reached.argmax(axis=0)) <= soon


def test_wealth_depends_on_the_past_alone_and_factors_are_at_least_one_half() -> None:
    x = draws("heavy", (200, 3), 3)
    whole = log_wealth(x, 0.7)
    for n in (1, 2, 50):
        changed = x.copy()
        changed[n:] = 1e3
        assert np.array_equal(log_wealth(changed, 0.7)[:n], whole[:n])
        assert np.array_equal(log_wealth(x[:n], 0.7), whole[:n])
        stake = np.expm1(np.diff(log_wealth(np.concatenate([x[:n], x[:1] * 0 + 1.4]), 0.7), axis=0))[-1]
        assert (stake >= 0).all(), "a stake above 0 on a sample at twice the bound"
        assert (stake <= 0.5 + 1e-12).all(), "stakes are at most 1/(2 bound)"
    assert np.diff(whole, axis=0).min() >= np.log(0.5)
    assert (whole[0] == 0).all(), "nothing is known before the first sample"


def test_a_bound_for_each_process() -> None:
    x = draws("exponential", (400, 2), 4)
    found = log_wealth(x, [0.5, 2.0])
    assert np.array_equal(found[:, 0], log_wealth(x[:, 0], 0.5))
    assert rejects(x, [0.5, 2.0]).tolist() == [True, False]


def test_extreme_samples_neither_overflow_nor_hide_a_violation() -> None:
    x = np.ones(400)
    x[3] = 1e308
    assert np.isfinite(log_wealth(x, 1e-200)).all()
    assert rejects(np.full(50, 1e308), 1e-300)
    assert rejects(np.full(50, np.inf), 1.0)
    assert not rejects(np.zeros(50), 1e-300)
    assert not rejects(x, 1.0), "one sample alone is no evidence: its stake was placed before"
    assert log_wealth([2.0, np.inf], 1.0)[-1] < np.log(LARGEST)


@pytest.mark.parametrize(
    ("samples", "bound", "message"),
    [
        ([1.0], 0.0, r"bound=0\.0"),
        ([1.0], -1.0, r"bound=-1\.0"),
        ([1.0], np.inf, "bound=inf"),
        ([1.0, -1e-9], 1.0, "least value -1e-09"),
        ([1.0, np.nan], 1.0, "least value nan"),
    ],
)
def test_what_ville_does_not_cover_is_refused(samples: list[float], bound: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        log_wealth(samples, bound)
