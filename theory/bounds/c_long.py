"""Theorems C1, C2 and C3 where expectations cannot be computed: nonconvex f, many steps a visit, long runs.

Assumptions. Those of `theory.bounds.stochastic` and, by the order of the blocks, of Theorem C1 ("uniform": every visit
draws its block) or C2 (every block epoch has an order that is fixed before the noise); line C3 needs a constant of
Polyak-Lojasiewicz.

The theorems say E[X] <= bound for X >= 0. Here X is drawn `RUNS` times by independent runs, and a line compares the
logarithm of the largest wealth of the betting process of `theory.e_process` with the logarithm of its threshold, 1000.
Where the theorem is true a line is violated with probability at most 1/1000; a line that is not violated proves
nothing, but in the tight cases of the controls a bound that is wrong by a factor of 2 is rejected.

Lines:
 visit   X = f(z^K) - f* after the first visit, E[X] <= f(x^0) - f* - alpha om ||grad_i f(x^0)||^2 + alpha^2 K L_i
             sigma_i^2/2; for "uniform" its mean over the blocks.          Theorem C1, line visit.
 C1, C2  X = (1/T) sum_{t<T} ||grad f(x^t)||^2 and the bound of the theorem.
 C3      X = f(x^T) - f* and the bound of the theorem.

Controls: the noise term halved in every line, where it is all there is.
Not in the paper. It checks Theorems C1, C2 and C3 where their expectations have no exact form.
Source: the theorems; for the test see `theory.e_process`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from theory.bounds.bound import Bound, Control, Outcome, Statement, require_between
from theory.bounds.c3 import UNIFORM, rate_and_noise
from theory.bounds.stochastic import SGDConstants, drift, require_variance
from theory.e_process import THRESHOLD, log_wealth
from theory.ledger import Ledger
from theory.noise import TwoPoint, signs
from theory.numbers import Array
from theory.problems import Problem
from theory.problems.quadratic import Quadratic
from theory.problems.validation import positive_integer
from theory.trajectory import ORDERS, require_order

RUNS = 512
"""Independent runs of an instance: a mean that is twice the bound is rejected after 50 to 100 of them."""


@dataclass(frozen=True)
class Runs:
    """What the independent runs gave, arrays of shape (RUNS,).

    Attributes:
        first: f(z^K) - f* after the first visit.
        last: f(x^T) - f*.
        square: (1/T) sum_{t<T} ||grad f(x^t)||^2.
        orders: of the block epochs, [] for "uniform".
    """

    first: Array
    last: Array
    square: Array
    orders: list[tuple[int, ...]]


def simulate(
    problem: Problem, alpha: float, noise: TwoPoint, *, inner_steps: int, order: str, times: int, seed: int
) -> Runs:
    """Runs of stochastic gradient descent side by side, float64, from a generator of their own.

    Args:
        times: T, visits ("uniform") or block epochs.

    Raises:
        ValueError: when a point leaves the certified set.
    """
    generator, D = np.random.default_rng([seed, inner_steps, times]), len(problem.sizes)
    pattern = np.concatenate([signs(size) for size in problem.sizes])
    blocks = np.repeat(np.arange(D), problem.sizes)
    (up, down), _ = noise.outcomes(np.ones(1))
    stream = None if order == UNIFORM else ORDERS[order](seed)
    x = np.tile(problem.start, (RUNS, 1))
    first, square, orders = None, np.zeros(RUNS), []
    for _ in range(times):
        square += (problem.gradient(x) ** 2).sum(axis=1) / times
        if stream is None:
            visits: list[Any] = [generator.integers(D, size=RUNS)]
        else:
            visits = [stream.next_visit(D)[0] for _place in range(D)]
            orders.append(tuple(visits))
        for visit in visits:
            active = blocks == np.reshape(visit, (-1, 1))
            for _step in range(inner_steps):
                s = np.where(generator.random(RUNS) < noise.p, up, down)[:, None]
                x = x - alpha * active * (problem.gradient(x) + s * pattern)
                if not problem.inside(x).all():
                    raise ValueError("a run leaves the set on which the constants of the problem are certified")
            if first is None:
                first = problem.gap(x)
    assert first is not None
    # f* may be a lower bound, or rounded: then a gap that is 0 may be slightly negative
    return Runs(np.maximum(first, 0), np.maximum(problem.gap(x), 0), square, orders)


class CLong(Bound):
    """Theorems C1 to C3, tested with independent runs."""

    precise = False  # samples; the arithmetic decides nothing

    def require(self, *, gamma: float, inner_steps: int, sigma: float, order: str) -> None:
        """Raise ValueError unless Theorems C1 to C3 cover the setting.

        Args:
            gamma: the step size times L_max, in (0, 2).
            inner_steps: K.
            sigma: standard deviation of every coordinate's noise, so that sigma_i^2 = d_i sigma^2.
            order: "uniform" or a name in `ORDERS`.
        """
        require_between("gamma", gamma, 0, 2, who="Theorems C1 to C3: alpha < 2/L_max")
        positive_integer("inner_steps", inner_steps)
        TwoPoint.of(0.5, sigma)
        if order != UNIFORM:
            require_order(order)

    def evaluate(
        self,
        problem: Problem,
        *,
        arithmetic: str = "float64",
        statement: Any = None,
        noise: TwoPoint | None = None,
        epochs: int | None = None,
        label: str = "",
        keep_series: bool = False,
        **setting: Any,
    ) -> Outcome:
        """Mean of X and bound of line C1 or C2.

        Args:
            epochs: T.
            noise: symmetric with the standard deviation sigma unless given.

        Raises:
            ValueError: when a hypothesis on the setting, the noise or the iterates does not hold, or for another
                arithmetic.
        """
        if arithmetic != "float64":
            raise ValueError(f"arithmetic={arithmetic!r} is not possible: runs are drawn in float64")
        noise = noise or TwoPoint.of(0.5, setting["sigma"])
        if statement is None:
            self.check_setting(setting)
            require_variance(noise, setting["sigma"])
        statement, times = statement or self.true, positive_integer("epochs", epochs or self.epochs)
        K, order = setting["inner_steps"], setting["order"]
        constants = constants_of(problem, noise, setting["gamma"])
        seed = problem.parameters.get("seed") or 0
        runs = simulate(problem, constants.alpha, noise, inner_steps=K, order=order, times=times, seed=seed)
        ledger = Ledger(label, keep_series=keep_series, stronger=statement.stronger)
        bet(ledger, "visit", runs.first, first_visit(problem, constants, statement, runs, K))
        bound = mean_square(problem, constants, statement, runs, K, times)
        bet(ledger, "C1" if order == UNIFORM else "C2", runs.square, bound)
        if problem.pl > 0:
            value = float(problem.gap(problem.start))
            for blocks in runs.orders or [None] * times:
                rate, added = rate_and_noise(problem, constants, blocks, K, statement)
                value = (1 - rate) * value + added
            bet(ledger, "C3", runs.last, value)
        return self.outcome(np.array([runs.square.mean()]), np.array([bound]), ledger)

    def controls(self) -> Iterator[Control]:
        half = Statement(constant=0.5)
        line = Quadratic.from_matrix(np.eye(1), sizes=[1], start=np.array([1e-6]))
        many = {"gamma": 0.001, "inner_steps": 60, "sigma": 1.0, "order": UNIFORM, "epochs": 1}
        yield self.control("noise term halved, K = 60", "visit", line, half, most=6.0, **many)
        long = {"gamma": 0.5, "inner_steps": 1, "sigma": 1.0, "order": UNIFORM, "epochs": 200}
        yield self.control("noise term halved, T = 200", "C1", line, half, most=32.0, **long)
        yield self.control("floor halved, T = 200", "C3", line, half, most=14.0, **long)


def bet(ledger: Ledger, name: str, samples: Array, bound: float) -> None:
    """One line of the ledger: largest log wealth against the logarithm of the threshold."""
    ledger.check(name, [max(0.0, float(log_wealth(samples, bound).max()))], [math.log(THRESHOLD)], scale=1.0)


def constants_of(problem: Problem, noise: TwoPoint, gamma: float) -> SGDConstants:
    """As `theory.bounds.stochastic.constants_of`, in float64 and for every problem."""
    L, sigma2 = problem.L_i, noise.variance(np.ones(1)) * np.array(problem.sizes, dtype=np.float64)
    alpha = gamma / float(L.max())
    return SGDConstants(alpha, 1 - gamma / 2, L, sigma2, float(L.max()), sigma2.sum(), float((L * sigma2).sum()))


def first_visit(problem: Problem, constants: SGDConstants, statement: Statement, runs: Runs, K: int) -> float:
    """Right side of line visit."""
    gradient, D, alpha = problem.gradient(problem.start), len(problem.sizes), constants.alpha
    square = np.array([(gradient[rows] ** 2).sum() for rows in problem.slices])
    noise = statement.constant * alpha**2 * K * constants.L * constants.sigma2 / 2
    each = -alpha * constants.om * square + noise
    chosen = each[runs.orders[0][0]] if runs.orders else each.sum() / D
    return float(problem.gap(problem.start) + chosen)


def mean_square(
    problem: Problem, constants: SGDConstants, statement: Statement, runs: Runs, K: int, times: int
) -> float:
    """The bound of Theorem C1, or of C2 with the largest drift of the orders that occurred."""
    gap, alpha = float(problem.gap(problem.start)), constants.alpha
    noise = statement.constant * alpha * K * constants.V / 2
    if not runs.orders:
        return (len(problem.sizes) * gap / (alpha * times) + noise) / constants.om
    moved = alpha * max(drift(problem, blocks, K) for blocks in set(runs.orders))
    square = (gap / (alpha * times) + noise) / constants.om
    return ((1 + moved) * math.sqrt(square) + moved * math.sqrt(constants.s2)) ** 2 / K
