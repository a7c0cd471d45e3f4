"""Theorem F2: holds along all outcomes of blocks and noise, its best s and its floor, hypotheses, false versions."""

import itertools
from typing import Any

import numpy as np
import pytest

from theory.bounds.f1 import F1
from theory.bounds.f2 import F2, LEAVES, best_s, floor, gathered, visits_that_fit
from theory.noise import VectorNoise, grow
from theory.problems.logistic import Logistic
from theory.problems.plsin import PLSin
from theory.problems.quadcos import QuadCos
from theory.problems.quadratic import Quadratic
from theory.problems.rosenbrock import Rosenbrock

evaluate = F2().evaluate
EXAMPLE: dict[str, Any] = {
    "rate": 0.3,
    "eps": 1e-3,
    "betas": (0.9, 0.999),
    "inner_steps": 2,
    "s": 0.6,
    "sigma": 0.5,
    "p": 0.2,
    "outcomes": 3,
    "epochs": 2,
}
QUADRATIC = Quadratic([1, 2], coupling=0.9, condition=20, heterogeneity=4, seed=3)
PROBLEMS = [
    QUADRATIC,
    Logistic([2, 1], samples=24, ridge=0.1, seed=1),
    QuadCos([2, 1], amplitude=0.5, terms=6, seed=1),
    PLSin([1, 1], condition=2.0, seed=2),
]
LINES = {"m_hat", "rho", "e", "split", "size", "descent", "inside", "n", "xi", "step", "visit", "bound"}
ADAM = (0.9, 0.999)


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: type(problem).__name__)
@pytest.mark.parametrize(
    "change", [{}, {"eps": 1e-8, "rate": 3.0, "s": 1.0}, {"betas": (0.0, 0.5), "s": 0.05}, {"sigma": 0.0}], ids=str
)
def test_every_line_holds_and_is_far_from_trivial(problem: Any, change: dict[str, Any]) -> None:
    setting = {**EXAMPLE, **change}
    outcome = evaluate(problem, **setting)
    assert set(outcome.ledger.lines) == LINES
    quiet = {"n", "xi"} if setting["sigma"] == 0 else set()
    for name, line in outcome.ledger.lines.items():
        assert line.violations == 0, line.first_violation
        if name not in quiet and (name != "e" or setting["betas"][0] > 0):
            assert line.largest_ratio > 0.01, (name, line.largest_ratio)
    assert outcome.measured <= outcome.bound


def test_the_expectation_is_the_mean_over_all_outcomes() -> None:
    """Two visits, every block and every outcome by itself."""
    setting = {**EXAMPLE, "inner_steps": 1}
    outcome = evaluate(QUADRATIC, **setting)
    noise = VectorNoise.drawn(3, 3, p=0.2, sigma=0.5, seed=3)
    _, chances = noise.outcomes(np.ones(1))
    rule, lr = F1().method(QUADRATIC, **{name: setting[name] for name in ("rate", "eps", "betas")})
    first, second = abs(QUADRATIC.gradient(QUADRATIC.start)).sum(), 0.0
    for block, drawn in itertools.product(range(2), range(3)):
        tree = grow(
            QUADRATIC, QUADRATIC.start[None], np.ones(1), block=block, inner_steps=1, rule=rule, lr=lr[0], noise=noise
        )
        second += chances[drawn] / 2 * abs(QUADRATIC.gradient(tree.points[1][drawn])).sum()
    assert outcome.series["measured"] == pytest.approx([first, (first + second) / 2], rel=1e-12)


def test_outcomes_are_gathered_at_where_they_come_from() -> None:
    """Two blocks and three outcomes of a step, weights that tell where each outcome comes from."""
    levels = [(np.ones(1), np.array([5.0]), np.zeros(1))]
    for _ in range(2):
        count = len(levels[-1][0])
        from_root = [np.repeat(np.arange(count), 3) for _ in range(2)]  # block by block, root by root
        levels.append((np.ones(6 * count), 10.0 ** np.concatenate(from_root), np.zeros(6 * count)))
    assert gathered(levels, 2, 2, 2).tolist() == levels[2][1].tolist()
    assert gathered(levels, 1, 2, 2).tolist() == [6.0 * 10.0**root for root in range(6)]
    assert gathered(levels, 0, 2, 2).tolist() == [666666.0]
    assert evaluate(QUADRATIC, **{**EXAMPLE, "inner_steps": 1}).ledger.lines["bound"].checks == 2 + 6


@pytest.mark.parametrize(("P", "Q", "R"), [(1.0, 0.0, 0.0), (1e-3, 2.0, 5.0), (3.0, 1.0, 0.1), (1e-12, 1e-6, 1.0)])
def test_the_best_s_is_the_least_of_a_grid(P: float, Q: float, R: float) -> None:
    s = float(best_s(np.array([P]), Q, R)[0])
    assert 0 < s <= 1

    def side(t: Any) -> Any:
        return (P + Q * t + R * t**2) / (2 * t - t**2)

    assert side(s) <= side(np.geomspace(1e-8, 1, 20001)).min() * (1 + 1e-12)
    nearby = np.array([max(s - 1e-4 * s, 1e-12), min(s + 1e-4 * s, 1.0)])
    assert (side(nearby) >= side(s)).all()


