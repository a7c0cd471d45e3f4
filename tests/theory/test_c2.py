"""Theorem C2: holds in exact expectation for every order, is attained on a parabola, rejects false versions."""

from typing import Any

import numpy as np
import pytest

from theory.bounds.c2 import C2, by_moments, by_trees
from theory.bounds.stochastic import drift
from theory.noise import TwoPoint
from theory.problems import Problem
from theory.problems.plsin import PLSin
from theory.problems.quadcos import QuadCos
from theory.problems.quadratic import Quadratic

evaluate = C2().evaluate
EXAMPLE = {"gamma": 0.5, "inner_steps": 1, "sigma": 1.0, "order": "cyclic", "epochs": 3}
NONCONVEX = [QuadCos([2, 1], amplitude=0.5, terms=6, seed=1), PLSin([2, 2], condition=2.0, seed=2)]
LINE = Quadratic.from_matrix(np.eye(1) * 2, sizes=[1], start=np.array([3.0]))


@pytest.mark.parametrize("order", ["cyclic", "descending", "random_reshuffle"])
@pytest.mark.parametrize(("gamma", "inner_steps", "sigma"), [(0.1, 4, 1.0), (1.0, 1, 0.1), (1.9, 2, 1.0), (0.5, 1, 0)])
def test_every_line_holds_and_is_far_from_trivial(order: str, gamma: float, inner_steps: int, sigma: float) -> None:
    problem = Quadratic([1, 2, 1, 3], coupling=0.9, condition=50, heterogeneity=4, seed=3)
    outcome = evaluate(problem, gamma=gamma, inner_steps=inner_steps, sigma=sigma, order=order, epochs=5)
    assert set(outcome.ledger.lines) == {"step", "epoch", "drift", "gradient", "bound"}
    for name, line in outcome.ledger.lines.items():
        assert line.violations == 0, line.first_violation
        # `bound` and `epoch` are far from tight for steps near 2/L_max, where 1/om = 20
        assert line.largest_ratio > 1e-3, (name, line.largest_ratio)


@pytest.mark.parametrize("p", [0.5, 0.1])
@pytest.mark.parametrize("gamma", [0.25, 1.0, 1.7])
def test_equality_on_a_parabola(gamma: float, p: float) -> None:
    lines = evaluate(LINE, **{**EXAMPLE, "gamma": gamma, "noise": TwoPoint.of(p, 1.0)}).ledger.lines
    for name in ("step", "epoch", "gradient"):
        assert lines[name].largest_ratio == pytest.approx(1, abs=1e-9), name


def test_more_steps_per_visit_divide_the_gradient_term() -> None:
    """Without noise and drift the bound is 2 Delta/(alpha om T K)."""
    found = [evaluate(LINE, **{**EXAMPLE, "sigma": 0.0, "gamma": 1e-6, "inner_steps": K}).bound for K in (1, 4)]
    assert found[0] == pytest.approx(4 * found[1], rel=1e-4)


@pytest.mark.parametrize("p", [0.5, 0.1])
@pytest.mark.parametrize("problem", NONCONVEX, ids=lambda problem: type(problem).__name__)
@pytest.mark.parametrize(("gamma", "inner_steps", "sigma"), [(0.1, 3, 1.0), (1.9, 2, 0.1), (0.5, 1, 1.0)])
def test_every_line_holds_without_convexity(
    problem: Problem, gamma: float, inner_steps: int, sigma: float, p: float
) -> None:
    setting = {"gamma": gamma, "inner_steps": inner_steps, "sigma": sigma, "p": p}
    outcome = evaluate(problem, order="random_reshuffle", epochs=9, **setting)
    assert set(outcome.ledger.lines) == {"step", "epoch", "drift", "gradient", "bound"}
    assert len(outcome.series["measured"]) == 5 // inner_steps
    for name, line in outcome.ledger.lines.items():
        assert line.violations == 0, line.first_violation
        assert line.largest_ratio > 1e-3, (name, line.largest_ratio)


def test_outcomes_and_moments_agree() -> None:
    problem = Quadratic([1, 2], coupling=0.9, condition=20, seed=2)
    noise = TwoPoint.of(0.2, 0.7)
    trees, moments = (way(problem, problem, noise, 0.3, 2, 2, "descending") for way in (by_trees, by_moments))
    assert trees.orders == moments.orders
    assert trees.gap == pytest.approx(moments.gap, rel=1e-11)
    for name in ("drop", "full", "inner", "moved"):
        assert getattr(trees, name) == pytest.approx(getattr(moments, name), rel=1e-9), name
    for name in ("blocks", "drop", "square"):
        assert getattr(trees.steps, name) == pytest.approx(getattr(moments.steps, name), rel=1e-9), name


def test_the_bound_is_attained_up_to_one_over_om() -> None:
    """A parabola, K = 1, at the stationary distribution of the noise: nothing is lost but om."""
    outcome = evaluate(LINE, **{**EXAMPLE, "gamma": 0.02, "epochs": 3000})
    assert 0.97 < outcome.measured / outcome.bound <= 1


def test_drift_takes_the_better_of_its_two_forms() -> None:
    problem = Quadratic([1, 1], coupling=1.0, condition=2, seed=0)
    inside = 4 * 3 / 2
    first = 4 * problem.triangular([0, 1]) + problem.L_i.max() * inside**0.5
    assert drift(problem, (0, 1), 4) == pytest.approx(min(first, problem.L * (16 + inside) ** 0.5), rel=1e-9)
    assert drift(LINE, (0,), 1) == 0


@pytest.mark.parametrize("control", list(C2().controls()), ids=lambda control: f"{control.name}-{control.line}")
def test_false_statements_are_rejected(control: Any) -> None:
    assert control.rejected
    assert control.ratio > 1.2
    assert control.true_ratio <= 1 + 1e-9


@pytest.mark.parametrize(("change", "message"), [({"p": 0.0}, r"p=0\.0"), ({"order": "uniform"}, "order='uniform'")])
def test_noise_and_orders_outside_the_hypotheses_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(LINE, **{**EXAMPLE, **change})


def test_sixty_digits_agree() -> None:
    problem = Quadratic([1, 2], coupling=0.9, condition=20, seed=2)
    setting = {**EXAMPLE, "inner_steps": 2, "order": "random_reshuffle"}
    float64, better = evaluate(problem, **setting), evaluate(problem, arithmetic="mp", **setting)
    assert better.ledger.violations == 0
    assert better.measured == pytest.approx(float64.measured, rel=1e-12)
    assert better.bound == pytest.approx(float64.bound, rel=1e-12)
