"""Theorem A6 on quadratics: exact, attained, refuses what it does not cover, rejects false versions."""

from typing import Any

import numpy as np
import pytest

from theory import ledger
from theory.bounds.a6_quadratic import A6Quadratic, worst_start
from theory.bounds.splitting import splitting
from theory.ledger import tolerance
from theory.problems.huber import Huber
from theory.problems.quadratic import Quadratic

evaluate = A6Quadratic().evaluate
PROBLEM = Quadratic([1, 2, 1], coupling=0.9, condition=10, heterogeneity=4, seed=3)
ONCE = {"gamma": 1.0, "inner_steps": 2, "order": "cyclic", "epochs": 1}


@pytest.mark.parametrize("order", ["cyclic", "random_reshuffle"])
@pytest.mark.parametrize(("gamma", "inner_steps"), [(0.3, 3), (1.0, 1), (1.7, 2)])
def test_every_line_holds(gamma: float, inner_steps: int, order: str) -> None:
    outcome = evaluate(PROBLEM, gamma=gamma, inner_steps=inner_steps, order=order, epochs=5)
    assert set(outcome.ledger.lines) == {"sweep", "energy", "rate", "A3", "bound"}
    assert outcome.measured <= outcome.bound < outcome.series["bound"][0]
    for line in outcome.ledger.lines.values():
        assert line.violations == 0, line.first_violation
        assert line.checks >= 5


@pytest.mark.parametrize(("gamma", "inner_steps"), [(0.2, 1), (1.0, 1), (0.5, 4), (1.6, 3)])
def test_the_contraction_is_attained(gamma: float, inner_steps: int) -> None:
    problem = worst_start(PROBLEM, gamma=gamma, inner_steps=inner_steps)
    lines = evaluate(problem, gamma=gamma, inner_steps=inner_steps, order="cyclic", epochs=1).ledger.lines
    assert lines["rate"].largest_ratio == pytest.approx(1, abs=1e-9)


def test_the_contraction_is_the_squared_norm_of_the_iteration_written_out() -> None:
    sweep, A = np.eye(4), PROBLEM.matrix
    for rows, L_i in zip(PROBLEM.slices, PROBLEM.L_i, strict=True):
        for _ in range(3):
            sweep[rows] -= 0.7 / L_i * (A[rows] @ sweep)
    root = np.linalg.cholesky(A).T
    expected = np.linalg.norm(root @ sweep @ np.linalg.inv(root), 2) ** 2
    found = splitting(PROBLEM, range(3), 0.7 / PROBLEM.L_i, 3).contraction()[0]
    assert found == pytest.approx(expected, rel=1e-10)


def test_many_steps_are_exact_minimisation_when_every_block_is_well_conditioned() -> None:
    exact, many = splitting(PROBLEM, range(3)), splitting(PROBLEM, range(3), 1 / PROBLEM.L_i, 400)
    np.testing.assert_allclose(many.Q, exact.Q, atol=1e-9)
    assert splitting(PROBLEM, range(3), 1 / PROBLEM.L_i, 1).contraction()[0] > exact.contraction()[0]


@pytest.mark.parametrize("control", list(A6Quadratic().controls()), ids=lambda control: control.name)
def test_false_statements_are_rejected(control: Any) -> None:
    assert control.rejected
    assert control.ratio > 1.05
    assert control.true_ratio <= 1 + 1e-9


@pytest.mark.parametrize(
    ("change", "message"),
    [({"gamma": 2.0}, r"gamma=2\.0"), ({"inner_steps": 0}, "inner_steps=0"), ({"order": "spiral"}, "order='spiral'")],
)
def test_settings_outside_the_hypotheses_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(PROBLEM, **{**ONCE, **change})


def test_other_problems_are_refused() -> None:
    with pytest.raises(ValueError, match="problem=Huber is not possible: Theorem A6"):
        evaluate(Huber([1, 1], samples=10, delta=0.5, seed=0), **ONCE)


def test_sixty_digits_agree_and_have_no_violation() -> None:
    setting = {"gamma": 0.7, "inner_steps": 2, "order": "random_reshuffle", "epochs": 2}
    float64, better = evaluate(PROBLEM, **setting), evaluate(PROBLEM, arithmetic="mp", **setting)
    assert better.ledger.violations == 0
    assert better.measured == pytest.approx(float64.measured, rel=1e-9)
    assert better.bound == pytest.approx(float64.bound, rel=1e-9)


@pytest.mark.parametrize("sizes", [[1, 2], [1, 2, 1]])
def test_fractions_have_no_rounding_at_all(sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Quadratic(sizes, coupling=0.9, condition=10, seed=2)
    setting: dict[str, Any] = {"gamma": 0.7, "inner_steps": 2, "order": "random_reshuffle", "epochs": 2}
    allowed: list[Any] = []
    monkeypatch.setattr(ledger, "tolerance", lambda *sides: allowed.append(tolerance(*sides)) or allowed[-1])
    float64, exact = evaluate(problem, **setting), evaluate(problem, arithmetic="exact", **setting)
    lines = exact.ledger.lines
    assert allowed.count(0) == len(lines) == len(allowed) - len(float64.ledger.lines)
    assert exact.ledger.violations == 0
    assert {line.smallest_slack for line in lines.values() if line.kind == "identity"} == {0.0}
    assert exact.measured == pytest.approx(float64.measured, rel=1e-9)
    assert exact.bound == pytest.approx(float64.bound, rel=1e-9)
