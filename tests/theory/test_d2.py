"""Theorem D2: holds along all outcomes of the noise, where it says nothing, its hypotheses, false versions."""

from typing import Any

import numpy as np
import pytest

from theory.bounds.d2 import D2, vacuity
from theory.noise import TwoPoint
from theory.problems import Problem
from theory.problems.plsin import PLSin
from theory.problems.quadcos import QuadCos
from theory.problems.quadratic import Quadratic

evaluate = D2().evaluate
EXAMPLE = {
    "rate": 0.3,
    "eps": 1.0,
    "beta2": 0.999,
    "inner_steps": 2,
    "sigma": 0.5,
    "p": 0.2,
    "order": "cyclic",
    "epochs": 2,
}
QUADRATIC = Quadratic([1, 2], coupling=0.9, condition=20, heterogeneity=4, seed=3)
PROBLEMS = [QUADRATIC, QuadCos([2, 1], amplitude=0.5, terms=6, seed=1), PLSin([2, 2], condition=2.0, seed=2)]
STEPS = {"v_hat", "near", "last", "descent", "step", "log", "root", "square", "H"}
LINES = STEPS | {"visit", "epoch", "bound"}


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: type(problem).__name__)
@pytest.mark.parametrize(
    "change", [{}, {"eps": 1e-6}, {"beta2": 0.5, "p": 0.5}, {"rate": 30.0, "inner_steps": 3}], ids=str
)
def test_every_line_holds_and_is_far_from_trivial(problem: Problem, change: dict[str, Any]) -> None:
    outcome = evaluate(problem, **{**EXAMPLE, **change})
    assert set(outcome.ledger.lines) == LINES
    for name, line in outcome.ledger.lines.items():
        assert line.violations == 0, line.first_violation
        assert line.largest_ratio > 1e-7, (name, line.largest_ratio)
    assert outcome.measured <= outcome.bound
    assert outcome.series["floor"][-1] < outcome.bound


def test_a_vanishing_second_moment_is_no_division_by_zero() -> None:
    at_minimum = Quadratic.from_matrix(np.diag([1.0, 2.0]), sizes=[2], start=np.array([0.0, 1.0]))
    outcome = evaluate(at_minimum, **{**EXAMPLE, "sigma": 0.0})
    assert outcome.ledger.violations == 0


@pytest.mark.parametrize("inner_steps", [1, 5, 40])
@pytest.mark.parametrize("beta2", [0.3, 0.99])
def test_the_logarithm_on_random_numbers(inner_steps: int, beta2: float) -> None:
    """`log`, `root` and `square` for sequences that no noise tree has."""
    generator = np.random.default_rng(inner_steps)
    X, eps, k = 10 ** generator.uniform(-4, 1, (500, inner_steps)), 0.01, np.arange(1, inner_steps + 1)
    V, rows = np.zeros(500), []
    for column in X.T:
        V = beta2 * V + column**2
        rows.append(V)
    V, tau2 = np.array(rows).T, (1 - beta2**k) / (1 - beta2)
    h = 1 / (np.sqrt(V / tau2) + eps)
    right = np.log1p(V / eps**2) - (k - 1) * np.log(beta2)
    assert (np.cumsum(X**2 / (eps**2 + V), axis=1) <= right * (1 + 1e-12)).all()
    assert (np.cumsum((X * h) ** 2 / np.sqrt(tau2), axis=1) <= np.sqrt(tau2) * right).all()
    assert (np.cumsum((X * h) ** 2, axis=1) <= tau2 * right).all()


def test_short_visits_are_outside_what_the_theorem_says() -> None:
    table = [[round(vacuity(ratio, K, 0.999), 2) for K in (100, 1000, 10**4)] for ratio in (1.0, 1e8)]
    assert table == [[1.82, 0.75, 0.21], [8.1, 2.23, 0.34]]
    outcome = evaluate(QUADRATIC, **{**EXAMPLE, "R": 9.0})
    unit = 9.0**2 * 3
    assert outcome.series["floor"][0] / unit == pytest.approx(vacuity(9.0, 2, 0.999), rel=1e-9)


@pytest.mark.parametrize("control", list(D2().controls()), ids=lambda control: f"{control.name}-{control.line}")
def test_false_statements_are_rejected(control: Any) -> None:
    assert control.rejected
    assert control.ratio > 1.05
    assert control.true_ratio <= 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate": 0.0}, r"rate=0\.0 .*Theorem D2"),
        ({"eps": 0.0}, r"eps=0\.0 .*Theorem D2"),
        ({"beta2": 1.0}, r"beta2=1\.0"),
        ({"beta2": 0.0}, r"beta2=0\.0"),
        ({"inner_steps": 0}, "inner_steps=0"),
        ({"sigma": -1.0}, r"sigma=-1\.0"),
        ({"p": 0.0}, r"p=0\.0"),
        ({"order": "spiral"}, "order='spiral'"),
        ({"R": 0.1}, r"R=0\.1 is not possible: a noisy gradient"),
        ({"noise": TwoPoint.of(0.2, 0.51)}, "its variance is above"),
        ({"betas": (0.9, 0.999)}, "betas"),
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
    for name in LINES:
        ratios = [outcome.ledger.lines[name].largest_ratio for outcome in (float64, better)]
        assert ratios[0] == pytest.approx(ratios[1], rel=1e-6), name
