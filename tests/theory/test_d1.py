"""Theorem D1: holds along all outcomes of the noise, its floor, its hypotheses, false versions."""

from typing import Any

import numpy as np
import pytest

from theory.bounds.d1 import D1, floor
from theory.noise import TwoPoint
from theory.problems import Problem
from theory.problems.plsin import PLSin
from theory.problems.quadcos import QuadCos
from theory.problems.quadratic import Quadratic

evaluate = D1().evaluate
EXAMPLE = {
    "rate": 0.3,
    "eps": 1.0,
    "betas": (0.9, 0.999),
    "inner_steps": 2,
    "sigma": 0.5,
    "p": 0.2,
    "order": "cyclic",
    "epochs": 2,
}
QUADRATIC = Quadratic([1, 2], coupling=0.9, condition=20, heterogeneity=4, seed=3)
PROBLEMS = [QUADRATIC, QuadCos([2, 1], amplitude=0.5, terms=6, seed=1), PLSin([2, 2], condition=2.0, seed=2)]
POINTWISE, MEAN = {"m_hat", "H", "rho", "e", "descent", "young"}, {"cross", "n", "step", "epoch", "gradient", "bound"}


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: type(problem).__name__)
@pytest.mark.parametrize(
    "change", [{}, {"eps": 1e-6}, {"betas": (0.0, 0.5), "p": 0.5}, {"rate": 30.0, "inner_steps": 3}], ids=str
)
def test_every_line_holds_and_is_far_from_trivial(problem: Problem, change: dict[str, Any]) -> None:
    setting = {**EXAMPLE, **change}
    outcome = evaluate(problem, **setting)
    assert set(outcome.ledger.lines) == POINTWISE | MEAN
    for name, line in outcome.ledger.lines.items():
        assert line.violations == 0, line.first_violation
        if name not in ("e", "cross") or setting["betas"][0] > 0:  # beta1 = 0 has no error of m_hat
            assert line.largest_ratio > 1e-7, (name, line.largest_ratio)
    assert outcome.measured <= outcome.bound
    assert outcome.series["floor"][-1] < outcome.bound


def test_the_floor_is_what_is_left_when_the_step_size_vanishes() -> None:
    still = Quadratic.from_matrix(np.eye(1), sizes=[1], start=np.array([1e-9]))
    outcome = evaluate(still, **{**EXAMPLE, "inner_steps": 1, "eps": 0.1, "R": 2.0, "rate": 0.1, "epochs": 1})
    least = outcome.series["floor"][0]
    assert least == pytest.approx(floor(2.0, 0.1, 1, 0.9, 0.25), rel=1e-12)
    assert 0 < outcome.bound - least < 1e-5 * least


def test_where_the_floor_says_less_than_the_assumption() -> None:
    """The noise is as large as R allows."""
    assert floor(1.9142, 1.0, 1, 0.0, 1.9142**2) == pytest.approx(1.9142**2, rel=1e-4)
    assert floor(15.67, 1.0, 10**6, 0.9, 15.67**2) == pytest.approx(15.67**2, rel=1e-3)


def test_the_geometric_mean_has_the_smaller_floor() -> None:
    """(H - h)^2/H on [a, b] is largest at the ends: (sqrt(b) - sqrt(a))^2 at h = sqrt(ab), more elsewhere."""
    a, b = 1 / 1.01, 100.0
    H = np.linspace(a, b, 1001)
    worst = [((H - h) ** 2 / H).max() for h in ((a * b) ** 0.5, (a + b) / 2, 0.9 * (a * b) ** 0.5)]
    assert worst[0] == pytest.approx((b**0.5 - a**0.5) ** 2, rel=1e-12)
    assert worst[1] > 20 * worst[0]
    assert worst[2] > worst[0]


@pytest.mark.parametrize("control", list(D1().controls()), ids=lambda control: control.name)
def test_false_statements_are_rejected(control: Any) -> None:
    assert control.rejected
    assert control.ratio > 1.5
    assert control.true_ratio <= 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate": 0.0}, r"rate=0\.0 .*Theorem D1"),
        ({"eps": 0.0}, r"eps=0\.0 .*Theorem D1"),
        ({"betas": (1.0, 0.9)}, r"beta1=1\.0"),
        ({"betas": (0.5, 0.0)}, r"beta2=0\.0"),
        ({"betas": (0.5,)}, r"betas=\(0\.5,\)"),
        ({"inner_steps": 0}, "inner_steps=0"),
        ({"inner_steps": 6}, "inner_steps=6 is not possible: 2 blocks need 12"),
        ({"sigma": -1.0}, r"sigma=-1\.0"),
        ({"p": 1.0}, r"p=1\.0"),
        ({"order": "spiral"}, "order='spiral'"),
        ({"R": 0.1}, r"R=0\.1 is not possible: a noisy gradient"),
        ({"noise": TwoPoint.of(0.2, 0.51)}, "its variance is above"),
        ({"arithmetic": "exact"}, "arithmetic='exact'"),
    ],
)
def test_hypotheses_are_checked(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(QUADRATIC, **{**EXAMPLE, **change})


def test_sixty_digits_agree() -> None:
    setting = {**EXAMPLE, "epochs": 1}
    float64, better = evaluate(QUADRATIC, **setting), evaluate(QUADRATIC, arithmetic="mp", **setting)
    assert better.ledger.violations == 0
    assert better.measured == pytest.approx(float64.measured, rel=1e-12)
    assert better.bound == pytest.approx(float64.bound, rel=1e-10)
    for name in POINTWISE | MEAN:
        ratios = [outcome.ledger.lines[name].largest_ratio for outcome in (float64, better)]
        assert ratios[0] == pytest.approx(ratios[1], rel=1e-6), name
