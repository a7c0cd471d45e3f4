"""The master lemma and Theorems B1, B1+, B2, B3, E, D.4: cases of equality, hypotheses, known numbers."""

from typing import Any

import numpy as np
import pytest

from bcd import SGD, Adam, Momentum
from bcd.rules import State
from theory.bounds.a1 import worst_start
from theory.bounds.b1 import B1
from theory.bounds.b1_corollary import B1Corollary
from theory.bounds.b1_plus import B1Plus
from theory.bounds.b2 import B2, constants_of
from theory.bounds.b3 import B3
from theory.bounds.badam_d4_printed import BadamD4Printed
from theory.bounds.badam_d4_repaired import BadamD4Repaired
from theory.bounds.badam_d5_printed import BadamD5Printed
from theory.bounds.bound import Bound
from theory.bounds.e import E
from theory.bounds.master import best_theta, largest_a, recipe_of
from theory.problems.bilinear import Bilinear
from theory.problems.quadratic import Quadratic

ADAM: dict[str, Any] = {"eps": 1.0, "betas": (0.9, 0.999), "inner_steps": 1, "order": "cyclic"}
B1_SETTING = {**ADAM, "fraction": 0.9}
SETTINGS: list[tuple[Bound, dict[str, Any]]] = [
    (B1(), B1_SETTING),
    (B1Plus(), B1_SETTING),
    (B3(), B1_SETTING),
    (B1Corollary(), ADAM),
    (B2(), {**ADAM, "rate": 1.0}),
    (E(), {"fraction": 0.9, "momentum": 0.9, "inner_steps": 2, "order": "cyclic"}),
    (BadamD4Printed(), {**ADAM, "eps": 0.5}),
    (BadamD4Repaired(), {**ADAM, "eps": 0.5}),
]


def line(M: np.ndarray) -> Quadratic:
    return Quadratic.from_matrix(M, sizes=[1] * len(M), start=np.ones(len(M)))


def test_known_values_of_the_constants() -> None:
    found = [largest_a(recipe_of(Adam(), K)) for K in (1, 2, 5, 10, 100)]
    assert found == pytest.approx([1, 0.841, 0.534, 0.326, 0.1105], abs=5e-4)
    rho = constants_of((0.9, 0.999), 100).rho
    assert [rho[k - 1] for k in (1, 10, 50, 100)] == pytest.approx([1, 1.043, 1.614, 2.243], abs=5e-4)
    heavy = recipe_of(Momentum(0.9), 50)
    assert heavy.total == pytest.approx(50 - 0.9 * (1 - 0.9**50) / 0.1, rel=1e-12)
    plain = recipe_of(SGD(), 4)
    assert (plain.sigma, plain.total, plain.inner) == (0, 4, 6)


def test_the_constants_of_b2_are_their_definitions() -> None:
    K = 4
    known = constants_of((0.5, 0.9), K)
    for k in range(1, K + 1):
        w, u = known.w[k - 1], known.u[k - 1]
        assert known.rho[k - 1] ** 2 == pytest.approx(sum(w[j] ** 2 / u[j] for j in range(k)), rel=1e-12)
        assert known.M[k - 1] == pytest.approx(sum(w[: n + 1].sum() * known.rho[n] for n in range(k - 1)), rel=1e-12)
        far = sum(u[j] * sum(known.rho[j : k - 1]) ** 2 for j in range(k))
        assert known.V[k - 1] ** 2 == pytest.approx(far, rel=1e-12, abs=1e-15)


def test_best_theta_is_a_maximum() -> None:
    p, q, r = np.array([0.3, 2.0, 0.5]), np.array([1.5]), np.array([0.2, 0.9, 0.0])
    part = np.array(0.4)

    def coef(theta: np.ndarray) -> np.ndarray:
        safe = np.minimum(theta, 1 - 1e-12)
        return 1 / (1 / (p * (1 + safe * part)) + r**2 / (q * (1 - safe)))

    best = coef(best_theta(p, q, r, part))
    for theta in np.linspace(0, 1, 201):
        assert (coef(np.full(3, theta)) <= best * (1 + 1e-9)).all()


def test_b1_plus_is_attained_by_one_block() -> None:
    near = Quadratic.from_matrix(np.eye(1), sizes=[1], start=np.array([1e-9]))
    for fraction in (0.05, 0.5, 0.95):
        outcome = B1Plus().evaluate(near, **{**B1_SETTING, "fraction": fraction})
        assert outcome.ledger.lines["B1+"].largest_ratio == pytest.approx(1, abs=1e-8)


