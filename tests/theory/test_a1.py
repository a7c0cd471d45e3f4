"""Theorem A1: holds, is attained where it claims to be, refuses what it does not cover, rejects false versions."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from bcd import SGD, Adam
from theory.bounds.a1 import A1, A1Statement, epoch_constants, kappa, worst_start
from theory.problems.quadratic import Quadratic
from theory.trajectory import ORDERS

evaluate = A1().evaluate
LINES = {"A0", "A0*", "A0'", "A0''", "A6", "A1a", "T", "A1b", "epoch", "S", "bound"}
EXAMPLE = {"gamma": 1.0, "inner_steps": 1, "order": "cyclic", "epochs": 2}


@pytest.mark.parametrize("order", sorted(ORDERS))
@pytest.mark.parametrize(("gamma", "inner_steps"), [(0.3, 3), (1.0, 1), (1.0, 4), (1.7, 2), (1.95, 3)])
def test_every_line_holds_and_is_far_from_trivial(order: str, gamma: float, inner_steps: int) -> None:
    problem = Quadratic([1, 2, 1, 3], coupling=0.9, condition=50, heterogeneity=4, seed=3)
    outcome = evaluate(problem, gamma=gamma, inner_steps=inner_steps, order=order, epochs=6)
    assert set(outcome.ledger.lines) == (LINES if gamma <= 1 else LINES - {"A0'", "A0''"})
    assert outcome.kind == "upper"
    assert outcome.measured <= outcome.bound
    for name, line in outcome.ledger.lines.items():
        assert line.violations == 0, line.first_violation
        assert line.resolved > 0, name
        assert (gamma == 1 and name == "A0'") or line.largest_ratio > 0.005, (name, line.largest_ratio)


def test_equality_on_the_top_eigenvector() -> None:
    problem = Quadratic.from_matrix(np.diag([3.0, 1.0]), sizes=[2], start=np.array([1.0, 0.0]))
    for gamma, inner_steps in ((1.0, 1), (0.5, 1), (0.5, 4)):
        setting = {"gamma": gamma, "inner_steps": inner_steps, "order": "cyclic", "epochs": 1}
        lines = evaluate(problem, **setting).ledger.lines
        for name in ("A0", "A0*", "A0''", "A6", "epoch", "S"):
            assert lines[name].largest_ratio == pytest.approx(1, abs=1e-9), name


@pytest.mark.parametrize("coupling", [0.1, 0.5, 0.9, 0.99])
def test_c_matrix_is_attained_by_two_scalar_blocks(coupling: float) -> None:
    matrix = np.array([[2.0, coupling], [coupling, 1.0]])
    problem = Quadratic.from_matrix(matrix, sizes=[1, 1], start=np.ones(2))
    problem = Quadratic.from_matrix(matrix, sizes=[1, 1], start=worst_start(problem, gamma=1.0))
    outcome = evaluate(problem, gamma=1.0, inner_steps=1, order="cyclic", epochs=1)
    assert outcome.ledger.lines["epoch"].largest_ratio == pytest.approx(1, abs=1e-9)


def test_the_theorem_itself_is_nearly_attained() -> None:
    problem = Quadratic.from_matrix(np.eye(1), sizes=[1], start=np.ones(1))
    outcome = evaluate(problem, gamma=0.05, inner_steps=1, order="cyclic", epochs=1)
    assert outcome.measured / outcome.bound == pytest.approx(1 - (1 - 0.95**2) ** 2, rel=1e-9)


def test_classical_constant_of_gradient_descent() -> None:
    problem = Quadratic([3], condition=10, seed=0)
    outcome = evaluate(problem, gamma=1.0, inner_steps=1, order="cyclic", epochs=4)
    assert outcome.bound == pytest.approx(2 * problem.L * problem.gap(problem.start) / 5, rel=1e-12)


def nonconvex_gradient(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and f' at the nodes, for f' piecewise linear with slopes in {-1, 1}: L = 1, nowhere strongly convex."""
    generator = np.random.default_rng(seed)
    width = generator.uniform(0.01, 0.4, size=400)
    nodes = np.concatenate([[0.0], np.cumsum(width)])
    nodes -= nodes[-1] / 2
    rise = np.concatenate([[0.0], np.cumsum(width * generator.choice([-1.0, 1.0], size=400))])
    return nodes, rise - np.interp(0.0, nodes, rise) + 1.0


