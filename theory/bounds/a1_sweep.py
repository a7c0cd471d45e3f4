"""Which instances of Theorem A1 are run, and the false versions of it that must be rejected."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg

from theory.bounds.a1 import Statement, evaluate, require_gamma
from theory.bounds.bound import Control, Outcome
from theory.problems import Problem
from theory.problems.quadratic import Quadratic, positive_integer
from theory.trajectory import require_order


@dataclass(frozen=True)
class A1:
    """The sweep over the theorem's own parameters: every combination of the lists.

    gamma: step sizes times L_i.     inner_steps: values of K.     orders: names in `theory.trajectory.ORDERS`.
    epochs: T.     example: arguments of `evaluate` for the showcase.

    Raises ValueError when a list is empty or a value is outside the theorem's hypotheses.
    """

    gamma: Sequence[float]
    inner_steps: Sequence[int]
    orders: Sequence[str]
    epochs: int
    example: Mapping[str, Any]

    def __post_init__(self) -> None:
        for name in ("gamma", "inner_steps", "orders"):
            if isinstance(getattr(self, name), int | float | str) or not len(getattr(self, name)):
                raise ValueError(f"{name}={getattr(self, name)!r} is not possible: it must be a list of values")
        # The showcase runs after the sweep; a mistake in it must not cost the sweep's time.
        if set(self.example) != {"gamma", "inner_steps", "order", "epochs"}:
            raise ValueError(f"example={dict(self.example)} must have gamma, inner_steps, order and epochs")
        for gamma in (*self.gamma, self.example["gamma"]):
            require_gamma(gamma)
        for steps in (*self.inner_steps, self.example["inner_steps"]):
            positive_integer("inner_steps", steps)
        for epochs in (self.epochs, self.example["epochs"]):
            positive_integer("epochs", epochs)
        for order in (*self.orders, self.example["order"]):
            require_order(order)

    def settings(self, problem: Problem) -> Iterator[dict[str, Any]]:
        orders = self.orders if len(problem.sizes) > 1 else self.orders[:1]  # one block has one order
        for steps, gamma, order in itertools.product(self.inner_steps, self.gamma, orders):
            yield {"inner_steps": steps, "gamma": gamma, "order": order}

    def evaluate(self, problem: Problem, **setting: Any) -> Outcome:
        label = ", ".join(f"{name}={value}" for name, value in {**problem.parameters, **setting}.items())
        # The order draws from the seed of the instance, so that instances differ in their permutations too.
        return evaluate(problem, epochs=self.epochs, seed=problem.parameters.get("seed") or 0, label=label, **setting)

    def showcase(self, problem: Problem) -> Outcome:
        return evaluate(problem, label="showcase", keep_series=True, **self.example)

    def controls(self) -> Iterator[Control]:
        return controls()


def worst_start(problem: Quadratic, *, gamma: float) -> np.ndarray:
    """The start x, for minimiser 0, that makes ||grad f(x)||^2 / (f(x) - f(x^1)) of one cyclic epoch, K = 1, largest.

    A step on block i is linear, x <- P_i x, so with P = P_D ... P_1 the ratio is the generalised Rayleigh quotient
    x'A^2x / (x'(A - P'AP)x/2), and its largest value is a generalised eigenvalue.
    """
    A = problem.matrix
    sweep = np.eye(len(A))
    for rows, L_i in zip(problem.slices, problem.L_i, strict=True):
        sweep[rows] -= gamma / L_i * (A[rows] @ sweep)
    decrease = (A - sweep.T @ A @ sweep) / 2
    return scipy.linalg.eigh(A @ A, (decrease + decrease.T) / 2)[1][:, -1]


def control(
    name: str, line: str, problem: Problem, false: Statement, *, true: Mapping[str, Any] | None = None, **setting: Any
) -> Control:
    """Evaluate the false and the true statement on one instance; `true` changes the setting of the true one."""
    wrong = evaluate(problem, statement=false, label=name, **setting).ledger.lines[line]
    right = evaluate(problem, label=name, **{**setting, **(true or {})}).ledger.lines[line]
    return Control(name, line, wrong.largest_ratio, wrong.violations, right.largest_ratio, right.violations)


def controls() -> Iterator[Control]:
    """False versions of Theorem A1, each on an instance where the line it breaks is nearly or exactly an equality."""
    top = Quadratic.from_matrix(np.diag([1.0, 0.5]), sizes=[2], start=np.array([1.0, 0.0]))
    once = {"inner_steps": 1, "order": "cyclic", "epochs": 1}
    yield control("C_t halved", "epoch", top, Statement(constant=0.5), gamma=1.0, **once)

    matrix = np.array([[1.0, 0.9], [0.9, 1.0]])
    start = worst_start(Quadratic.from_matrix(matrix, sizes=[1, 1], start=np.ones(2)), gamma=1.0)
    pair = Quadratic.from_matrix(matrix, sizes=[1, 1], start=start)
    yield control("coupling dropped", "epoch", pair, Statement(coupling=0.0), gamma=1.0, **once)

    # 2.5/L makes every step an ascent, so a bound with the constants of a permitted gamma must fail.
    yield control(
        "gamma = 2.5", "bound", top, Statement(gamma=1.0), true={"gamma": 1.9}, gamma=2.5, **{**once, "epochs": 5}
    )
    yield control("kappa_K doubled", "A6", top, Statement(kappa=2.0), gamma=0.5, **{**once, "inner_steps": 2})

    # Block 0 moves both others; in the order 1, 0, 2 it would move one only, which makes Lambda smaller by sqrt(2).
    star = np.array([[1.0, 0.6, 0.6], [0.6, 1.0, 0.0], [0.6, 0.0, 1.0]])
    hub = Quadratic.from_matrix(star, sizes=[1, 1, 1], start=np.array([30.0, 1.0, 1.0]))
    yield control("Lambda of another order", "T", hub, Statement(order=(1, 0, 2)), gamma=1.0, **once)
