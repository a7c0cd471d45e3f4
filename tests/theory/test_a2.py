"""Theorem A2: holds, is nearly attained, refuses what it does not cover, rejects false versions."""

import itertools
from typing import Any

import numpy as np
import pytest

from theory.bounds.a2 import A2, A2Statement, published_bound, published_constant, worst_huber
from theory.ledger import Line
from theory.problems import Problem
from theory.problems.huber import Huber
from theory.problems.logistic import Logistic
from theory.problems.plsin import PLSin
from theory.problems.quadratic import Quadratic

evaluate = A2().evaluate
ONCE = {"gamma": 1.0, "inner_steps": 1, "order": "cyclic", "epochs": 1}
PROBLEMS = [
    Quadratic([1, 2, 1], coupling=0.9, condition=10, heterogeneity=4, seed=3),
    Logistic([2, 1], samples=24, ridge=0.1, seed=1),
    Huber([2, 2], samples=20, delta=0.5, seed=2),
]
LINES = {"epoch", "radius", "convex", "step", "inverse", "bound", "start", "simple"}


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: type(problem).__name__)
@pytest.mark.parametrize(("gamma", "inner_steps"), [(0.3, 3), (1.0, 1), (1.7, 2)])
def test_every_line_holds_and_is_far_from_trivial(problem: Problem, gamma: float, inner_steps: int) -> None:
    outcome = evaluate(problem, gamma=gamma, inner_steps=inner_steps, order="random_reshuffle", epochs=6)
    expected = LINES | ({"C_BT", "BT"} if gamma == inner_steps == 1 else set())
    assert set(outcome.ledger.lines) == expected - (set() if problem.minimiser is not None else {"radius"})
    assert outcome.measured <= outcome.bound < outcome.series["bound"][0]
    for name, line in outcome.ledger.lines.items():
        assert line.violations == 0, line.first_violation
        assert line.resolved > 0
        # what every step loses adds up in `bound`
        assert name == "bound" or line.largest_ratio > 1e-5, (name, line.largest_ratio)


def test_the_bound_starts_at_the_first_gap_and_never_exceeds_it() -> None:
    outcome = evaluate(PROBLEMS[2], **{**ONCE, "epochs": 9})
    bound = outcome.series["bound"]
    assert bound[0] == pytest.approx(outcome.series["measured"][0], rel=1e-12)
    assert all(after < before for before, after in itertools.pairwise(bound))


def test_start_is_attained_by_a_multiple_of_the_squared_distance() -> None:
    problem = Quadratic.from_matrix(2 * np.eye(2), sizes=[2], start=np.array([1.0, 0.5]))
    assert evaluate(problem, **ONCE).ledger.lines["start"].largest_ratio == pytest.approx(1, abs=1e-9)


def test_half_of_the_constant_is_the_limit_for_one_block() -> None:
    problem = worst_huber(epochs=100)

    def line(constant: float) -> Line:
        statement = A2Statement(constant=constant)
        return evaluate(problem, **{**ONCE, "epochs": 100, "statement": statement}).ledger.lines["bound"]

    assert line(0.5).violations == 0
    assert line(0.5).largest_ratio > 0.9999
    assert line(0.45).violations > 0
    # (1-q)(1 + 2q) at q = 1/4
    assert line(0.25).largest_ratio == pytest.approx(9 / 8, rel=5e-3)


def test_the_slowest_function_of_one_variable_is_the_known_one() -> None:
    problem = worst_huber(epochs=10)
    outcome = evaluate(problem, **{**ONCE, "epochs": 10})
    assert outcome.measured == pytest.approx(problem.L * problem.radius**2 / 42, rel=1e-9)


def test_published_constant_by_hand() -> None:
    problem = Quadratic.from_matrix(np.diag([1.0, 2.0]), sizes=[1, 1], start=np.array([1.0, 1.0]))
    assert published_constant(problem) == pytest.approx(4 * 2 * (1 + 2 * 4 / 1), rel=1e-9)
    # f(x^0) - f* = 3/2 and mu = 1: the sublevel set reaches to sqrt(3)
    assert published_bound(problem, np.array([3])) == pytest.approx(72 * 3 / (3 + 4), rel=1e-9)


def test_the_published_bound_says_nothing_on_huber_for_400_cycles() -> None:
    for seed in range(4):
        problem = Huber([2, 2], samples=20, delta=0.5, seed=seed)
        first = float(problem.gap(problem.start))
        assert published_bound(problem, np.arange(1, 401)).min() > first
        assert evaluate(problem, **{**ONCE, "epochs": 30}).bound < first


def test_the_showcase_has_the_published_bound() -> None:
    bound = A2(example={**ONCE, "epochs": 5})
    outcome = bound.showcase(PROBLEMS[0])
    assert outcome is not None
    assert len(outcome.series["published"]) == 6
    assert all(a >= b for a, b in zip(outcome.series["published"], outcome.series["bound"], strict=True))
    assert A2().showcase(PROBLEMS[0]) is None


@pytest.mark.parametrize("control", list(A2().controls()), ids=lambda control: control.name)
def test_false_statements_are_rejected(control: Any) -> None:
    assert control.rejected
    assert control.ratio > 1.1
    assert control.true_ratio <= 1 + 1e-9


def test_problems_outside_the_hypotheses_are_refused() -> None:
    with pytest.raises(ValueError, match="convex=False is not possible: Theorem A2"):
        evaluate(PLSin([1, 1], condition=2.0, seed=0), **ONCE)
    problem = Quadratic([1, 1], seed=0)
    problem.radius = np.inf
    with pytest.raises(ValueError, match="radius=inf is not possible: Theorem A2"):
        evaluate(problem, **ONCE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gamma": 2.0}, r"gamma=2\.0"),
        ({"inner_steps": 0}, "inner_steps=0"),
        ({"order": "spiral"}, "order='spiral'"),
    ],
)
def test_settings_outside_the_hypotheses_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(PROBLEMS[0], **{**ONCE, **change})


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: type(problem).__name__)
def test_sixty_digits_agree_and_have_no_violation(problem: Problem) -> None:
    setting = {"gamma": 1.0, "inner_steps": 1, "order": "random_reshuffle", "epochs": 2}
    float64, better = evaluate(problem, **setting), evaluate(problem, arithmetic="mp", **setting)
    assert better.ledger.violations == 0
    assert better.measured == pytest.approx(float64.measured, rel=1e-9)
    assert better.bound == pytest.approx(float64.bound, rel=1e-9)