def gains(seed: int, gamma: float) -> Iterator[tuple[int, float]]:
    """K and f(z^0) - f(z^K) for K = 1, ..., 5 steps of size gamma from 0, where f' = 1."""
    nodes, slope = nonconvex_gradient(seed)
    values = np.concatenate([[0.0], np.cumsum(np.diff(nodes) * (slope[1:] + slope[:-1]) / 2)])

    def value(x: float) -> float:
        left = int(np.searchsorted(nodes, x)) - 1
        return float(values[left] + (x - nodes[left]) * (slope[left] + np.interp(x, nodes, slope)) / 2)

    z = 0.0
    for inner_steps in range(1, 6):
        z -= gamma * float(np.interp(z, nodes, slope))
        if abs(z) > nodes[-1] - 0.5:  # outside, np.interp would continue f' as a constant
            return
        yield inner_steps, value(0.0) - value(z)


@pytest.mark.parametrize("gamma", [0.4, 1.0, 1.3, 1.7, 1.95])
def test_kappa_holds_for_nonconvex_functions_of_one_variable(gamma: float) -> None:
    """A6 without the help of quadratics: f' is 1-Lipschitz with both curvatures +1 and -1."""
    for seed in range(100):
        for inner_steps, gain in gains(seed, gamma):
            assert gain >= kappa(gamma, inner_steps) / 2 - 1e-12


def test_the_kappa_of_short_steps_is_refuted_for_long_ones() -> None:
    """1 - (1-gamma)^{2K} does not continue to gamma > 1, and the test above has the power to see it."""
    gamma = 1.7
    claims = [gain / ((1 - (1 - gamma) ** (2 * K)) / 2) for seed in range(300) for K, gain in gains(seed, gamma)]
    assert min(claims) < 0.99


def test_kappa_grows_with_the_steps_and_is_continuous() -> None:
    for gamma in (0.2, 0.9, 1.2, 1.8):
        values = [kappa(gamma, steps) for steps in range(1, 8)]
        assert values[0] == pytest.approx(gamma * (2 - gamma), rel=1e-12)
        assert all(a < b <= 1 for a, b in itertools.pairwise(values))
    assert kappa(1 - 1e-7, 3) == pytest.approx(kappa(1 + 1e-7, 3), abs=1e-9)


def test_neither_c_scalar_nor_c_matrix_is_redundant() -> None:
    """C_t takes the least of the three; C_rec, which knows L and mu only, is for problems without good L_ij."""
    least = set()
    for sizes, heterogeneity, coupling in ([[1] * 2, 1, 1.0], [[2] * 8, 1, 1.0], [[1] * 4, 100, 0.3]):
        for steps in (1, 8):
            problem = Quadratic(sizes, coupling=coupling, heterogeneity=heterogeneity, condition=100, seed=1)
            found = epoch_constants(problem, range(len(sizes)), gamma=1.0, inner_steps=steps)
            least.add(min(("C_scalar", "C_matrix", "C_rec"), key=found.__getitem__))
    assert least == {"C_scalar", "C_matrix"}


@pytest.mark.parametrize("control", list(A1().controls()), ids=lambda control: control.name)
def test_false_statements_are_rejected(control: Any) -> None:
    assert control.rejected
    assert control.ratio > 1.3
    assert control.true_ratio <= 1 + 1e-9


