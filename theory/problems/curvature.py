"""Certified constants of Hessians H = B + sum_c s_c g_c g_c' whose weights s lie in a polytope.

The polytope is a box of weight intervals, or the convex hull of given vertices. The largest eigenvalue and every
||H_ij||_2 are convex in s and the smallest eigenvalue is concave, so that the vertices have the extremes. A box of
many intervals has too many vertices; there H is monotone in s (extremes of the eigenvalues), and with the centre
H_0 and the half widths h_c, ||(H - H_0)_ij|| <= ||G_i diag(h)^{1/2}|| ||G_j diag(h)^{1/2}||.

Norms from l_inf to l_1 are convex in s too. In a box of many intervals with positive semidefinite H the largest H has
the largest norm, ||H|| = max s'Hs over signs, and so have its diagonal blocks; elsewhere
||(H - H_0)_ij|| <= sum_c h_c ||(g_c)_i||_1 ||(g_c)_j||_1.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from theory.problems.blocks import block_norms, slices, strictly_lower
from theory.problems.certified import OUTWARD
from theory.problems.sup import SupConstants, block_sup_norms, sup_norm

Array = np.ndarray

MOST_INTERVALS = 8
"""2^8 vertices of a box are cheap; beyond, the bound by half widths is used."""


@dataclass(frozen=True)
class Curvature:
    """Bounds of all averaged Hessians H.

    Attributes:
        L: as in `Problem`.
        mu: as in `Problem`.
        L_ij: as in `Problem`.
        centre: H_0, (d, d).
        spread: at least ||(H - H_0)_ij||, (D, D).
        extremes: averaged Hessians that have the largest norm from l_inf to l_1, of everything and of every block,
            (p, d, d).
        sup_spread: at least ||(H - H_0)_ij|| from l_inf to l_1, (D, D); None where `extremes` have the pairs too.
    """

    L: float
    mu: float
    L_ij: Array
    centre: Array
    spread: Array
    extremes: Array
    sup_spread: Array | None = None

    def sup_constants(self, sizes: Sequence[int]) -> SupConstants:
        """Lipschitz constants from l_inf to l_1, not rounded.

        Raises:
            ValueError: when the weights have many intervals and H is indefinite.
        """
        if not len(self.extremes):
            raise ValueError(
                f"mu={self.mu:.3g} is not possible: constants from l_inf to l_1 need a convex f or at most "
                f"{MOST_INTERVALS} weights"
            )
        pairs = block_sup_norms(self.extremes, sizes)
        blocks = np.diag(pairs).copy()
        if self.sup_spread is not None:
            pairs = block_sup_norms(self.centre, sizes) + self.sup_spread
            np.fill_diagonal(pairs, blocks)
        return SupConstants(sup_norm(self.extremes), blocks, pairs)

    def triangular(self, sizes: Sequence[int], order: Sequence[int]) -> float:
        """Lambda of Lemma T: row i averages H over its own segments, hence its own weights, around H_0."""
        centre = np.linalg.norm(strictly_lower(self.centre, sizes, order), 2)
        spread = np.linalg.norm(np.tril(self.spread[np.ix_(order, order)], -1), 2)
        return float(centre + spread)


def hull(base: Array, rows: Array, vertices: Array, sizes: Sequence[int]) -> Curvature:
    """Weights in the convex hull of the vertices.

    Args:
        base: B, (d, d).
        rows: g_c, (m, d).
        vertices: (p, m).
        sizes: d_1, ..., d_D.
    """
    hessians = base + np.einsum("pc,ca,cb->pab", vertices, rows, rows)
    eigenvalues = np.linalg.eigvalsh(hessians)
    mu = float(eigenvalues.min())
    centre = (hessians.max(axis=0) + hessians.min(axis=0)) / 2
    return Curvature(
        L=max(float(eigenvalues.max()), -mu),
        mu=mu,
        L_ij=block_norms(hessians, sizes).max(axis=0),
        centre=centre,
        spread=block_norms(hessians - centre, sizes).max(axis=0),
        extremes=hessians,
    )


def box(base: Array, rows: Array, low: Array, high: Array, sizes: Sequence[int]) -> Curvature:
    """Weights low_c <= s_c <= high_c, each of shape (m,)."""
    if len(low) <= MOST_INTERVALS:
        return hull(base, rows, np.array(list(itertools.product(*zip(low, high, strict=True)))), sizes)

    def hessian(weights: Array) -> Array:
        return base + rows.T * weights @ rows

    smallest, largest, centre = hessian(low), hessian(high), hessian((low + high) / 2)
    scaled = rows * np.sqrt((high - low) / 2)[:, None]
    sides = np.array([np.linalg.norm(scaled[:, part], 2) for part in slices(sizes)])
    spread = np.outer(sides, sides)
    L_ij = block_norms(centre, sizes) + spread
    for i, part in enumerate(slices(sizes)):
        top = np.linalg.eigvalsh(largest[part, part])[-1]
        L_ij[i, i] = max(top, -np.linalg.eigvalsh(smallest[part, part])[0])
    mu = float(np.linalg.eigvalsh(smallest)[0])
    lengths = np.stack([abs(rows[:, part]).sum(axis=1) for part in slices(sizes)], axis=1)  # (m, D)
    return Curvature(
        L=max(float(np.linalg.eigvalsh(largest)[-1]), -mu),
        mu=mu,
        L_ij=L_ij,
        centre=centre,
        spread=spread,
        # where mu is 0 up to rounding the constant is right up to rounding
        extremes=np.array([largest] if mu >= -OUTWARD * np.linalg.norm(largest, 2) else []),
        sup_spread=lengths.T * ((high - low) / 2) @ lengths,
    )
