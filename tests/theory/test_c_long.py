"""C1 to C3 by simulation: runs have the exact mean, true bounds stay, false ones go, hypotheses are checked."""

from typing import Any

import numpy as np
import pytest

from theory.bounds.c1 import C1
from theory.bounds.c2 import C2
from theory.bounds.c3 import C3, UNIFORM
from theory.bounds.c_long import RUNS, CLong, constants_of, simulate
from theory.noise import TwoPoint
from theory.problems.matfac import MatrixFactorisation
from theory.problems.plsin import PLSin
from theory.problems.quadcos import QuadCos
from theory.problems.quadratic import Quadratic

evaluate = CLong().evaluate
EXAMPLE = {"gamma": 0.5, "inner_steps": 20, "sigma": 0.5, "order": UNIFORM, "epochs": 5}
PAIR = Quadratic([1, 2], coupling=0.9, condition=10, seed=3)


@pytest.mark.parametrize("order", [UNIFORM, "cyclic"])
def test_the_runs_have_the_mean_of_the_exact_recursion(order: str) -> None:
    setting = {"gamma": 0.5, "inner_steps": 3, "sigma": 2.0}
    own = {} if order == UNIFORM else {"order": order}
    bound: Any = C1() if order == UNIFORM else C2()
    exact = bound.evaluate(PAIR, epochs=30, **setting, **own)
    noise = TwoPoint.of(0.3, 2.0)  # skewed: the second moment is the same
    alpha = constants_of(PAIR, noise, 0.5).alpha
    runs = simulate(PAIR, alpha, noise, inner_steps=3, order=order, times=30, seed=1)
    error = runs.square.std() / RUNS**0.5
    assert abs(runs.square.mean() - exact.measured) < 4 * error
    assert error < 0.1 * exact.measured
    level = C3().evaluate(PAIR, epochs=30, **setting, order=order).measured
    assert abs(runs.last.mean() - level) < 4 * runs.last.std() / RUNS**0.5


@pytest.mark.parametrize("order", [UNIFORM, "cyclic", "random_reshuffle"])
def test_the_bounds_are_those_of_the_exact_theorems(order: str) -> None:
    setting = {"gamma": 0.5, "inner_steps": 3, "sigma": 0.5, "epochs": 4}
    own = {} if order == UNIFORM else {"order": order}
    bound: Any = C1() if order == UNIFORM else C2()
    assert evaluate(PAIR, **setting, order=order).bound == pytest.approx(
        bound.evaluate(PAIR, **setting, **own).bound, rel=1e-9
    )


@pytest.mark.parametrize("order", [UNIFORM, "cyclic", "random_reshuffle"])
def test_nonconvex_problems_with_visits_beyond_every_tree_are_not_rejected(order: str) -> None:
    problems = (PLSin([1, 2], condition=5.0, seed=0), QuadCos([2, 2], amplitude=0.5, terms=6, seed=1))
    for problem in problems:
        lines = evaluate(problem, **{**EXAMPLE, "order": order}).ledger.lines
        assert set(lines) == {"visit", "C1" if order == UNIFORM else "C2"} | ({"C3"} if problem.pl > 0 else set())
        for line in lines.values():
            assert line.violations == 0, line.first_violation


def test_the_same_setting_gives_the_same_runs() -> None:
    first, second = (evaluate(PAIR, **EXAMPLE) for _ in range(2))
    assert first.measured == second.measured


@pytest.mark.parametrize("control", list(CLong().controls()), ids=lambda control: control.name)
def test_false_statements_are_rejected(control: Any) -> None:
    assert control.rejected
    assert control.ratio > 2
    assert control.true_ratio < 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gamma": 2.0}, r"gamma=2\.0.*alpha < 2/L_max"),
        ({"inner_steps": 0}, "inner_steps=0"),
        ({"sigma": -1.0}, r"sigma=-1\.0"),
        ({"order": "spiral"}, "order='spiral'"),
        ({"epochs": -1}, "epochs=-1"),
        ({"arithmetic": "mp"}, "arithmetic='mp'"),
        ({"noise": TwoPoint.of(0.5, 0.6)}, "its variance is above"),
    ],
)
def test_hypotheses_are_checked(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(PAIR, **{**EXAMPLE, **change})


def test_runs_that_leave_the_certified_set_are_refused() -> None:
    problem = MatrixFactorisation(num_blocks=2, shape=[3, 3], rank=1, lam=0.1)
    with pytest.raises(ValueError, match="a run leaves the set"):
        evaluate(problem, **{**EXAMPLE, "sigma": 1e3})


def test_float_samples_are_nonnegative() -> None:
    assert np.isfinite(evaluate(PAIR, **{**EXAMPLE, "sigma": 0.0}).measured)
