"""Block coordinate descent on finite sums of quadratics with one sample a step: runs, fixed points, moments."""

from collections.abc import Sequence
from typing import Any

import mpmath
import numpy as np
import torch

from bcd import SGD, minimise
from theory.numbers import Array, exact, like
from theory.problems.finite_sum import FiniteSum
from theory.trajectory import ORDERS

Visits = list[tuple[int, list[int]]]
"""Block and samples of every visit of a block epoch."""


def in_step(problem: FiniteSum, order: str, inner_steps: int) -> Visits:
    """The samples 0, 1, ..., n-1, 0, 1, ... cut into visits.

    Raises:
        ValueError: when n does not divide D K, so that the next block epoch would meet others.
    """
    D, n = len(problem.sizes), len(problem.matrices)
    if D * inner_steps % n:
        raise ValueError(f"samples={n} is not possible: it must divide D K = {D * inner_steps}")
    stream = ORDERS[order](0)
    blocks = [stream.next_visit(D)[0] for _ in range(D)]
    return [(i, [(v * inner_steps + k) % n for k in range(inner_steps)]) for v, i in enumerate(blocks)]


def sweep(problem: FiniteSum, x: Array, visits: Visits, alpha: Any) -> Array:
    """All points of one block epoch from x: (..., d) -> (D K + 1, ..., d)."""
    points = [x]
    for i, samples in visits:
        rows = problem.slices[i]
        for s in samples:
            z = points[-1].copy()
            z[..., rows] -= alpha * (points[-1] @ problem.matrices[s][:, rows] - problem.linears[s][rows])
            points.append(z)
    return np.array(points)


def trained(problem: FiniteSum, visits: Visits, alpha: float, epochs: int, order: str) -> Array:
    """All points of the block epochs by bcd in float64, with one sample a step: (T D K + 1, d)."""
    matrices, linears = torch.from_numpy(problem.matrices), torch.from_numpy(problem.linears)
    samples = iter([s for _ in range(epochs) for _, visit in visits for s in visit])

    def objective(blocks: Sequence[torch.Tensor]) -> torch.Tensor:
        x, s = torch.cat(list(blocks)), next(samples)
        return x @ (matrices[s] @ x / 2 - linears[s])

    start = [torch.from_numpy(problem.start[rows].copy()) for rows in problem.slices]
    K, count = len(visits[0][1]), epochs * len(visits)
    steps = minimise(objective, start, rule=SGD(), order=ORDERS[order](0), inner_steps=K, lr=alpha, visits=count)
    return torch.stack([torch.cat(step.before) for step in steps] + [torch.cat(steps[-1].after)]).numpy()


def fixed_point(data: FiniteSum, visits: Visits, alpha: Any) -> Array:
    """x^inf: the map of a block epoch is affine."""
    d = len(data.start)
    basis = like(np.concatenate([np.zeros((1, d)), np.eye(d)]), data.start)
    images = sweep(data, basis, visits, alpha)[-1]
    return solve(basis[1:] - (images[1:] - images[0]).T, images[0])


def gradient(data: FiniteSum, block: int, sample: int, x: Array) -> Array:
    """grad_i f_s(x)."""
    rows = data.slices[block]
    return data.matrices[sample][rows] @ x - data.linears[sample][rows]


def mixed(data: FiniteSum, visits: Visits) -> tuple[Array, Array]:
    """B and r of F(x) = Bx - r."""
    B, r = np.zeros_like(data.matrix), np.zeros_like(data.linear)
    for i, samples in visits:
        rows = data.slices[i]
        B[rows] = data.matrices[samples][:, rows].sum(axis=0) / len(samples)
        r[rows] = data.linears[samples][:, rows].sum(axis=0) / len(samples)
    return B, r


def stepped(M: Array, rows_of: Array, rows: slice, alpha: Any) -> Array:
    """E (e, 1)(e, 1)' after a step on the coordinates `rows` with a uniform sample."""
    n, total = len(rows_of), np.zeros_like(M)
    for gradient in rows_of:
        moved = alpha * (gradient[rows] @ M)
        total[rows] -= moved
        total[:, rows] -= moved.T
        total[rows, rows] += alpha * (moved @ gradient[rows].T)
    M = M + total / n
    return (M + M.T) / 2  # an antisymmetric rounding error would grow


def squares(data: FiniteSum, M: Array) -> Array:
    """(D,): E||e_i||^2."""
    diagonal = np.diag(M)
    return np.array([diagonal[rows].sum() for rows in data.slices])


def solve(A: Array, b: Array) -> Array:
    """A^{-1} b in the arithmetic of A, for any nonsingular A."""
    if not exact(A):
        return np.linalg.solve(A, b)
    return np.array(list(mpmath.lu_solve(mpmath.matrix(A.tolist()), mpmath.matrix(b.tolist()))), dtype=object)


def two_samples() -> FiniteSum:
    """Two scalar blocks and two samples; F(x*) != 0."""
    matrices = [[[1.0, 0.25], [0.25, 1.0]], [[1.0, -0.5], [-0.5, 1.0]]]
    return FiniteSum.from_parts(matrices, [[1.0, 0.0], [0.0, 0.5]], sizes=[1, 1], start=np.array([2.0, -1.0]))
