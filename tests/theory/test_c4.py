"""Theorem C4: samples in step with the blocks leave a bias, independent ones none; hypotheses, false versions."""

from typing import Any

import numpy as np
import pytest

from theory.bounds.c4 import C4, two_samples
from theory.bounds.samples import fixed_point, in_step, mixed, solve, squares, stepped, sweep, trained
from theory.problems.finite_sum import FiniteSum
from theory.problems.quadratic import Quadratic

evaluate = C4().evaluate
EXAMPLE = {"gamma": 0.5, "inner_steps": 1, "order": "cyclic", "epochs": 12}
ALIASED = {"inner", "visit", "cycle", "fixed", "limit", "bias", "floor"}
INDEPENDENT = {"mean", "centred", "square", "spread"}


@pytest.mark.parametrize("gamma", [0.05, 1.0])
@pytest.mark.parametrize(
    ("sizes", "samples", "inner_steps", "order"),
    [([1, 1], 2, 1, "cyclic"), ([1, 2, 1, 2], 4, 3, "descending"), ([3, 1], 4, 2, "cyclic")],
)
def test_every_line_holds_and_is_far_from_trivial(
    sizes: list[int], samples: int, inner_steps: int, order: str, gamma: float
) -> None:
    problem = FiniteSum(sizes, samples=samples, dominance=0.6, seed=2)
    outcome = evaluate(problem, **{**EXAMPLE, "gamma": gamma, "inner_steps": inner_steps, "order": order})
    assert set(outcome.ledger.lines) == ALIASED | INDEPENDENT
    for name, line in outcome.ledger.lines.items():
        assert line.violations == 0, line.first_violation
        if line.kind == "inequality" and not (name == "limit" and inner_steps == 1):
            assert line.largest_ratio > 1e-3 or name == "floor", (name, line.largest_ratio)


@pytest.mark.integration
def test_the_gradient_that_no_step_size_removes() -> None:
    problem = two_samples()
    B, r = mixed(problem, in_step(problem, "cyclic", 1))
    wanted = float(np.linalg.norm(problem.gradient(solve(B, r))))
    assert wanted == pytest.approx(0.5667279378639767, rel=1e-12)
    for gamma in (1.0, 0.1):
        outcome = evaluate(problem, **{**EXAMPLE, "gamma": gamma, "epochs": int(40 / gamma)})
        assert outcome.measured == pytest.approx(wanted, rel=1e-9)
        assert outcome.bound == pytest.approx(wanted, rel=1e-6)
    spread = [evaluate(problem, **{**EXAMPLE, "gamma": g, "epochs": int(20 / g)}) for g in (0.1, 0.02)]
    values = [outcome.series["independent"][-1] for outcome in spread]
    assert values[0] / values[1] > 5**0.5  # O(sqrt(alpha))
    assert values[1] < wanted / 2


def test_visits_that_meet_all_samples_have_no_bias_but_of_the_order_of_the_step_size() -> None:
    problem = two_samples()
    visits = in_step(problem, "cyclic", 2)
    assert [samples for _, samples in visits] == [[0, 1], [0, 1]]
    slopes = [np.linalg.norm(problem.gradient(fixed_point(problem, visits, alpha))) for alpha in (0.1, 0.01)]
    assert slopes[0] / slopes[1] == pytest.approx(10, rel=0.1)


def test_bcd_runs_what_the_recursion_says() -> None:
    problem = FiniteSum([1, 2, 1], samples=2, dominance=0.6, seed=5)
    visits = in_step(problem, "descending", 2)
    points = trained(problem, visits, 0.3, 2, "descending")
    first = sweep(problem, problem.start, visits, 0.3)
    both = np.concatenate([first, sweep(problem, first[-1], visits, 0.3)[1:]])
    assert points == pytest.approx(both, rel=1e-12)
    assert [i for i, _ in visits] == [2, 1, 0]
    assert [samples for _, samples in visits] == [[0, 1], [0, 1], [0, 1]]


