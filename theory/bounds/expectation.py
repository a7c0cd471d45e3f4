"""Exact expectations of f along random block coordinate descent with K = 1: finite sums, never samples.

x^{k+1} = x^k - alpha_i U_i grad_i f(x^k), block i with probability p_i.
"""

import numpy as np

from theory.numbers import Array, dot, exact, like
from theory.problems import Problem
from theory.problems.quadratic import Quadratic

PATHS = 1024
"""Most paths that `over_paths` follows; 16 in multi-precision."""


def expected_values(problem: Problem, start: Array, z: Array, p: Array, alpha: Array, *, steps: int) -> Array:
    """E f(x^k) - f(z) for k = 0, 1, ...: up to `steps` on quadratics, elsewhere as far as the paths are few.

    Args:
        start: x^0, (d,).
        z: (d,).
        p: probabilities, (D,).
        alpha: step sizes, (D,).

    Returns:
        An array of shape (n + 1,) with n <= steps.
    """
    if isinstance(problem, Quadratic):
        return over_moments(problem, start, z, p, alpha, steps=steps)
    return over_paths(problem, start, z, p, alpha, steps=steps)


def over_moments(problem: Quadratic, start: Array, z: Array, p: Array, alpha: Array, *, steps: int) -> Array:
    """By M_k = E (e, 1)(e, 1)' with e = x^k - z.

    A step on block i is e - alpha_i U_i (A e + r), r = grad f(z). It is P_i (e, 1), so that
    M_{k+1} = sum_i p_i P_i M_k P_i' = M_k + sum_i p_i (P_i M_k P_i' - M_k); and f(x) - f(z) = e'Ae/2 + r'e.
    """
    A, r, d = problem.matrix, problem.gradient(z), len(z)
    rows = np.concatenate([A, r[:, None]], axis=1)  # gradient = rows (e, 1)
    e = np.concatenate([start - z, like(np.ones(1), start)])
    M, values = np.outer(e, e), []
    for k in range(steps + 1):
        values.append((A * M[:d, :d]).sum() / 2 + (r * M[:d, d]).sum())
        if k == steps:
            break
        following = M.copy()
        for block, chance, rate in zip(problem.slices, p, alpha, strict=True):
            moved = rows[block] @ M * rate  # M - P_i M in the rows of the block
            following[block] -= moved * chance
            # not moved.T: an asymmetry of rounding would grow instead of contracting with M
            following[:, block] -= M @ rows[block].T * (rate * chance)
            following[block, block] += moved @ rows[block].T * (rate * chance)
        M = following
    return np.array(values)


def over_paths(problem: Problem, start: Array, z: Array, p: Array, alpha: Array, *, steps: int) -> Array:
    """By all D^k paths, k as large as `PATHS` permits.

    Raises:
        ValueError: when a point leaves the set on which the constants of the problem are certified.
    """
    blocks = np.repeat(np.eye(len(problem.sizes), dtype=int), problem.sizes, axis=1)
    points, chances, values = start[None, :], like(np.ones(1), start), []
    for k in range(steps + 1):
        if not np.asarray(problem.inside(points), dtype=bool).all():
            raise ValueError(f"a path leaves the set of the certified constants at step {k}")
        values.append(dot(chances, problem.decrease(points, np.broadcast_to(z, points.shape))))
        if k == steps or len(points) * len(p) > (16 if exact(start) else PATHS):
            break
        moves = problem.gradient(points)[:, None, :] * blocks * alpha[:, None]
        points = (points[:, None, :] - moves).reshape(-1, len(start))
        chances = np.multiply.outer(chances, p).ravel()
    return np.array(values)