def test_a_control_that_is_true_is_not_called_rejected() -> None:
    problem = Quadratic([2, 2], seed=0)
    weaker = evaluate(problem, statement=A1Statement(constant=2.0), **EXAMPLE)
    assert weaker.ledger.violations == 0


@pytest.mark.parametrize("gamma", [0.0, 2.0, 3, -1.0, float("nan"), True, "1"])
def test_gamma_outside_the_hypothesis_is_refused(gamma: Any) -> None:
    with pytest.raises(ValueError, match=r"gamma=.*Theorem A1 needs a number in \(0, 2\)"):
        evaluate(Quadratic([1]), **{**EXAMPLE, "gamma": gamma})


class Stuck:
    """Visits block 0 for ever."""

    def next_visit(self, num_blocks: int) -> tuple[int, ...]:
        return (0,)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Any) -> None:
        pass


@pytest.fixture
def stuck_order(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(ORDERS, "stuck", lambda seed: Stuck())
    return "stuck"


def test_orders_that_are_no_permutations_are_refused(stuck_order: str) -> None:
    with pytest.raises(ValueError, match=r"block epoch 0 visits the blocks \[0, 0\]"):
        evaluate(Quadratic([1, 1]), **{**EXAMPLE, "order": stuck_order})
    with pytest.raises(ValueError, match="order='spiral' is not one of cyclic"):
        evaluate(Quadratic([1, 1]), **{**EXAMPLE, "order": "spiral"})


@pytest.mark.parametrize("rule", [Adam(), SGD(weight_decay=0.1)])
def test_rules_other_than_gradient_descent_are_refused(rule: Any) -> None:
    with pytest.raises(ValueError, match="step 0 is not a step of SGD"):
        evaluate(Quadratic([1, 1]), rule=rule, **EXAMPLE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gamma": [3]}, "gamma=3"),
        ({"gamma": []}, r"gamma=\[\]"),
        ({"gamma": 1.0}, "gamma=1.0 .*list"),
        ({"inner_steps": [0]}, "inner_steps=0"),
        ({"order": ["spiral"]}, "order='spiral'"),
        ({"alpha": [1.0]}, "alpha"),
    ],
)
def test_sweeps_are_checked_when_they_are_made(change: dict[str, Any], message: str) -> None:
    good = {"gamma": [1.0], "inner_steps": [1], "order": ["cyclic"]}
    assert len(list(A1(grid=good, epochs=2, example=EXAMPLE).settings(Quadratic([1, 1])))) == 1
    with pytest.raises(ValueError, match=message):
        A1(grid={**good, **change}, epochs=2, example=EXAMPLE)


def test_epochs_and_the_example_are_checked_too() -> None:
    with pytest.raises(ValueError, match="epochs=0"):
        A1(epochs=0)
    with pytest.raises(ValueError, match=r"example=.*must have epochs"):
        A1(example={"gamma": 1.0})
    with pytest.raises(ValueError, match=r"example=.*missing a required argument: 'inner_steps'"):
        A1(example={"gamma": 1.0, "epochs": 2})
    with pytest.raises(ValueError, match=r"gamma=2\.5"):
        A1(example={**EXAMPLE, "gamma": 2.5})


@pytest.mark.parametrize("arithmetic", ["mp", "exact"])
def test_better_arithmetics_agree_and_have_no_violation(arithmetic: str) -> None:
    problem = Quadratic([1, 2], coupling=0.9, condition=20, seed=2)
    setting = {"gamma": 0.7, "inner_steps": 2, "order": "random_reshuffle", "epochs": 2}
    float64, better = evaluate(problem, **setting), evaluate(problem, arithmetic=arithmetic, **setting)
    assert better.ledger.violations == 0
    assert better.measured == pytest.approx(float64.measured, rel=1e-12)
    assert better.bound == pytest.approx(float64.bound, rel=1e-12)
    for name, line in better.ledger.lines.items():
        assert line.largest_ratio == pytest.approx(float64.ledger.lines[name].largest_ratio, rel=1e-9), name
