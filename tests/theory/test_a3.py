"""Theorem A3: holds, is attained, refuses what it does not cover, rejects false versions."""

from typing import Any

import numpy as np
import pytest

from theory.bounds.a1 import epoch_constants
from theory.bounds.a3 import A3
from theory.problems import Problem
from theory.problems.huber import Huber
from theory.problems.logistic import Logistic
from theory.problems.plsin import PLSin
from theory.problems.quadratic import Quadratic

evaluate = A3().evaluate
PROBLEMS = [
    Quadratic([1, 2, 1], coupling=0.9, condition=10, heterogeneity=4, seed=3),
    Logistic([2, 1], samples=24, ridge=0.1, seed=1),
    PLSin([2, 2], condition=2.0, seed=2),
]


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: type(problem).__name__)
@pytest.mark.parametrize(("gamma", "inner_steps"), [(0.3, 3), (1.0, 1), (1.7, 2)])
def test_every_line_holds_and_is_far_from_trivial(problem: Problem, gamma: float, inner_steps: int) -> None:
    outcome = evaluate(problem, gamma=gamma, inner_steps=inner_steps, order="random_reshuffle", epochs=8)
    assert set(outcome.ledger.lines) == {"epoch", "PL", "rate", "bound"}
    assert outcome.measured <= outcome.bound < outcome.series["bound"][0]
    for name, line in outcome.ledger.lines.items():
        assert line.violations == 0, line.first_violation
        assert line.resolved > 0
        # the factors of the rate, each loose, multiply in `bound`
        assert name == "bound" or line.largest_ratio > 0.005, (name, line.largest_ratio)


@pytest.mark.parametrize(("gamma", "inner_steps"), [(0.2, 1), (0.5, 3), (0.05, 4)])
def test_equality_where_all_curvatures_agree(gamma: float, inner_steps: int) -> None:
    problem = Quadratic.from_matrix(3 * np.eye(2), sizes=[2], start=np.array([1.0, -2.0]))
    outcome = evaluate(problem, gamma=gamma, inner_steps=inner_steps, order="cyclic", epochs=3)
    for name in ("epoch", "PL", "rate", "bound"):
        assert outcome.ledger.lines[name].largest_ratio == pytest.approx(1, abs=1e-9), name
    assert outcome.measured / outcome.series["measured"][0] == pytest.approx(
        (1 - gamma) ** (6 * inner_steps), rel=1e-9
    )


def test_the_rate_is_that_of_the_docstring() -> None:
    problem = PROBLEMS[0]
    outcome = evaluate(problem, gamma=0.8, inner_steps=2, order="cyclic", epochs=3)
    found = epoch_constants(problem, range(3), gamma=0.8, inner_steps=2)
    C = min(found["C_scalar"], found["C_matrix"], found["C_rec"])
    rate = outcome.series["bound"][3] / outcome.series["bound"][2]
    assert rate == pytest.approx(1 - 2 * problem.pl / C, rel=1e-12)


def test_a_nonconvex_function_converges_linearly() -> None:
    problem = PLSin([1], condition=1.0, seed=0)
    outcome = evaluate(problem, gamma=1.0, inner_steps=1, order="cyclic", epochs=40)
    assert not problem.convex
    assert outcome.ledger.violations == 0
    assert outcome.bound < 0.5 * outcome.series["bound"][0]


@pytest.mark.parametrize("control", list(A3().controls()), ids=lambda control: control.name)
def test_false_statements_are_rejected(control: Any) -> None:
    assert control.rejected
    assert control.ratio > 1.05
    assert control.true_ratio <= 1 + 1e-9


def test_problems_without_the_inequality_are_refused() -> None:
    problem = Huber([1, 1], samples=10, delta=0.5, seed=0)
    with pytest.raises(ValueError, match=r"pl=0\.0 is not possible: Theorem A3"):
        evaluate(problem, gamma=1.0, inner_steps=1, order="cyclic", epochs=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gamma": 2.0}, r"gamma=2\.0"),
        ({"gamma": 0.0}, r"gamma=0\.0"),
        ({"inner_steps": 0}, "inner_steps=0"),
        ({"order": "spiral"}, "order='spiral'"),
    ],
)
def test_settings_outside_the_hypotheses_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(PROBLEMS[0], **{"gamma": 1.0, "inner_steps": 1, "order": "cyclic", "epochs": 1, **change})


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: type(problem).__name__)
def test_sixty_digits_agree_and_have_no_violation(problem: Problem) -> None:
    setting = {"gamma": 0.7, "inner_steps": 2, "order": "random_reshuffle", "epochs": 2}
    float64, better = evaluate(problem, **setting), evaluate(problem, arithmetic="mp", **setting)
    assert better.ledger.violations == 0
    assert better.measured == pytest.approx(float64.measured, rel=1e-9)
    assert better.bound == pytest.approx(float64.bound, rel=1e-9)
