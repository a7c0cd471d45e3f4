"""Theorem F1: exact expectations against bcd, cases of equality, chi, hypotheses, false versions."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from bcd import Adam, Fixed, minimise
from theory.bounds import b2
from theory.bounds.f1 import F1, F1Statement, constants_of, visit, visits_that_fit
from theory.bounds.f1_order import F1Order
from theory.problems.logistic import Logistic
from theory.problems.plsin import PLSin
from theory.problems.quadcos import QuadCos
from theory.problems.quadratic import Quadratic
from theory.problems.rosenbrock import Rosenbrock

evaluate, ordered = F1().evaluate, F1Order().evaluate
EXAMPLE: dict[str, Any] = {"rate": 0.3, "eps": 1e-3, "betas": (0.9, 0.999), "inner_steps": 3, "epochs": 3}
QUADRATIC = Quadratic([1, 2], coupling=0.9, condition=20, heterogeneity=4, seed=3)
PROBLEMS = [
    QUADRATIC,
    Logistic([2, 1], samples=24, ridge=0.1, seed=1),
    QuadCos([2, 1], amplitude=0.5, terms=6, seed=1),
    PLSin([1, 1, 1], condition=2.0, seed=2),
]
VISIT = {"B.1", "B.7", "B2.1", "F1.1", "F1.2", "F1.3", "F1.4"}
APART = Quadratic.from_matrix(np.eye(2), sizes=[1, 1], start=np.ones(2))


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: type(problem).__name__)
@pytest.mark.parametrize("change", [{}, {"eps": 1e-8, "rate": 3.0}, {"betas": (0.0, 0.5)}], ids=str)
def test_every_line_holds_and_is_far_from_trivial(problem: Any, change: dict[str, Any]) -> None:
    setting = {**EXAMPLE, **change}
    for outcome, lines in (
        (evaluate(problem, **setting), {"F1.5", "bound", "adam", "chi"}),
        (ordered(problem, order="random_reshuffle", **setting), {"F1.6", "F1.7", "bound"}),
    ):
        assert set(outcome.ledger.lines) == VISIT | (lines if problem.convex else lines - {"chi"})
        for name, line in outcome.ledger.lines.items():
            assert line.violations == 0, line.first_violation
            if name != "F1.1" or setting["betas"][0] > 0:  # beta1 = 0 has no error of m_hat
                assert line.largest_ratio > 0.01, (name, line.largest_ratio)
        assert outcome.measured <= outcome.bound


def test_visits_are_those_of_bcd() -> None:
    """A path of three visits, whose blocks are drawn, against the optimizer that trains."""
    rule, alpha, K, blocks = Adam(betas=(0.7, 0.99), eps=1e-3), 0.2, 4, [1, 1, 0]
    start = [torch.from_numpy(QUADRATIC.start[rows].copy()) for rows in QUADRATIC.slices]
    order = Fixed(blocks)
    steps = minimise(QUADRATIC.objective, start, rule=rule, order=order, inner_steps=K, lr=alpha, visits=3)
    wanted = torch.stack([torch.cat(step.after) for step in steps]).numpy()
    points, found = QUADRATIC.start[None], []
    for block in blocks:
        run = visit(QUADRATIC, QUADRATIC, points, QUADRATIC.slices[block], 1.0, rule, alpha, K)
        points = run.z[:, -1]
        found.append(run.z[0, 1:])
    assert np.concatenate(found) == pytest.approx(wanted, rel=1e-12)


def test_the_expectation_is_the_mean_over_all_sequences_of_blocks() -> None:
    T, K = 3, 2
    setting = {**EXAMPLE, "inner_steps": K, "epochs": T}
    outcome = evaluate(QUADRATIC, **setting)
    rule, lr = F1().method(QUADRATIC, **{name: setting[name] for name in ("rate", "eps", "betas")})
    assert isinstance(rule, Adam)
    sums = np.zeros(T)
    for blocks in itertools.product(range(2), repeat=T):
        x = QUADRATIC.start[None]
        for t, block in enumerate(blocks):
            sums[t:] += abs(QUADRATIC.gradient(x[0])).sum() / 2**T
            x = visit(QUADRATIC, QUADRATIC, x, QUADRATIC.slices[block], 1.0, rule, lr[0], K).z[:, -1]
    assert outcome.series["measured"] == pytest.approx(sums / np.arange(1, T + 1), rel=1e-12)


def test_the_theorem_is_checked_from_every_outcome_of_every_start() -> None:
    """1, 2 and 4 starts with 3, 2 and 1 visits; from one of them it is the theorem of a problem that starts there."""
    line = evaluate(QUADRATIC, **EXAMPLE).ledger.lines["bound"]
    assert line.checks == 3 + 2 * 2 + 4
    rule, lr = F1().method(QUADRATIC, **{name: EXAMPLE[name] for name in ("rate", "eps", "betas")})
    assert isinstance(rule, Adam)
    seen = []
    for rows in (None, *QUADRATIC.slices):
        start = QUADRATIC.start
        if rows is not None:
            start = visit(QUADRATIC, QUADRATIC, start[None], rows, 1.0, rule, lr[0], 3).z[0, -1]
        from_there = Quadratic.from_matrix(QUADRATIC.matrix, sizes=[1, 2], start=start, linear=QUADRATIC.linear)
        unit = float(np.sqrt(from_there.gap(start[None])[0] / from_there.sup.blocks.sum()))
        setting = {**EXAMPLE, "rate": lr[0] / unit, "epochs": 3 if rows is None else 2}
        outcome = evaluate(from_there, **setting)
        ratios = np.array(outcome.series["measured"]) / np.array(outcome.series["bound"])
        seen.append(ratios.max())
    assert line.largest_ratio >= max(seen) * (1 - 1e-9)
    assert line.smallest_ratio <= min(seen) * (1 + 1e-9)


def test_the_right_sides_are_those_of_the_theorem() -> None:
    T, K, eps, rate = 3, 2, 0.1, 0.3
    betas, gap = (0.5, 0.9), float(QUADRATIC.gap(QUADRATIC.start[None])[0])
    setting = {"rate": rate, "eps": eps, "betas": betas, "inner_steps": K, "epochs": T}
    sup, known = QUADRATIC.sup, b2.constants_of(betas, K)
    alpha = rate * (gap / sup.blocks.sum()) ** 0.5
    V = float(known.u[1, 0] ** 0.5 * known.rho[0])
    c = float((known.tau * known.M + known.rho**2 / 2).sum() + V) / K
    n = float(known.rho[0]) / K
    random = 2 * gap / (alpha * K * T) + alpha * (c + n) * sup.blocks.sum() + 3 * eps
    assert evaluate(QUADRATIC, **setting).bound == pytest.approx(random, rel=1e-9)
    coupling = float(known.rho.sum()) * sup.pairs[1, 0]
    fixed = gap / (alpha * K * T) + alpha * ((c + n) * sup.blocks.sum() + coupling) + 3 * eps
    assert ordered(QUADRATIC, order="cyclic", **setting).bound == pytest.approx(fixed, rel=1e-9)


def test_known_constants() -> None:
    once, ten = constants_of((0.9, 0.999), 1), constants_of((0.9, 0.999), 10)
    assert (float(once.c), float(once.n)) == (0.5, 0.0)
    assert float(ten.n) == pytest.approx(np.arange(10).mean(), rel=0.05), "rho_k is nearly 1"
    known = b2.constants_of((0.9, 0.999), 10)
    assert (ten.V >= known.V - 1e-12).all(), "Minkowski over l is the larger of the two"


@pytest.mark.parametrize("L", [0.3, 5.0])
def test_one_step_that_reaches_the_minimum_is_tight(L: float) -> None:
    one = Quadratic.from_matrix(np.eye(1) * L, sizes=[1], start=np.array([2.0]))
    setting = {**EXAMPLE, "rate": 2**0.5, "eps": 1e-9, "inner_steps": 1, "epochs": 1}
    lines = evaluate(one, **setting).ledger.lines
    for name in ("bound", "adam", "F1.5"):
        assert lines[name].largest_ratio == pytest.approx(1, abs=1e-8), name
    lines = ordered(APART, order="cyclic", **setting).ledger.lines
    assert lines["bound"].largest_ratio == pytest.approx(1, abs=1e-8)


def test_chi_is_checked_and_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    line = evaluate(APART, **EXAMPLE).ledger.lines["chi"]
    assert line.largest_ratio == pytest.approx(1), "separate blocks: sum_i l_i = l"
    assert line.violations == 0
    monkeypatch.setattr(APART, "_sup", type(APART.sup)(1.9, APART.sup.blocks, APART.sup.pairs))
    assert evaluate(APART, **EXAMPLE).ledger.lines["chi"].violations == 1
    monkeypatch.setattr(APART, "_sup", type(APART.sup)(4.1, APART.sup.blocks, APART.sup.pairs))
    assert evaluate(APART, **EXAMPLE).ledger.lines["chi"].violations == 1


@pytest.mark.parametrize("control", [*F1().controls(), *F1Order().controls()], ids=lambda control: control.name)
def test_false_statements_are_rejected(control: Any) -> None:
    assert control.rejected
    assert control.ratio > 1.3
    assert control.true_ratio <= 1 + 1e-9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate": 0.0}, r"rate=0\.0 .*Theorem F1"),
        ({"eps": 0.0}, r"eps=0\.0 .*Theorem F1"),
        ({"betas": (1.0, 0.9)}, r"beta1=1\.0"),
        ({"betas": (0.5, 0.0)}, r"beta2=0\.0"),
        ({"inner_steps": 0}, "inner_steps=0"),
        ({"arithmetic": "exact"}, "arithmetic='exact'"),
        ({"order": "cyclic"}, "unexpected keyword argument 'order'"),
    ],
)
def test_hypotheses_are_checked(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(QUADRATIC, **{**EXAMPLE, **change})


def test_problems_without_the_constants_are_refused() -> None:
    other = Rosenbrock(num_blocks=2, steepness=10.0, seed=0)
    for run, setting in ((evaluate, EXAMPLE), (ordered, {**EXAMPLE, "order": "cyclic"})):
        with pytest.raises(ValueError, match="problem=Rosenbrock is not possible"):
            run(other, **setting)
    with pytest.raises(ValueError, match="order='spiral' is not one of"):
        ordered(QUADRATIC, **EXAMPLE, order="spiral")


def test_a_visit_that_leaves_the_certified_set_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Quadratic, "inside", lambda self, x: x[..., 0] >= QUADRATIC.start[0])
    with pytest.raises(ValueError, match="iterate 1 of a visit leaves the set"):
        evaluate(QUADRATIC, **EXAMPLE)


def test_as_many_visits_as_their_paths_are_few() -> None:
    assert [visits_that_fit(D, 20, False) for D in (1, 2, 4, 8, 1000)] == [20, 9, 4, 3, 1]
    assert [visits_that_fit(D, 20, True) for D in (2, 4, 8)] == [4, 2, 1]
    assert visits_that_fit(2, 3, False) == 3


def test_sixty_digits_agree() -> None:
    setting: dict[str, Any] = {**EXAMPLE, "epochs": 2}
    cases: list[tuple[Any, dict[str, Any]]] = [(evaluate, setting), (ordered, setting | {"order": "cyclic"})]
    for run, more in cases:
        float64, better = (run(QUADRATIC, arithmetic=name, **more) for name in ("float64", "mp"))
        assert better.ledger.violations == 0
        assert better.measured == pytest.approx(float64.measured, rel=1e-12)
        assert better.bound == pytest.approx(float64.bound, rel=1e-10)
        for name, line in better.ledger.lines.items():
            assert line.largest_ratio == pytest.approx(float64.ledger.lines[name].largest_ratio, rel=1e-6), name


def test_a_smaller_constant_makes_the_right_side_smaller() -> None:
    true = constants_of((0.9, 0.999), 4)
    for false in (F1Statement(error=0.5), F1Statement(change=0.5), F1Statement(inside=0.5)):
        less = constants_of((0.9, 0.999), 4, statement=false)
        assert float(less.c + less.n) < float(true.c + true.n), false
