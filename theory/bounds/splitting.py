"""One block epoch on a quadratic as a splitting of its matrix: x <- x - P^{-1} grad f(x).

A in the order of the epoch is Dg + Lo + Lo' with Dg its block diagonal. With Q block diagonal, P = Q + Lo and
u = x^+ - x = -P^{-1} grad f(x):

    f(x) - f(x^+) = u'(P + P' - A)u/2 = u'(Q + Q' - Dg)u/2.

Proof: grad f(x) = -Pu, so f(x^+) - f(x) = -u'P'u + u'Au/2, and 2u'P'u = u'(P + P')u. QED
Exact block minimisation is Q = Dg; K gradient steps of size alpha_i are
Q_i^{-1} = alpha_i sum_{j<K} (I - alpha_i A_ii)^j.

In the paper: app:splitting.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from theory.numbers import Array
from theory.problems.blocks import strictly_lower
from theory.problems.certified import OUTWARD
from theory.problems.quadratic import Quadratic

ROUNDING = 10 * OUTWARD
"""Added to a contraction factor, an eigenvalue of a product of float64 matrices."""


def solve(matrix: Array, right: Array) -> Array:
    """matrix^{-1} right by elimination, for positive definite matrices of any number type.

    >>> solve(np.array([[2.0, 0.0], [0.0, 4.0]]), np.eye(2)).tolist()
    [[0.5, 0.0], [0.0, 0.25]]
    """
    matrix, right = matrix.copy(), right.copy()
    for k in range(len(matrix)):
        for j in range(len(matrix)):
            if j != k:
                factor = matrix[j, k] / matrix[k, k]
                matrix[j] = matrix[j] - matrix[k] * factor
                right[j] = right[j] - right[k] * factor
    return np.array([row / matrix[k, k] for k, row in enumerate(right)])


@dataclass(frozen=True)
class Splitting:
    """A = Dg + Lo + Lo' in one order; every matrix is (d, d), with the coordinates in the order of the problem.

    Attributes:
        A: the matrix of the problem.
        Q: block diagonal, of the steps of each block.
        Dg: the block diagonal of A.
        Lo: the part of A below it in the order of the epoch.
    """

    A: Array
    Q: Array
    Dg: Array
    Lo: Array

    @property
    def P(self) -> Array:  # noqa: N802, the letter of the theorem
        return self.Q + self.Lo

    @property
    def energy(self) -> Array:
        """Q + Q' - Dg, with which the decrease of one epoch is u'(.)u/2."""
        return self.Q + self.Q.T - self.Dg

    def contraction(self) -> tuple[float, Array]:
        """Largest (f(x^+) - f*)/(f(x) - f*) of one block epoch, rounded upwards, and an x - x* where it is attained.

        With e = x - x*, u = -P^{-1} A e: 1 - lambda_min(A P^{-T} (Q + Q' - Dg) P^{-1} A; A), in float64.
        """
        step = np.linalg.solve(self.P, self.A)
        loss = step.T @ self.energy @ step
        values, vectors = scipy.linalg.eigh((loss + loss.T) / 2, self.A)
        return min(1 - float(values[0]) + ROUNDING, 1.0), vectors[:, 0]


def splitting(problem: Quadratic, order: Sequence[int], alpha: Array | None = None, inner_steps: int = 1) -> Splitting:
    """Of exact minimisation of every block, or of K gradient steps of size alpha_i.

    Args:
        alpha: alpha_i, (D,); None: exact minimisation.
        inner_steps: K.
    """
    A = problem.matrix
    Dg = A * _diagonal(problem)
    if alpha is None:
        return Splitting(A, Dg, Dg, strictly_lower(A, problem.sizes, order))
    Q = Dg * 0
    for rows, rate in zip(problem.slices, alpha, strict=True):
        identity = np.eye(rows.stop - rows.start, dtype=int)
        contraction = identity - A[rows, rows] * rate
        total, power = identity * rate, identity * rate
        for _ in range(inner_steps - 1):
            power = power @ contraction
            total = total + power
        Q[rows, rows] = solve(total, identity + 0 * total)
    return Splitting(A, Q, Dg, strictly_lower(A, problem.sizes, order))


def _diagonal(problem: Quadratic) -> Array:
    block = np.repeat(np.arange(len(problem.sizes)), problem.sizes)
    return (block[:, None] == block).astype(int)
