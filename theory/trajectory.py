"""Trajectories of block coordinate descent in the form in which the bounds read them.

In float64 they come from the code that trains, `bcd.minimise`; in multi-precision and in exact fractions from
`bcd.reference`, whose float64 trajectory a test compares with bcd's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import mpmath
import numpy as np
import torch

from bcd import SGD, Adam, Cyclic, Descending, Momentum, Order, RandomReshuffle, Rule, minimise, reference
from theory.moments import Moments, moments, require_plain
from theory.numbers import TYPES, Array, convert, like, norm
from theory.problems import Problem

ORDERS: dict[str, Callable[[int], Order]] = {
    "cyclic": lambda seed: Cyclic(),
    "descending": lambda seed: Descending(),
    "random_reshuffle": RandomReshuffle,
}
"""Name of an order -> the order, given a seed."""


@dataclass(frozen=True)
class Trajectory:
    """T block epochs of D visits of K steps. V = T D visits, N = V K steps.

    The properties arrange them by visit: (V, K, d) for what belongs to a step, (V, K+1, d) for points.

    Attributes:
        problem: what was run, with its data in the arithmetic of the run.
        rule: of the run.
        lr: step size of each block.
        floats: the same problem with float64 data, for rounding scales.
        visited: shape (T, D), block of every visit.
        inner_steps: K.
        points: shape (N + 1, d), iterates; row n + 1 follows row n by one step.
        gradients: shape (N + 1, d), full gradients there; in the active block the one that the step used.
        applied: shape (N, d), that gradient alone (bcd's by autograd), zero outside the active block.
    """

    problem: Problem
    floats: Problem
    rule: Rule
    lr: tuple[float, ...]
    visited: np.ndarray
    points: Array
    gradients: Array
    applied: Array
    inner_steps: int

    @cached_property
    def active(self) -> np.ndarray:
        """(V,), block of every visit."""
        return self.visited.ravel()

    @cached_property
    def mask(self) -> np.ndarray:
        """(V, 1, d), 1 in the active block; integers, so that every number type is kept."""
        blocks = np.repeat(np.eye(len(self.problem.sizes), dtype=int), self.problem.sizes, axis=1)
        return blocks[self.active][:, None, :]

    @cached_property
    def rows(self) -> np.ndarray:
        """(V, K+1), rows of `points` and `gradients` that belong to each visit."""
        return np.arange(len(self.active))[:, None] * self.inner_steps + np.arange(self.inner_steps + 1)

    @cached_property
    def z(self) -> Array:
        """(V, K+1, d), z^0, ..., z^K of every visit."""
        return self.points[self.rows]

    @cached_property
    def g(self) -> Array:
        """(V, K, d), g^1, ..., g^K: the gradients of the active block that were used."""
        return self.applied[self.rows[:, :-1]]

    @cached_property
    def dx(self) -> Array:
        """(V, K, d), z^k - z^{k-1}."""
        return np.diff(self.z, axis=1)

    @cached_property
    def moments(self) -> Moments:
        """m_hat^k and H^k of the rule, recomputed from the gradients `g`."""
        return moments(self.rule, self.g)

    @cached_property
    def rates(self) -> Array:
        """(V, 1, 1), step size of the visit."""
        return like(np.asarray(self.lr)[self.active], self.points).reshape(-1, 1, 1)

    @cached_property
    def decrease(self) -> Array:
        """(V, K), f(z^{k-1}) - f(z^k)."""
        return self.problem.decrease(self.z[:, :-1], self.z[:, 1:])

    @cached_property
    def decrease_scale(self) -> Array:
        """(V, K), rounding scale of `decrease`.

        A gradient is rounded by eps * gradient_scale, a step by eps * (||z|| + ||step||); no family takes the
        difference of two values.
        """
        dx, g, z = (np.asarray(y, dtype=np.float64) for y in (self.dx, self.g, self.z[:, :-1]))
        return self.gradient_scale * norm(dx) + norm(g) * norm(z)

    def gap_scale(self, x: Array) -> Array:
        """Rounding scale of `problem.gap` at points x."""
        x = np.asarray(x, dtype=np.float64)
        scale = self.gradient_scale * norm(x)
        # without a minimiser the gap is the difference of two values
        by_minimiser = self.floats.minimiser is not None and self.floats.mu > 0
        return scale if by_minimiser else scale + self.floats.value_scale(x)

    @cached_property
    def gradient_scale(self) -> float:
        """Rounding scale of every gradient of the trajectory."""
        return float(self.floats.gradient_scale(np.asarray(self.points, dtype=np.float64)).max())

    @cached_property
    def starts(self) -> np.ndarray:
        """(T+1,), rows of `points` and `gradients` that are x^0, ..., x^T."""
        return np.arange(0, len(self.points), self.visited.shape[1] * self.inner_steps)

    def by_epoch(self, per_visit: Array) -> Array:
        """(V, ...) -> (T, D, ...)."""
        return per_visit.reshape(*self.visited.shape, *per_visit.shape[1:])


def trajectory(
    problem: Problem,
    *,
    order: Order,
    inner_steps: int,
    lr: Sequence[float],
    epochs: int,
    rule: Rule | None = None,
    arithmetic: str = "float64",
) -> Trajectory:
    """Run block coordinate descent from `problem.start`.

    Args:
        order: which block each visit trains.
        inner_steps: K.
        lr: one step size for each block.
        epochs: T block epochs, that is T D visits.
        rule: gradient descent by default.
        arithmetic: "float64" runs bcd, "mp" and "exact" its reference; start and lr are then the same float64 numbers.
            Call it inside `theory.numbers.precision(arithmetic)`.

    Raises:
        ValueError: for a rule that the reference or the arithmetic does not have.
    """
    rule, floats = rule or SGD(), problem
    if arithmetic == "float64":
        active, points, gradients, applied = _bcd(problem, rule, order, inner_steps, lr, epochs)
    else:
        number = TYPES[arithmetic]
        problem = problem.lifted(number)
        active, points, gradients, applied = _reference(problem, rule, order, inner_steps, lr, epochs, number)
    visited = np.array(active).reshape(epochs, len(problem.sizes))
    return Trajectory(problem, floats, rule, tuple(lr), visited, points, gradients, applied, inner_steps)


Run = tuple[list[int], Array, Array, Array]
Number = Callable[[float], Any]


def _bcd(problem: Problem, rule: Rule, order: Order, K: int, lr: Sequence[float], epochs: int) -> Run:
    rows = problem.slices
    start = [torch.from_numpy(problem.start[block].copy()) for block in rows]
    visits = epochs * len(start)
    steps = minimise(problem.objective, start, rule=rule, order=order, inner_steps=K, lr=lr, visits=visits)
    points = torch.stack([torch.cat(step.before) for step in steps] + [torch.cat(steps[-1].after)]).numpy()
    applied = np.zeros_like(points[:-1])
    gradients = problem.gradient(points)
    for row, full, step in zip(applied, gradients, steps, strict=False):  # the last point has a gradient and no step
        # Two evaluations of one gradient differ by rounding; the lines of a proof need one.
        row[rows[step.block]] = full[rows[step.block]] = step.gradient.numpy()
    return [step.block for step in steps[::K]], points, gradients, applied


def _reference(
    problem: Problem, rule: Rule, order: Order, K: int, lr: Sequence[float], epochs: int, number: Number
) -> Run:
    rows = problem.slices
    visits = [order.next_visit(len(rows)) for _ in range(epochs * len(rows))]
    gradients: list[Array] = []

    def gradient(block: int, x: list[list]) -> list:
        gradients.append(problem.gradient(np.array([number for part in x for number in part], dtype=object)))
        return list(gradients[-1][rows[block]])

    iterates = reference.descend(
        gradient,
        [list(problem.start[block]) for block in rows],
        visits,
        update=_update(rule, number),
        inner_steps=K,
        lr=[convert(rate, number) for rate in lr],
    )
    flat = [[number for part in x for number in part] for x in iterates]
    points = np.array([list(problem.start), *flat], dtype=object)
    applied = np.array(gradients, dtype=object)
    for n, row in enumerate(applied):
        (block,) = visits[n // K]
        row[: rows[block].start] *= 0  # not = 0, which would put integers among the numbers
        row[rows[block].stop :] *= 0
    full = np.array([*gradients, problem.gradient(points[-1])], dtype=object)
    return [block for (block,) in visits], points, full, applied


def _update(rule: Rule, number: Number) -> reference.Update:
    """The reference's update of a rule, its numbers lifted from float64."""
    require_plain(rule)
    if isinstance(rule, Adam):
        if number is Fraction:
            raise ValueError(f"rule={rule!r} takes roots, which arithmetic='exact' does not have")
        names = {"beta1": rule.betas[0], "beta2": rule.betas[1], "eps": rule.eps, "weight_decay": 0.0}
        lifted = {name: convert(value, number) for name, value in names.items()}
        return reference.adam(**lifted, sqrt=mpmath.sqrt)
    if isinstance(rule, Momentum):
        return reference.momentum(momentum=convert(rule.momentum, number))
    return reference.sgd()


def require_order(name: str) -> None:
    """Raise ValueError unless `name` is in `ORDERS`."""
    if name not in ORDERS:
        raise ValueError(f"order={name!r} is not one of {', '.join(ORDERS)}")


def require_block_epochs(visited: np.ndarray) -> None:
    """Raise ValueError unless every row is a permutation: each block visited once in each block epoch."""
    wanted = np.arange(visited.shape[1])
    for epoch, blocks in enumerate(visited):
        if not np.array_equal(np.sort(blocks), wanted):
            raise ValueError(
                f"block epoch {epoch} visits the blocks {blocks.tolist()}, but the theorem needs every one of the "
                f"{len(wanted)} blocks exactly once"
            )


def require_steps(path: Trajectory, rule: Rule, tolerance: float = 1e-9) -> None:
    """Raise ValueError unless every step is one of `rule`, which is what the name of a rule only promises."""
    expected = moments(rule, path.g)
    steps = path.rates * expected.factor[:, None] * expected.H * expected.m_hat * path.mask
    error = abs(path.dx + steps).max(axis=2).ravel()
    allowed = tolerance * (abs(path.points[:-1]).max(axis=1) + abs(path.dx).max(axis=2).ravel())
    if (wrong := np.flatnonzero(~(error <= allowed))).size:
        raise ValueError(f"step {wrong[0]} is not a step of {rule}, it differs by {float(error[wrong[0]]):.3g}")


def require_inside(path: Trajectory) -> None:
    """Raise ValueError unless the constants of the problem are certified wherever the proofs use them.

    That is at every iterate x and, for Lemma S, at x - grad f(x)/L and x - U_i grad_i f(x)/L_i, i the block that is
    visited: a convex set that has the iterates alone says nothing about f beside them.
    """
    require_certified(path.problem, path.points, "iterate {} leaves")
    L, L_i = (like(values, path.points) for values in (path.floats.L, path.floats.L_i[path.active]))
    require_certified(path.problem, path.points - path.gradients / L, "the step of size 1/L from iterate {} leaves")
    steps = path.z[:, :-1] - path.g / L_i[:, None, None]
    require_certified(
        path.problem, steps.reshape(-1, steps.shape[-1]), "the step of size 1/L_i from iterate {} leaves"
    )


def require_certified(problem: Problem, points: Array, what: str) -> None:
    """Raise ValueError unless all points are in C; `what` takes the index of the first that is not."""
    inside = np.asarray(problem.inside(points), dtype=bool)
    if (outside := np.flatnonzero(~inside)).size:
        where = what.format(outside[0])
        raise ValueError(f"{where} the set on which the constants of the problem are certified")
