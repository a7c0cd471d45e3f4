"""Theorem C3: holds in exact expectation, is an equality on a parabola, and what its floor misses."""

from typing import Any

import numpy as np
import pytest

from theory.bounds.c3 import C3, UNIFORM, C3Statement
from theory.noise import SecondMoment, TwoPoint
from theory.problems.quadratic import Quadratic

evaluate = C3().evaluate
EXAMPLE = {"gamma": 0.5, "inner_steps": 1, "sigma": 1.0, "order": UNIFORM, "epochs": 3}
LINE = Quadratic.from_matrix(np.eye(1) * 2, sizes=[1], start=np.array([3.0]))


@pytest.mark.parametrize("order", [UNIFORM, "cyclic", "descending", "random_reshuffle"])
@pytest.mark.parametrize(("gamma", "inner_steps", "sigma"), [(0.1, 4, 1.0), (1.0, 1, 0.1), (1.9, 2, 1.0), (0.5, 1, 0)])
def test_every_line_holds_and_is_far_from_trivial(order: str, gamma: float, inner_steps: int, sigma: float) -> None:
    problem = Quadratic([1, 2, 1, 3], coupling=0.9, condition=50, heterogeneity=4, seed=3)
    outcome = evaluate(problem, gamma=gamma, inner_steps=inner_steps, sigma=sigma, order=order, epochs=6)
    assert set(outcome.ledger.lines) == {"PL", "epoch", "bound"}
    for name, line in outcome.ledger.lines.items():
        assert line.violations == 0, line.first_violation
        assert line.largest_ratio > 0.01, (name, line.largest_ratio)


@pytest.mark.parametrize("p", [0.5, 0.1])
@pytest.mark.parametrize("gamma", [0.25, 1.0, 1.7])
def test_equality_on_a_parabola_down_to_the_floor(gamma: float, p: float) -> None:
    outcome = evaluate(LINE, **{**EXAMPLE, "gamma": gamma, "noise": TwoPoint.of(p, 1.0), "epochs": 200})
    assert outcome.ledger.violations == 0
    for name, line in outcome.ledger.lines.items():
        assert line.largest_ratio == pytest.approx(1, abs=1e-9), name
    assert outcome.series["measured"] == pytest.approx(outcome.series["bound"], rel=1e-9)
    alpha, om = gamma / 2, 1 - gamma / 2
    assert outcome.measured == pytest.approx(alpha * 2 / (4 * 2 * om), rel=1e-9)  # alpha K V/(4 mu om)


def test_one_block_in_any_order_is_weaker_than_uniform() -> None:
    """The two forms differ by the squaring: half of the rate at K = 1."""
    uniform = evaluate(LINE, **EXAMPLE)
    cyclic = evaluate(LINE, **{**EXAMPLE, "order": "cyclic"})
    assert uniform.measured == pytest.approx(cyclic.measured, rel=1e-12)
    assert uniform.bound < cyclic.bound


@pytest.mark.parametrize("order", [UNIFORM, "cyclic", "random_reshuffle"])
def test_every_order_has_the_same_stationary_value_for_equal_scalar_blocks(order: str) -> None:
    """d alpha sigma^2/(2(2 - alpha l)), although coupling 0.95 makes the theorem's floor twenty times larger."""
    matrix = np.array([[1.0, 0.95], [0.95, 1.0]])
    problem = Quadratic.from_matrix(matrix, sizes=[1, 1], start=np.ones(2))
    setting = {"gamma": 0.42, "inner_steps": 1, "sigma": 1.0, "order": order}
    outcome = evaluate(problem, epochs=2500, **setting)
    assert outcome.measured == pytest.approx(2 * 0.42 / (2 * (2 - 0.42)), rel=1e-9)
    assert outcome.bound > 15 * outcome.measured


def test_the_stationary_covariance_is_invariant_under_every_block() -> None:
    matrix = np.array([[1.0, 0.5, 0.3], [0.5, 1.0, -0.4], [0.3, -0.4, 1.0]])
    problem = Quadratic.from_matrix(matrix, sizes=[1, 1, 1], start=np.ones(3))
    alpha, noise = 0.3, TwoPoint.of(0.2, 1.5)
    fixed = alpha * 1.5**2 / (2 - alpha) * np.linalg.inv(matrix)
    for block in range(3):
        assert SecondMoment(problem, noise, fixed).step(block, alpha).Sigma == pytest.approx(fixed, rel=1e-12)


@pytest.mark.parametrize("control", list(C3().controls()), ids=lambda control: f"{control.name}-{control.line}")
def test_false_statements_are_rejected(control: Any) -> None:
    assert control.rejected
    assert control.ratio > 1.5
    assert control.true_ratio <= 1 + 1e-9


def test_other_orders_are_refused() -> None:
    with pytest.raises(ValueError, match="order='spiral'"):
        evaluate(LINE, **{**EXAMPLE, "order": "spiral"})


def test_problems_without_a_pl_constant_are_refused() -> None:
    flat = Quadratic.from_matrix(np.eye(1), sizes=[1], start=np.ones(1))
    flat.pl = 0.0
    with pytest.raises(ValueError, match=r"pl=0\.0 is not possible: Theorem C3"):
        evaluate(flat, **EXAMPLE)


def test_a_contraction_outside_the_proof_is_refused() -> None:
    wrong = Quadratic.from_matrix(np.eye(1), sizes=[1], start=np.ones(1))
    wrong.pl = 5.0
    with pytest.raises(ValueError, match=r"rate=.* is not possible"):
        evaluate(wrong, **EXAMPLE)


def test_the_true_statement_with_a_larger_noise_term_still_holds() -> None:
    assert evaluate(LINE, statement=C3Statement(constant=2.0), **EXAMPLE).ledger.violations == 0


@pytest.mark.parametrize("order", [UNIFORM, "random_reshuffle"])
def test_sixty_digits_agree(order: str) -> None:
    problem = Quadratic([1, 2], coupling=0.9, condition=20, seed=2)
    setting = {**EXAMPLE, "inner_steps": 2, "order": order}
    float64, better = evaluate(problem, **setting), evaluate(problem, arithmetic="mp", **setting)
    assert better.ledger.violations == 0
    assert better.measured == pytest.approx(float64.measured, rel=1e-12)
    assert better.bound == pytest.approx(float64.bound, rel=1e-12)
