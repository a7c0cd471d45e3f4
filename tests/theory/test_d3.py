"""Theorem D3: the floor of stochastic BAdam under skewed noise, and that there is none under symmetric noise (D4)."""

from typing import Any

import numpy as np
import pytest

from bcd import Adam
from theory.bounds.d3 import BETAS, CURVE, D3, displaced, first_order, floor, visit_zero
from theory.mean_field import by_laplace, by_tree, parts, zero
from theory.noise import TwoPoint, grow
from theory.problems.parabola import parabola
from theory.problems.quadratic import Quadratic

evaluate = D3().evaluate
EXAMPLE = {"p": 0.3, "inner_steps": 4, "eps": 1e-8}
SKEWED = TwoPoint.of(0.3, 1.0)
LINES = {"odd", "drift", "ceiling", "path", "floor"}


@pytest.mark.parametrize("eps", [1e-8, 1e-3, 1.0])
@pytest.mark.parametrize("inner_steps", [1, 2, 5, 12])
def test_the_integral_is_the_tree(inner_steps: int, eps: float) -> None:
    for g in (-0.4, 0.0, 0.1, 0.3, 0.6, 1.5):
        wanted = by_tree(g, SKEWED, inner_steps, BETAS, eps)
        assert by_laplace(g, SKEWED, inner_steps, BETAS, eps) == pytest.approx(wanted, rel=1e-12, abs=1e-13)


def test_the_mean_field_is_the_mean_step_of_small_visits() -> None:
    """By the rule's own tree, in which the gradient follows x: the difference falls with alpha."""
    problem, K, eps = parabola(1.0), 6, 1e-3
    errors = []
    for alpha in (1e-4, 1e-6):
        tree = grow(
            problem, np.full((1, 1), 0.2), np.ones(1), block=0, inner_steps=K, rule=Adam(betas=BETAS, eps=eps),
            lr=alpha, noise=SKEWED,
        )  # fmt: skip
        step = tree.probability[-1] @ (tree.points[-1][:, 0] - 0.2)
        positive, negative = parts(0.2, SKEWED, K, BETAS, eps)
        errors.append(abs(step / -alpha - (positive - negative)))
    assert errors[1] < 1e-4
    assert errors[1] < errors[0] / 50


@pytest.mark.parametrize(
    ("inner_steps", "wanted"),
    [(1, 0.6547), (2, 0.6547), (3, 0.6547), (4, 0.6547), (8, 0.274), (12, 0.173), (25, 0.085), (50, 0.046),
     (100, 0.025), (200, 0.014)],
)  # fmt: skip
def test_the_zero_of_the_mean_field(inner_steps: int, wanted: float) -> None:
    found = zero(SKEWED, inner_steps, BETAS, 1e-8)
    assert found == pytest.approx(wanted, abs=6e-4)
    assert floor(0.3, inner_steps) <= found


def test_one_step_has_a_closed_form() -> None:
    """F_1 vanishes where (1-p) z/(z+eps) = p y/(y+eps), z = b - g, y = g + up: z = eps p/(1-2p) up to O(eps^2)."""
    for p in (0.1, 0.3, 0.45):
        noise, eps = TwoPoint.of(p, 1.0), 1e-6
        assert (p / (1 - p)) ** 0.5 - zero(noise, 1, BETAS, eps) == pytest.approx(eps * p / (1 - 2 * p), rel=1e-4)


@pytest.mark.parametrize("inner_steps", [1, 4, 8, 40])
def test_symmetric_noise_has_no_floor(inner_steps: int) -> None:
    symmetric = TwoPoint.of(0.5, 1.0)
    positive, negative = parts(0.0, symmetric, inner_steps, BETAS, 1e-8)
    assert abs(positive - negative) < 1e-14 * positive
    assert zero(symmetric, inner_steps, BETAS, 1e-8) == 0
    away, back = displaced(parabola(1.0), 0.0, symmetric, min(inner_steps, 8), 1e-8, alpha=1e-3)
    assert away == pytest.approx(back, rel=1e-12)


def test_noise_skewed_downwards_is_refused() -> None:
    with pytest.raises(ValueError, match=r"F\(0\)=0\.39999.* is not possible"):
        zero(TwoPoint.of(0.7, 1.0), 1, BETAS, 1e-8)
    with pytest.raises(ValueError, match=r"eps=0\.0"):
        by_laplace(0.1, SKEWED, 4, BETAS, 0.0)


@pytest.mark.parametrize("curvature", [0.5, 4.0])
@pytest.mark.parametrize("inner_steps", [1, 4, 20])
def test_every_line_holds(curvature: float, inner_steps: int) -> None:
    outcome = evaluate(parabola(curvature), **{**EXAMPLE, "inner_steps": inner_steps})
    assert set(outcome.ledger.lines) == (LINES if inner_steps <= 10 else LINES - {"path"})
    assert outcome.kind == "lower"
    assert outcome.measured >= outcome.bound > 0
    for name, line in outcome.ledger.lines.items():
        assert line.violations == 0, line.first_violation
        assert name == "ceiling" or line.largest_ratio > 0.1


def test_the_first_order_floor_becomes_sharp() -> None:
    ratios = [zero(SKEWED, K, BETAS, 1e-8) / first_order(0.3, K) for K in (25, 50, 100, 200)]
    assert ratios == sorted(ratios, reverse=True)
    assert 1 < ratios[-1] < 1.1


def test_the_floor_of_true_visits_does_not_fall_with_the_step_size() -> None:
    found = [visit_zero(parabola(1.0), SKEWED, 8, 1e-8, alpha) for alpha in (0.02, 1e-3, 1e-5)]
    assert found[-1] == pytest.approx(zero(SKEWED, 8, BETAS, 1e-8), rel=1e-3)
    assert min(found) > 0.2


def test_the_figure_is_a_curve_over_the_steps() -> None:
    outcome = D3(example={**EXAMPLE, "epochs": 1}).showcase(parabola(1.0))
    assert outcome is not None
    assert outcome.series["inner_steps"] == list(CURVE)
    assert outcome.series["measured"][3:] == sorted(outcome.series["measured"][3:], reverse=True)
    assert len(outcome.series["bound"]) == len(outcome.series["first_order"]) == len(CURVE)


@pytest.mark.parametrize("control", list(D3().controls()), ids=lambda control: f"{control.name}-{control.line}")
def test_false_statements_are_rejected(control: Any) -> None:
    assert control.rejected
    assert control.ratio > 1.02
    assert control.true_ratio <= 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"p": 0.5}, r"p=0\.5 .*skewed"),
        ({"p": 0.0}, r"p=0\.0"),
        ({"inner_steps": 0}, "inner_steps=0"),
        ({"eps": 0.0}, r"eps=0\.0"),
        ({"eps": 0.01}, r"eps=0\.01"),
        ({"p": 0.4999, "eps": 1e-3}, r"eps=0\.001"),
        ({"arithmetic": "mp"}, "arithmetic='mp'"),
    ],
)
def test_hypotheses_are_checked(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(parabola(1.0), **{**EXAMPLE, **change})


def test_other_problems_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Theorem D3 is about \(L/2\) x\^2"):
        evaluate(Quadratic([2]), **EXAMPLE)
    with pytest.raises(ValueError, match=r"curvature=0"):
        parabola(0.0)