def test_the_floor_has_a_best_number_of_steps() -> None:
    """K = 1 by hand: rho = omega = 1. A best K for fixed betas, and none for beta1 = 1 - 1/K up to 200."""
    s = np.linspace(1e-3, 1, 100001)
    assert floor(ADAM, 1) == pytest.approx(((2 * s + 1 + s**2) / (2 * s - s**2)).min(), rel=1e-8)
    steps = [1, 5, 20, 50, 100, 200]
    fixed = [floor(ADAM, K) for K in steps]
    assert min(range(len(steps)), key=fixed.__getitem__) == steps.index(50)
    longer = [floor((1 - 1 / K, 0.999), K) for K in steps[1:]]
    assert all(later < before for before, later in itertools.pairwise(longer))


def test_the_bound_tends_to_the_floor() -> None:
    still = Quadratic.from_matrix(np.eye(1), sizes=[1], start=np.array([1e-6]))
    noise = VectorNoise((0.5,), ((1.0,),))
    setting = {**EXAMPLE, "eps": 1e-12, "outcomes": 2, "inner_steps": 3, "rate": 1.0, "epochs": 1}
    outcome = evaluate(still, noise=noise, **setting)
    assert floor(ADAM, 3) < outcome.bound < floor(ADAM, 3) * (1 + 1e-4)


def test_without_noise_it_is_theorem_f1_at_one_step() -> None:
    """K = 1, sigma = 0, eps -> 0: s = 1 is best, and both right sides are the same."""
    setting = {**EXAMPLE, "sigma": 0.0, "inner_steps": 1, "eps": 1e-12, "epochs": 1}
    plain = {name: setting[name] for name in ("rate", "eps", "betas", "inner_steps", "epochs")}
    assert evaluate(QUADRATIC, **setting).bound == pytest.approx(F1().evaluate(QUADRATIC, **plain).bound, rel=1e-9)


@pytest.mark.parametrize("control", list(F2().controls()), ids=lambda control: control.name)
def test_false_statements_are_rejected(control: Any) -> None:
    assert control.rejected
    assert control.ratio > 1.3
    assert control.true_ratio <= 1 + 1e-9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate": 0.0}, r"rate=0\.0 .*Theorem F2"),
        ({"s": 0.0}, r"s=0\.0 .*Theorem F2"),
        ({"s": 1.1}, r"s=1\.1 .*Theorem F2"),
        ({"betas": (1.0, 0.9)}, r"beta1=1\.0"),
        ({"inner_steps": 0}, "inner_steps=0"),
        ({"outcomes": 1}, "outcomes=1"),
        ({"sigma": -1.0}, r"sigma=-1\.0"),
        ({"p": 1.0}, r"p=1\.0"),
        ({"arithmetic": "exact"}, "arithmetic='exact'"),
    ],
)
def test_hypotheses_are_checked(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(QUADRATIC, **{**EXAMPLE, **change})


def test_what_is_not_covered_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="problem=Rosenbrock is not possible"):
        evaluate(Rosenbrock(num_blocks=2, steepness=10.0, seed=0), **EXAMPLE)
    monkeypatch.setattr(Quadratic, "inside", lambda self, x: x[..., 0] >= QUADRATIC.start[0])
    with pytest.raises(ValueError, match=r"outcome \d of a visit of block 0 leaves the set"):
        evaluate(QUADRATIC, **EXAMPLE)


def test_settings_whose_outcomes_are_too_many_are_left_out() -> None:
    grid = {name: [value] for name, value in EXAMPLE.items() if name != "epochs"} | {"inner_steps": [1, 5, 6]}
    bound = F2(problems=["quadratic"], grid=grid)
    assert 2 * 3**5 <= LEAVES < 2 * 3**6
    assert [setting["inner_steps"] for setting in bound.settings(QUADRATIC)] == [1, 5]
    assert [visits_that_fit(n, 9, False) for n in (1, 2, 6, 600)] == [9, 9, 3, 1]
    assert visits_that_fit(6, 9, True) == 2


def test_sixty_digits_agree() -> None:
    setting = {**EXAMPLE, "epochs": 1}
    float64, better = evaluate(QUADRATIC, **setting), evaluate(QUADRATIC, arithmetic="mp", **setting)
    assert better.ledger.violations == 0
    assert better.measured == pytest.approx(float64.measured, rel=1e-12)
    assert better.bound == pytest.approx(float64.bound, rel=1e-10)
    for name, line in better.ledger.lines.items():
        assert line.largest_ratio == pytest.approx(float64.ledger.lines[name].largest_ratio, rel=1e-6), name
