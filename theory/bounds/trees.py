"""Block coordinate descent under noise along all outcomes: expectations as finite sums.

With two-point noise every visit starts from all leaves of the one before, so that T block epochs of D visits of K
steps are one tree of 2^(T D K) leaves; `theory.noise.grow` does one visit. For the theorems on rules or problems
without a recursion for moments.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from bcd import Rule
from theory.noise import TwoPoint, Visit, grow
from theory.numbers import Array, like
from theory.problems import Problem
from theory.trajectory import ORDERS

DEPTH, SWEPT = 10, 6
"""Most steps of a run; most steps of the block epochs in a sweep, some of which are run again in 60 digits."""

WHY_SHORT = f"all outcomes of the noise are followed, so that D K must be at most {SWEPT} steps for D blocks"
"""Why `affordable` leaves out a setting."""

Epoch = list[tuple[int, Visit]]
"""The block and the tree of every visit."""


def affordable(problem: Problem, settings: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The settings of which one block epoch fits into `SWEPT` steps."""
    for setting in settings:
        if len(problem.sizes) * setting["inner_steps"] <= SWEPT:
            yield setting


def follow(
    problem: Problem, noise: TwoPoint, *, rule: Rule, lr: float, inner_steps: int, epochs: int, order: str
) -> list[Epoch]:
    """As many of the block epochs as fit into `DEPTH` steps, from the start of the problem, in its number type.

    Raises:
        ValueError: when not one block epoch fits, or when an iterate leaves the set of the certified constants.
    """
    D = len(problem.sizes)
    if D * inner_steps > DEPTH:
        raise ValueError(
            f"inner_steps={inner_steps} is not possible: {D} blocks need {D * inner_steps} > {DEPTH} steps"
        )
    stream = ORDERS[order](problem.parameters.get("seed") or 0)
    points, chance, run = problem.start[None], like(np.ones(1), problem.start), []
    for _ in range(min(epochs, DEPTH // (D * inner_steps))):
        epoch: Epoch = []
        for _ in range(D):
            (block,) = stream.next_visit(D)
            tree = grow(problem, points, chance, block=block, inner_steps=inner_steps, rule=rule, lr=lr, noise=noise)
            if not all(np.asarray(problem.inside(z), dtype=bool).all() for z in tree.points):
                raise ValueError(f"a path leaves the set of the certified constants in a visit of block {block}")
            points, chance = tree.points[-1], tree.probability[-1]
            epoch.append((block, tree))
        run.append(epoch)
    return run


def descended(values: Array, generations: int, branches: int = 2) -> Array:
    """Values at nodes -> the same at their descendants some generations later, along axis 0."""
    return np.repeat(values, branches**generations, axis=0)


def history(values: list[Array], k: int, branches: int = 2) -> Array:
    """values[j] at the nodes of level j + 1, j < k -> (k, n, d), all of them at the nodes of level k."""
    return np.stack([descended(values[j], k - 1 - j, branches) for j in range(k)])


def drops(problem: Problem, tree: Visit, k: int) -> Array:
    """f(z^{k-1}) - f(z^k) at the nodes of level k."""
    return problem.decrease(descended(tree.points[k - 1], 1, tree.branches), tree.points[k])


def conditional_mean(values: Array, chance: Array, roots: Array) -> Array:
    """E[values | ancestor]: values (n b^k, ...), probabilities (n b^k,) and of the ancestors (n,) -> (n, ...)."""
    rest = (1,) * (values.ndim - 1)
    weighted = (chance.reshape(-1, *rest) * values).reshape(len(roots), -1, *values.shape[1:])
    return weighted.sum(axis=1) / roots.reshape(-1, *rest)


def starts(run: list[Epoch]) -> list[Array]:
    """Probabilities of the outcomes of x^t, t = 0, ..., T-1."""
    return [epoch[0][1].probability[0] for epoch in run]


def running_means(run: list[Epoch], values: list[Array]) -> Iterator[Array]:
    """For each block epoch s: (1/n) sum_{s <= t < s+n} E[values_t | x^s], shape (T - s, outcomes of x^s).

    A theorem for every start holds from x^s too.

    Args:
        values: for each t one number for each outcome of x^t.
    """
    chances = starts(run)
    for s, roots in enumerate(chances):
        later = np.array([conditional_mean(values[t], chances[t], roots) for t in range(s, len(run))])
        yield np.cumsum(later, axis=0) / np.arange(1, len(later) + 1)[:, None]


def rounding(problem: Problem, run: list[Epoch]) -> tuple[float, float]:
    """Largest `gradient_scale` and largest norm of the points of a run.

    Args:
        problem: with float64 data.
    """
    points = [np.asarray(z, dtype=np.float64) for epoch in run for _, tree in epoch for z in tree.points]
    size = max(float(problem.gradient_scale(z).max()) for z in points)
    return size, max(float(np.linalg.norm(z, axis=1).max()) for z in points)


def bounded(run: list[Epoch], R: float | None) -> float:
    """A bound of |gt_c| over all outcomes: R, or without one the largest of them rounded up to two digits.

    Raises:
        ValueError: when an outcome exceeds R.
    """
    largest = max(float(np.max(abs(used))) for epoch in run for _, tree in epoch for used in tree.used)
    if R is None:
        unit = 10.0 ** (math.floor(math.log10(largest)) - 1) if largest > 0 else 0.0
        return unit * (math.floor(largest / unit) + 1) if unit else 1.0
    if not largest <= R:
        raise ValueError(f"R={R!r} is not possible: a noisy gradient has a coordinate of {largest:.6g}")
    return R
