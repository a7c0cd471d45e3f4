"""Theorem A4: exact expectations, lines that hold and are attained, hypotheses, false versions."""

import itertools
from typing import Any

import numpy as np
import pytest

from bcd import Adam
from theory.bounds.a4 import A4, level_radius, modulus, probabilities
from theory.bounds.expectation import expected_values, over_paths
from theory.problems import Problem
from theory.problems.huber import Huber
from theory.problems.logistic import Logistic
from theory.problems.plsin import PLSin
from theory.problems.quadratic import Quadratic

evaluate = A4().evaluate
QUADRATIC = Quadratic([1, 2, 1], coupling=0.9, condition=10, heterogeneity=4, seed=3)
PROBLEMS = [QUADRATIC, Logistic([2, 1], samples=24, ridge=0.1, seed=1), PLSin([2, 2], condition=2.0, seed=2)]
MINIMISER = np.linalg.solve(QUADRATIC.matrix, QUADRATIC.linear)
DESCENT, CONVEX = {"A4.0", "A4.1", "A4.2"}, {"A4.3", "convex", "A4.4", "A4.5", "A4.S", "A4.R", "A4.L", "A4.N"}


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: type(problem).__name__)
@pytest.mark.parametrize("exponent", [0.0, 0.4, 1.0])
def test_every_line_holds_and_is_far_from_trivial(problem: Problem, exponent: float) -> None:
    outcome = evaluate(problem, exponent=exponent, epochs=3)
    assert set(outcome.ledger.lines) == (DESCENT | CONVEX if problem.convex else DESCENT)
    assert outcome.measured <= outcome.bound
    for name, line in outcome.ledger.lines.items():
        assert line.violations == 0, line.first_violation
        assert line.resolved > 0
        # these know the size of x and of the level set alone
        assert line.largest_ratio > (0.01 if name in ("A4.R", "A4.L", "A4.N") else 0.1), (name, line.largest_ratio)


def test_the_expectation_is_the_sum_over_all_paths_written_out() -> None:
    problem, p = QUADRATIC, np.array([0.5, 0.3, 0.2])
    total = 0.0
    for blocks in itertools.product(range(3), repeat=3):
        x, chance = problem.start.copy(), 1.0
        for block in blocks:
            rows = problem.slices[block]
            x[rows] -= problem.gradient(x)[rows] / problem.L_i[block]
            chance *= p[block]
        total += chance * (problem.value(x) - problem.value(MINIMISER))
    for found in (expected_values, over_paths):
        values = found(problem, problem.start, MINIMISER, p, 1 / problem.L_i, steps=3)
        assert values[3] == pytest.approx(total, rel=1e-10)


def test_moments_and_paths_agree() -> None:
    values = [
        found(QUADRATIC, QUADRATIC.start, MINIMISER + 0.1, np.ones(3) / 3, 1 / QUADRATIC.L_i, steps=5)
        for found in (expected_values, over_paths)
    ]
    np.testing.assert_allclose(*values, rtol=1e-10)


def test_equality_on_the_ball() -> None:
    problem = Quadratic.from_matrix(2 * np.eye(3), sizes=[1] * 3, start=np.array([1.0, -2.0, 0.5]))
    lines = evaluate(problem, exponent=0.0, epochs=2).ledger.lines
    for name in ("A4.0", "A4.1", "A4.2", "A4.S"):
        assert lines[name].largest_ratio == pytest.approx(1, abs=1e-9), name


def test_the_modulus_is_at_least_the_simple_one_and_exact_where_known() -> None:
    weights = QUADRATIC.L_i / probabilities(QUADRATIC, 0.0)
    assert modulus(QUADRATIC, weights) > QUADRATIC.mu / weights.max()
    diagonal = Quadratic.from_matrix(np.diag([1.0, 4.0]), sizes=[1, 1], start=np.ones(2))
    assert modulus(diagonal, np.array([5.0, 10.0])) == pytest.approx(0.2, rel=1e-9)
    logistic = PROBLEMS[1]
    assert modulus(logistic, np.array([5.0, 10.0])) == pytest.approx(logistic.mu / 10, rel=1e-9)


@pytest.mark.parametrize("exponent", [0.0, 1.0])
def test_the_radius_of_the_level_set_is_attained_on_quadratics(exponent: float) -> None:
    """Nesterov's R in the norm with weights L_i^{1-a}, times S_a: one point of the level set is there."""
    p = probabilities(QUADRATIC, exponent)
    weights = np.repeat(QUADRATIC.L_i / p, QUADRATIC.sizes)
    S = (QUADRATIC.L_i**exponent).sum()
    assert weights == pytest.approx(S * np.repeat(QUADRATIC.L_i ** (1 - exponent), QUADRATIC.sizes), rel=1e-12)
    R2, level = level_radius(QUADRATIC, QUADRATIC.L_i / p), float(QUADRATIC.gap(QUADRATIC.start[None])[0])
    directions = np.random.default_rng(0).standard_normal((1000, 4))
    _, axes = np.linalg.eigh(QUADRATIC.matrix / np.sqrt(weights) / np.sqrt(weights)[:, None])
    directions = np.concatenate([directions, axes.T / np.sqrt(weights)])
    heights = np.einsum("ni,ij,nj->n", directions, QUADRATIC.matrix, directions) / 2
    lengths = (directions**2 @ weights) * level / heights
    assert lengths.max() == pytest.approx(R2, rel=1e-9)
    assert lengths.max() <= R2


