"""Norms from l_inf to l_1, the geometry of a rule that moves every coordinate by about the same length.

||A||_{inf->1} = max{||Ah||_1 : ||h||_inf <= 1}. It is attained at a vector of signs, because ||Ah||_1 is convex in h:

    ||A||_{inf->1} = max over sign vectors s of ||As||_1 = max over sign vectors s, t of t'As,

and for a positive semidefinite A that is max over s of s'As. Exact for matrices with a short side, by all sign
vectors of that side; beyond, an upper bound that is refused unless a vector of signs is found that nearly attains it.
"""

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from theory.problems.blocks import slices

Array = np.ndarray

MOST_SIGNS = 16
"""Longest side whose sign vectors are all tried."""

LOOSE = 1.05
"""Largest ratio of an upper bound to what a search attains."""

SEARCHES = 32
"""Random starts of the search, beside the vector of ones."""


@dataclass(frozen=True)
class SupConstants:
    """Lipschitz constants of the gradient from l_inf to l_1, certified and rounded upwards.

    Attributes:
        whole: l, ||grad f(x+h) - grad f(x)||_1 <= l ||h||_inf.
        blocks: l_i, (D,), ||grad_i f(x + U_i h) - grad_i f(x)||_1 <= l_i ||h||_inf.
        pairs: l_ij, (D, D), ||grad_i f(x + U_j h) - grad_i f(x)||_1 <= l_ij ||h||_inf, with l_ii = l_i.
    """

    whole: float
    blocks: Array
    pairs: Array

    @property
    def chi(self) -> float:
        """l/(D sum_i l_i): in [1/D, 1] where both are attained at one positive semidefinite Hessian."""
        return self.whole / (len(self.blocks) * float(self.blocks.sum()))


@functools.lru_cache(maxsize=MOST_SIGNS)
def sign_vectors(n: int) -> Array:
    """All sign vectors of n entries up to their own sign, (2^(n-1), n).

    >>> sign_vectors(2).tolist()
    [[1.0, 1.0], [1.0, -1.0]]
    """
    return np.array([(1.0, *rest) for rest in itertools.product((1.0, -1.0), repeat=n - 1)])


def sup_norm(matrices: Array) -> float:
    """The largest ||A||_{inf->1} of matrices of one shape, (..., m, n), not rounded.

    >>> sup_norm(np.array([[2.0, -1.0], [-1.0, 2.0]]))
    6.0

    Raises:
        ValueError: when both sides are longer than `MOST_SIGNS` and no vector of signs comes near the upper bound.
    """
    matrices = np.asarray(matrices, dtype=np.float64)
    m, n = matrices.shape[-2:]
    if m < n:  # t'As = s'A't
        matrices, n = np.swapaxes(matrices, -1, -2), m
    if n <= MOST_SIGNS:
        return float(max(abs(matrix @ sign_vectors(n).T).sum(axis=0).max() for matrix in _stack(matrices)))
    return max(_bounded(matrix) for matrix in _stack(matrices))


def _stack(matrices: Array) -> Array:
    return matrices.reshape(-1, *matrices.shape[-2:])


def _bounded(matrix: Array) -> float:
    """min{sum of |A_ab|, sqrt(mn) ||A||_2}, both at least the norm, if the search attains nearly as much."""
    upper = min(float(abs(matrix).sum()), float(np.linalg.norm(matrix, 2)) * matrix.size**0.5)
    lower = attained(matrix)
    if upper > LOOSE * lower:
        raise ValueError(
            f"a matrix of shape {matrix.shape} is not possible: its norm from l_inf to l_1 is between {lower:.6g} and "
            f"{upper:.6g}, which is too loose; it is exact for a side of at most {MOST_SIGNS}"
        )
    return upper


def attained(matrix: Array) -> float:
    """A lower bound of ||A||_{inf->1}: t'As climbs in s <- sign(A't), t <- sign(As), from several starts."""
    starts = np.random.default_rng(0).choice([-1.0, 1.0], size=(SEARCHES, matrix.shape[1]))
    best = 0.0
    for s in [np.ones(matrix.shape[1]), *starts]:
        value, image = -1.0, matrix @ s
        while (climbed := float(abs(image).sum())) > value:
            value = climbed
            image = matrix @ np.where(matrix.T @ np.where(image < 0, -1.0, 1.0) < 0, -1.0, 1.0)
        best = max(best, value)
    return best


def block_sup_norms(matrices: Array, sizes: Sequence[int]) -> Array:
    """The largest ||A_ij||_{inf->1} of every block over symmetric matrices (..., d, d); (D, D).

    >>> block_sup_norms(np.diag([3.0, 4.0, 5.0]), [1, 2]).tolist()
    [[3.0, 0.0], [0.0, 9.0]]
    """
    parts, norms = slices(sizes), np.zeros((len(sizes), len(sizes)))
    for i, a in enumerate(parts):
        for j, b in enumerate(parts[: i + 1]):
            norms[i, j] = norms[j, i] = sup_norm(matrices[..., a, b])
    return norms
