"""Theorem C1: holds in exact expectation, is attained, refuses what it does not cover, rejects false versions."""

from typing import Any

import numpy as np
import pytest

from theory.bounds.c1 import C1
from theory.bounds.stochastic import constants_of
from theory.noise import TwoPoint
from theory.problems.quadratic import Quadratic

evaluate = C1().evaluate
LINES = {"step", "visit", "random", "bound", "tuned"}
EXAMPLE = {"gamma": 1.0, "inner_steps": 1, "sigma": 1.0, "epochs": 3}
LINE = Quadratic.from_matrix(np.eye(1) * 2, sizes=[1], start=np.array([3.0]))


@pytest.mark.parametrize(("gamma", "inner_steps", "sigma"), [(0.1, 4, 1.0), (1.0, 1, 0.1), (1.9, 2, 1.0), (0.5, 1, 0)])
def test_every_line_holds_and_is_far_from_trivial(gamma: float, inner_steps: int, sigma: float) -> None:
    problem = Quadratic([1, 2, 1, 3], coupling=0.9, condition=50, heterogeneity=4, seed=3)
    outcome = evaluate(problem, gamma=gamma, inner_steps=inner_steps, sigma=sigma, epochs=6)
    assert set(outcome.ledger.lines) == (LINES if sigma else LINES - {"tuned"})
    assert outcome.kind == "upper"
    for name, line in outcome.ledger.lines.items():
        assert line.violations == 0, line.first_violation
        assert line.largest_ratio > 0.01, (name, line.largest_ratio)


@pytest.mark.parametrize("p", [0.5, 0.1])
@pytest.mark.parametrize("gamma", [0.3, 1.0, 1.7])
def test_equality_on_one_parabola_for_every_distribution_of_the_noise(gamma: float, p: float) -> None:
    setting = {**EXAMPLE, "gamma": gamma, "noise": TwoPoint.of(p, 1.0)}
    lines = evaluate(LINE, **setting).ledger.lines
    for name in ("step", "visit", "random"):
        assert lines[name].largest_ratio == pytest.approx(1, abs=1e-9), name


def test_the_bound_is_nearly_attained_by_the_tuned_step() -> None:
    """Noise dominates: gamma as the theorem chooses it for T = 400; mean gradient and bound both near the floor."""
    problem = Quadratic.from_matrix(np.eye(1), sizes=[1], start=np.array([0.05]))
    T, delta = 400, 0.05**2 / 2
    gamma = min(1.0, (2 * delta / T) ** 0.5)
    outcome = evaluate(problem, gamma=gamma, inner_steps=1, sigma=1.0, epochs=T)
    assert outcome.ledger.violations == 0
    assert 0.5 < outcome.measured / outcome.bound <= 1
    assert outcome.bound <= 2 * delta / T + 2 * (2 * delta / T) ** 0.5


def test_constants() -> None:
    problem = Quadratic([1, 3], heterogeneity=4, seed=0)
    known = constants_of(problem, TwoPoint.of(0.3, 2.0), 0.5)
    assert known.sigma2 == pytest.approx([4, 12], rel=1e-12)
    assert pytest.approx(4 * problem.L_i[0] + 12 * problem.L_i[1], rel=1e-12) == known.V
    assert known.alpha * problem.L_i.max() == pytest.approx(0.5)
    assert known.om == pytest.approx(0.75)


@pytest.mark.parametrize("control", list(C1().controls()), ids=lambda control: control.name)
def test_false_statements_are_rejected(control: Any) -> None:
    assert control.rejected
    assert control.ratio > 1.3
    assert control.true_ratio <= 1 + 1e-9


def test_other_problems_are_refused() -> None:
    class Other:
        pass

    with pytest.raises(ValueError, match="problem=Other is not possible: Theorem C1"):
        evaluate(Other(), **EXAMPLE)  # pyright: ignore[reportArgumentType]


def test_sixty_digits_agree() -> None:
    problem = Quadratic([1, 2], coupling=0.9, condition=20, seed=2)
    setting = {**EXAMPLE, "gamma": 0.7, "inner_steps": 2}
    float64, better = evaluate(problem, **setting), evaluate(problem, arithmetic="mp", **setting)
    assert better.ledger.violations == 0
    assert better.measured == pytest.approx(float64.measured, rel=1e-12)
    for name, line in better.ledger.lines.items():
        assert line.largest_ratio == pytest.approx(float64.ledger.lines[name].largest_ratio, rel=1e-9), name