@pytest.mark.parametrize("coupling", [0.3, 0.9])
def test_b1_plus_is_nearly_attained_by_two_blocks(coupling: float) -> None:
    """Gradients far below eps make BAdam a gradient method, whose worst start is an eigenvector."""
    matrix = np.array([[1.0, coupling], [coupling, 1.0]])
    ratios = []
    for fraction in (0.01, 0.1, 0.5):
        start = 1e-9 * worst_start(line(matrix), gamma=fraction)
        problem = Quadratic.from_matrix(matrix, sizes=[1, 1], start=start)
        setting = {**B1_SETTING, "fraction": fraction}
        ratios.append(B1Plus().evaluate(problem, **setting).ledger.lines["B1+"].largest_ratio)
    assert 1 + 1e-9 >= ratios[0] > 0.99
    assert ratios[1] > 0.9
    assert ratios[2] > 0.7


def test_b5_is_attained_for_several_steps() -> None:
    """Gradient steps (beta1 = 0) in the direction of the largest curvature, far below eps."""
    near = Quadratic.from_matrix(np.eye(1), sizes=[1], start=np.array([1e-9]))
    setting = {**B1_SETTING, "betas": (0.0, 0.999), "inner_steps": 4}
    assert B1Plus().evaluate(near, **setting).ledger.lines["B.5"].largest_ratio == pytest.approx(1, abs=1e-8)


def test_b2_is_attained_by_one_step_into_the_minimum() -> None:
    one = Quadratic.from_matrix(np.eye(1), sizes=[1], start=np.ones(1))
    outcome = B2().evaluate(one, **{**ADAM, "eps": 1e-10, "rate": 2**0.5})
    assert outcome.measured / outcome.bound == pytest.approx(1, abs=1e-9)


@pytest.mark.integration
def test_b2_says_something_where_b1_does_not() -> None:
    """eps = 1e-8: the bound of B1+ stays above the gradient at the start by orders of magnitude, B2's does not."""
    problem = Quadratic([1, 1], coupling=0.5, seed=3)
    setting = {**ADAM, "eps": 1e-8, "inner_steps": 3}
    weak = B1Plus().evaluate(problem, epochs=20, **{**setting, "fraction": 0.9})
    strong = B2().evaluate(problem, epochs=200, **{**setting, "rate": 0.05})
    first = problem.gradient(problem.start)
    assert weak.bound > 0.9 * first @ first
    assert strong.bound < np.abs(first).sum()


def test_theorem_e_is_attained_and_without_momentum_is_gradient_descent() -> None:
    top = Quadratic.from_matrix(np.eye(1), sizes=[1], start=np.ones(1))
    setting = {"fraction": 0.95, "momentum": 0.5, "inner_steps": 1, "order": "cyclic"}
    for momentum in (0.0, 0.5, 0.9):
        lines = E().evaluate(top, **{**setting, "momentum": momentum}).ledger.lines
        assert lines["B1+"].largest_ratio == pytest.approx(1, abs=1e-9)
    problem = Quadratic([1, 2], seed=1)
    plain = {**setting, "momentum": 0.0, "inner_steps": 3}
    heavy, gradient = (E().evaluate(problem, rule=rule, **plain) for rule in (None, SGD()))
    assert heavy.measured == gradient.measured


@pytest.mark.parametrize(
    ("inner_steps", "rate", "ratio", "claim"),
    [
        (200, 1.125e-5, 1.43, "D.4"),
        pytest.param(500, 1.8e-6, 3.54, "D.4", marks=pytest.mark.slow),
        pytest.param(1000, 4.5e-7, 7.05, "D.4", marks=pytest.mark.slow),
        (1, 0.028377295, 11.3, "D.5"),
    ],
)
def test_the_printed_statements_fail_on_the_counter_example(
    inner_steps: int, rate: float, ratio: float, claim: str
) -> None:
    slopes = 20.0 if claim == "D.5" else inner_steps**0.5 / 2
    problem = Bilinear(slope=0.005, ratio=slopes, inner_steps=inner_steps, rate=rate, eps=0.9)
    setting = {**ADAM, "eps": 0.9, "inner_steps": inner_steps}
    printed = BadamD4Printed() if claim == "D.4" else BadamD5Printed()
    outcome = printed.evaluate(problem, **setting)
    assert outcome.ledger.lines[claim].violations == 1
    assert outcome.measured / outcome.bound == pytest.approx(ratio, rel=5e-3)
    if claim == "D.4":
        repaired = BadamD4Repaired().evaluate(problem, **setting)
        assert repaired.ledger.violations == 0
        assert repaired.measured / repaired.bound < 0.02


