"""Theorem A5: exact minimisation, attained factors, refusals, false versions."""

from typing import Any

import numpy as np
import pytest

from bcd import SGD, Cyclic
from theory import ledger
from theory.bounds.a5 import A5, cosine, factor, minimise_blocks, worst_start
from theory.bounds.splitting import splitting
from theory.ledger import tolerance
from theory.problems.huber import Huber
from theory.problems.quadratic import Quadratic
from theory.trajectory import trajectory

evaluate = A5().evaluate
PROBLEM = Quadratic([1, 2, 1], coupling=0.9, condition=10, heterogeneity=4, seed=3)


@pytest.mark.parametrize("order", ["ascending", "descending"])
@pytest.mark.parametrize("sizes", [[1, 2], [2, 1, 3]])
def test_every_line_holds(sizes: list[int], order: str) -> None:
    outcome = evaluate(Quadratic(sizes, coupling=0.9, condition=10, seed=2), order=order, epochs=4)
    expected = {"visit", "sweep", "product", "rate", "bound"}
    assert set(outcome.ledger.lines) == expected | ({"two"} if len(sizes) == 2 else set())
    assert outcome.measured <= outcome.bound < outcome.series["bound"][0]
    for line in outcome.ledger.lines.values():
        assert line.violations == 0, line.first_violation


def test_scalar_blocks_are_the_steps_of_bcd() -> None:
    problem = Quadratic([1, 1, 1], condition=5, seed=1)
    path = trajectory(problem, order=Cyclic(), inner_steps=1, lr=(1 / np.diag(problem.matrix)).tolist(), epochs=3)
    np.testing.assert_allclose(minimise_blocks(problem, [0, 1, 2], 3), path.points, rtol=1e-12, atol=1e-14)


def test_the_factor_is_attained_and_is_the_contraction_of_the_splitting() -> None:
    lines = evaluate(worst_start(PROBLEM), order="ascending", epochs=1).ledger.lines
    assert lines["rate"].largest_ratio == pytest.approx(1, abs=1e-9)
    split = splitting(PROBLEM, range(3))
    assert factor(split)[0] == pytest.approx(split.contraction()[0], rel=1e-9)


def test_two_blocks_have_the_squared_cosine_and_attain_its_square() -> None:
    problem = Quadratic([2, 3], coupling=0.9, condition=10, seed=4)
    assert factor(splitting(problem, range(2)))[0] == pytest.approx(cosine(problem) ** 2, rel=1e-9)
    pair = Quadratic.from_matrix(np.array([[1.0, 0.9], [0.9, 1.0]]), sizes=[1, 1], start=np.array([0.0, 1.0]))
    assert cosine(pair) == pytest.approx(0.9, rel=1e-9)
    lines = evaluate(pair, order="ascending", epochs=3).ledger.lines
    assert lines["two"].largest_ratio == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("control", list(A5().controls()), ids=lambda control: control.name)
def test_false_statements_are_rejected(control: Any) -> None:
    assert control.rejected
    assert control.ratio > 1.9
    assert control.true_ratio <= 1 + 1e-9


def test_what_the_theorem_does_not_cover_is_refused() -> None:
    with pytest.raises(ValueError, match="order='spiral' is not one of ascending"):
        evaluate(PROBLEM, order="spiral", epochs=1)
    with pytest.raises(ValueError, match="problem=Huber is not possible: Theorem A5"):
        evaluate(Huber([1, 1], samples=10, delta=0.5, seed=0), order="ascending", epochs=1)
    with pytest.raises(ValueError, match=r"rule=.*SGD.* is not possible: Theorem A5"):
        evaluate(PROBLEM, order="ascending", epochs=1, rule=SGD())


def test_sixty_digits_agree_and_have_no_violation() -> None:
    float64, better = (evaluate(PROBLEM, order="descending", epochs=2, arithmetic=a) for a in ("float64", "mp"))
    assert better.ledger.violations == 0
    assert better.measured == pytest.approx(float64.measured, rel=1e-9)
    assert better.bound == pytest.approx(float64.bound, rel=1e-9)


@pytest.mark.parametrize("sizes", [[1, 2], [1, 2, 1]])
def test_fractions_have_no_rounding_at_all(sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Quadratic(sizes, coupling=0.9, condition=10, seed=2)
    setting: dict[str, Any] = {"order": "descending", "epochs": 2}
    allowed: list[Any] = []
    monkeypatch.setattr(ledger, "tolerance", lambda *sides: allowed.append(tolerance(*sides)) or allowed[-1])
    float64, exact = evaluate(problem, **setting), evaluate(problem, arithmetic="exact", **setting)
    lines = exact.ledger.lines
    assert allowed.count(0) == len(lines) == len(allowed) - len(float64.ledger.lines)
    assert exact.ledger.violations == 0
    assert {line.smallest_slack for line in lines.values() if line.kind == "identity"} == {0.0}
    assert exact.measured == pytest.approx(float64.measured, rel=1e-9)
    assert exact.bound == pytest.approx(float64.bound, rel=1e-9)