def test_the_second_moment_of_independent_samples_is_that_of_all_outcomes() -> None:
    problem = FiniteSum([1, 2], samples=2, dominance=0.6, seed=1)
    x_star = solve(problem.matrix, problem.linear)
    rows = np.concatenate([problem.matrices, (problem.matrices @ x_star - problem.linears)[:, :, None]], axis=2)
    e = np.append(problem.start - x_star, 1.0)
    M, points = np.outer(e, e), problem.start[None]
    for i in (0, 1, 1):
        M = stepped(M, rows, problem.slices[i], 0.4)
        points = np.concatenate([sweep(problem, points, [(i, [s])], 0.4)[-1] for s in range(2)])
    offset = points - x_star
    assert M[:3, :3] == pytest.approx(offset.T @ offset / 8, rel=1e-12)
    assert M[:3, 3] == pytest.approx(offset.mean(axis=0), rel=1e-12)
    assert squares(problem, M) == pytest.approx([M[0, 0], M[1, 1] + M[2, 2]])


@pytest.mark.parametrize("control", list(C4().controls()), ids=lambda control: f"{control.name}-{control.line}")
def test_false_statements_are_rejected(control: Any) -> None:
    assert control.rejected
    assert control.ratio > 1.1
    assert control.true_ratio <= 1 + 1e-9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gamma": 1.01}, r"gamma=1\.01 .*alpha <= 1/Lh"),
        ({"gamma": 0.0}, r"gamma=0\.0"),
        ({"inner_steps": 0}, "inner_steps=0"),
        ({"order": "random_reshuffle"}, "order='random_reshuffle' .* cyclic and descending"),
        ({"arithmetic": "exact"}, "arithmetic='exact'"),
    ],
)
def test_hypotheses_are_checked(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(two_samples(), **{**EXAMPLE, **change})


def test_other_problems_are_refused() -> None:
    with pytest.raises(ValueError, match="problem=Quadratic is not possible: Theorem C4"):
        evaluate(Quadratic([1, 1]), **EXAMPLE)
    with pytest.raises(ValueError, match=r"samples=4 is not possible: it must divide D K = 2"):
        evaluate(FiniteSum([1, 1], samples=4, dominance=0.5), **EXAMPLE)
    wild = FiniteSum.from_parts(
        [[[1.0, 2.0], [2.0, 1.0]], [[1.0, -2.0], [-2.0, 1.0]]], np.zeros((2, 2)), sizes=[1, 1], start=np.ones(2)
    )
    with pytest.raises(ValueError, match=r"dominance=2 is not possible: Theorem C4 needs q < 1"):
        evaluate(wild, **EXAMPLE)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"samples": 3}, "samples=3"), ({"dominance": 1.0}, r"dominance=1\.0"), ({"condition": 0.5}, r"condition=0\.5")],
)
def test_finite_sums_with_values_outside_their_range_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FiniteSum([1, 1], **{"samples": 2, "dominance": 0.5, **change})


def test_the_constants_of_a_finite_sum() -> None:
    problem = FiniteSum([1, 2], samples=4, dominance=0.6, condition=3.0, seed=1)
    diagonal = [np.linalg.eigvalsh(A[rows, rows]) for A in problem.matrices for rows in problem.slices]
    assert problem.least <= min(values.min() for values in diagonal) <= problem.least * (1 + 1e-9)
    assert problem.most >= max(values.max() for values in diagonal) >= problem.most * (1 - 1e-9)
    worst = max(np.linalg.norm(A[:1, 1:], 2) for A in problem.matrices)
    assert problem.dominance == pytest.approx(worst / problem.least, rel=1e-9)
    assert np.array_equal(problem.matrix * 4, problem.matrices.sum(axis=0))  # without rounding


def test_sixty_digits_agree() -> None:
    problem = FiniteSum([1, 2], samples=2, dominance=0.6, seed=1)
    setting = {**EXAMPLE, "inner_steps": 2, "epochs": 2}
    float64, better = evaluate(problem, **setting), evaluate(problem, arithmetic="mp", **setting)
    assert better.ledger.violations == 0
    assert better.measured == pytest.approx(float64.measured, rel=1e-12)
    for name in (ALIASED | INDEPENDENT) - {"limit"}:  # in 60 digits for one step size
        ratios = [outcome.ledger.lines[name].largest_ratio for outcome in (float64, better)]
        if float64.ledger.lines[name].kind == "inequality":
            assert ratios[0] == pytest.approx(ratios[1], rel=1e-3), name
