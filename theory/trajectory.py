"""Trajectories of `bcd.minimise` as float64 arrays, the form in which the bounds read them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from bcd import SGD, Cyclic, Descending, Order, RandomReshuffle, Rule, minimise
from theory.problems import Problem

ORDERS: dict[str, Callable[[int], Order]] = {
    "cyclic": lambda seed: Cyclic(),
    "descending": lambda seed: Descending(),
    "random_reshuffle": RandomReshuffle,
}
"""Name of an order -> the order, given a seed."""


@dataclass(frozen=True)
class Trajectory:
    """T block epochs of D visits of K steps. N = T D K.

    visited: shape (T, D), block of every visit.
    points: shape (N + 1, d), iterates; row n + 1 follows row n by one step.
    gradients: shape (N + 1, d), full gradients there.
    applied: shape (N, d), the gradient that bcd took by autograd, zero outside the active block.
    """

    visited: np.ndarray
    points: np.ndarray
    gradients: np.ndarray
    applied: np.ndarray
    inner_steps: int


def trajectory(
    problem: Problem, *, order: Order, inner_steps: int, lr: Sequence[float], epochs: int, rule: Rule | None = None
) -> Trajectory:
    """Run bcd's optimizer from `problem.start` in float64.

    order: which block each visit trains.     inner_steps: K.     lr: one step size for each block.
    epochs: T block epochs, that is T D visits.     rule: gradient descent by default.
    """
    ends = np.cumsum(problem.sizes)
    start = [torch.from_numpy(block.copy()) for block in np.split(problem.start, ends[:-1])]
    steps = minimise(
        problem.objective,
        start,
        rule=rule or SGD(),
        order=order,
        inner_steps=inner_steps,
        lr=lr,
        visits=epochs * len(start),
    )
    points = torch.stack([torch.cat(step.before) for step in steps] + [torch.cat(steps[-1].after)]).numpy()
    applied = np.zeros_like(points[:-1])
    for row, step in zip(applied, steps, strict=True):
        row[ends[step.block] - problem.sizes[step.block] : ends[step.block]] = step.gradient.numpy()
    visited = np.array([step.block for step in steps[::inner_steps]]).reshape(epochs, len(start))
    return Trajectory(visited, points, problem.gradient(points), applied, inner_steps)


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


def require_gradient_steps(path: Trajectory, lr: Sequence[float], tolerance: float = 1e-9) -> None:
    """Raise ValueError unless every step is x <- x - lr g, which is what the name of a rule only promises."""
    steps = np.diff(path.points, axis=0)
    rates = np.repeat(np.asarray(lr)[path.visited.ravel()], path.inner_steps)[:, None]
    error = np.abs(steps + rates * path.applied).max(axis=1)
    allowed = tolerance * (np.abs(path.points).max(axis=1)[:-1] + np.abs(steps).max(axis=1))
    if (wrong := np.flatnonzero(~(error <= allowed))).size:
        raise ValueError(f"step {wrong[0]} is not a gradient step x - lr g, it differs by {error[wrong[0]]:.3g}")