def test_without_a_bound_of_the_level_set_the_last_part_is_left_out() -> None:
    problem = Logistic([1, 1], samples=10, ridge=0.1, seed=0)
    problem.radius, problem.mu = np.inf, 0.0
    assert level_radius(problem, np.ones(2)) == np.inf
    lines = evaluate(problem, exponent=0.0, epochs=1).ledger.lines
    assert "A4.5" in lines
    assert "A4.N" not in lines


def test_probabilities_by_hand() -> None:
    problem = Quadratic.from_matrix(np.diag([1.0, 4.0]), sizes=[1, 1], start=np.ones(2))
    assert probabilities(problem, 0.0).tolist() == [0.5, 0.5]
    np.testing.assert_allclose(probabilities(problem, 0.5), [1 / 3, 2 / 3], rtol=1e-9)
    np.testing.assert_allclose(probabilities(problem, 1.0), [0.2, 0.8], rtol=1e-9)


@pytest.mark.parametrize("control", list(A4().controls()), ids=lambda control: control.name)
def test_false_statements_are_rejected(control: Any) -> None:
    assert control.rejected
    assert control.ratio > 1.05
    assert control.true_ratio <= 1 + 1e-9


@pytest.mark.parametrize("exponent", [-0.1, 1.1, float("nan"), True, "1"])
def test_exponents_outside_the_hypothesis_are_refused(exponent: Any) -> None:
    with pytest.raises(ValueError, match=r"exponent=.*Theorem A4 needs a number"):
        evaluate(QUADRATIC, exponent=exponent, epochs=1)


def test_problems_outside_the_hypotheses_are_refused() -> None:
    with pytest.raises(ValueError, match="minimiser=None is not possible: Theorem A4"):
        evaluate(Huber([1, 1], samples=10, delta=0.5, seed=0), exponent=0.0, epochs=1)
    problem = PLSin([1, 1], condition=2.0, seed=0)
    problem.pl = 0.0
    with pytest.raises(ValueError, match=r"convex=False, pl=0\.0 is not possible: Theorem A4"):
        evaluate(problem, exponent=0.0, epochs=1)
    with pytest.raises(ValueError, match="step 0 is not a step of SGD"):
        evaluate(QUADRATIC, exponent=0.0, epochs=1, rule=Adam())


def test_outcomes_and_paths_outside_the_certified_set_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Logistic([1, 1], samples=10, ridge=0.1, seed=0)
    # the iterates are a (N, d) array, the outcomes of every step a (N, D, d) array
    monkeypatch.setattr(Logistic, "inside", lambda self, x: np.full(x.shape[:-1], x.ndim < 3))
    with pytest.raises(ValueError, match="a step leaves the set"):
        evaluate(problem, exponent=0.0, epochs=1)
    monkeypatch.setattr(Logistic, "inside", lambda self, x: (x == problem.start).all(axis=-1))
    with pytest.raises(ValueError, match="iterate 1 leaves the set"):
        evaluate(problem, exponent=0.0, epochs=1)
    with pytest.raises(ValueError, match="a path leaves the set of the certified constants at step 1"):
        over_paths(problem, problem.start, problem.start, np.ones(2) / 2, 1 / problem.L_i, steps=2)


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: type(problem).__name__)
def test_sixty_digits_agree_and_have_no_violation(problem: Problem) -> None:
    float64, better = (evaluate(problem, exponent=0.5, epochs=1, arithmetic=a) for a in ("float64", "mp"))
    assert better.ledger.violations == 0
    steps = len(better.series["measured"])
    np.testing.assert_allclose(better.series["measured"], float64.series["measured"][:steps], rtol=1e-9)
    np.testing.assert_allclose(better.series["bound"], float64.series["bound"][:steps], rtol=1e-9)


def test_the_expectation_falls_for_long() -> None:
    """E f never rises (A4.1); an asymmetry of rounding in the second moments once grew until it did."""
    problem = Quadratic([2] * 4, coupling=0.5, condition=20.0, heterogeneity=4.0, seed=0)
    measured = A4().evaluate(problem, exponent=1.0, epochs=20).series["measured"]
    assert len(measured) == 321
    assert (np.diff(measured) < 0).all()