def test_the_counter_example_does_what_its_docstring_says() -> None:
    problem = Bilinear(slope=0.005, ratio=5.0, inner_steps=100, rate=4.5e-5, eps=0.9)
    after = np.array([-4.5e-5 * 100 * 0.005 / 0.905, 0.0])
    assert problem.gradient(after) == pytest.approx(np.array([0.005, 0.0]), abs=1e-15)
    assert problem.decrease(problem.start, after) == pytest.approx(problem.value(problem.start) - problem.value(after))
    with pytest.raises(ValueError, match="rate=100"):
        Bilinear(slope=0.005, ratio=5.0, inner_steps=100, rate=100.0, eps=0.9)


@pytest.mark.parametrize(("bound", "setting"), SETTINGS, ids=lambda value: type(value).__name__)
def test_hypotheses_on_the_setting_are_checked(bound: Bound, setting: dict[str, Any]) -> None:
    problem = Quadratic([1, 2], seed=0)
    assert bound.evaluate(problem, **setting).ledger.violations == 0
    bad: dict[str, list[Any]] = {
        "fraction": [0.0, 1.0, 1.5, float("nan")],
        "eps": [0.0, -1.0],
        "betas": [(1.0, 0.9), (0.9, 1.0), (-0.1, 0.9), (0.9,)],
        "momentum": [1.0, -0.1],
        "rate": [0.0, float("inf")],
        "inner_steps": [0, 1.5],
        "order": ["spiral"],
    }
    for name, values in bad.items():
        for value in values if name in setting else ():
            with pytest.raises(ValueError, match="is not"):
                bound.evaluate(problem, **{**setting, name: value})


def test_hypotheses_of_single_theorems_are_checked() -> None:
    problem = Quadratic([1, 2], seed=0)
    with pytest.raises(ValueError, match="beta2=0"):
        B2().evaluate(problem, **{**ADAM, "rate": 1.0, "betas": (0.9, 0.0)})
    for value in (1.0, 1.5):
        with pytest.raises(ValueError, match=f"eps={value}"):
            BadamD4Printed().evaluate(problem, **{**ADAM, "eps": value})
    nowhere = Quadratic([1, 2], seed=0)
    nowhere.pl = 0.0
    with pytest.raises(ValueError, match="pl=0"):
        B3().evaluate(nowhere, **B1_SETTING)
    steep = Bilinear(slope=2.0, ratio=1.0, inner_steps=1, rate=1e-3, eps=0.9)
    with pytest.raises(ValueError, match=r"a gradient of norm .* is not possible: Theorem D\.4 has G=1\.0001"):
        BadamD4Printed().evaluate(steep, **{**ADAM, "eps": 0.9})


class StaleAdam(Adam):
    """Keeps its state from visit to visit: no reset."""

    kept: dict[int, State] = {}  # noqa: RUF012 - shared on purpose

    def init(self, parameters: Any) -> list[State]:
        fresh = super().init(parameters)
        return [self.kept.setdefault(p.data_ptr(), state) for p, state in zip(parameters, fresh, strict=True)]


def test_adam_without_reset_is_refused() -> None:
    setting = {**B1_SETTING, "inner_steps": 3}
    problem = Quadratic([1, 2], seed=0)
    rule = StaleAdam(betas=(0.9, 0.999), eps=1.0)
    with pytest.raises(ValueError, match="is not a step of Adam"):
        B1Plus().evaluate(problem, rule=rule, epochs=3, **setting)


@pytest.mark.parametrize("bound", [B1Plus(), B2(), E()], ids=lambda bound: type(bound).__name__)
def test_other_rules_are_refused(bound: Bound) -> None:
    setting = next(setting for known, setting in SETTINGS if type(known) is type(bound))
    with pytest.raises(ValueError, match="step 0 is not a step of"):
        bound.evaluate(Quadratic([1, 2], seed=0), rule=SGD(weight_decay=0.5), **setting)
