"""Means of block diagonally dominant quadratics: the problem of statements about the order of the samples."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from theory.problems.blocks import block_norms
from theory.problems.certified import OUTWARD
from theory.problems.family import BlockFamily
from theory.problems.problem import Array
from theory.problems.quadratic import Quadratic
from theory.problems.validation import at_least, block_sizes, positive_integer

GRID = 2.0**20
"""Data are multiples of 1/GRID, so that a mean over 2^k samples has no rounding."""


class FiniteSum(Quadratic):
    """f = (1/n) sum_s f_s with f_s(x) = x'A_s x/2 - b_s'x; `matrix` and `linear` are the means of A_s and b_s.

    Every A_s has diagonal blocks with eigenvalues in [1/condition, 1] before rounding, and off-diagonal blocks with
    sum_{j != i} ||(A_s)_ij|| <= q lambda_min, lambda_min the least eigenvalue of all diagonal blocks.

    Args:
        sizes: d_1, ..., d_D.
        samples: n, a power of 2.
        dominance: q wanted, in [0, 1).
        condition: at least 1.
        seed: for everything; b_s and the start are standard normal.

    Attributes:
        matrices: A_s, (n, d, d).
        linears: b_s, (n, d).
        least: lower bound of the eigenvalues of all (A_s)_ii.
        most: upper bound of them.
        dominance: q, at least sum_{j != i} ||(A_s)_ij||/least for every s and i; rounded outwards as these two.

    Raises:
        ValueError: when an argument is outside its range.
    """

    data = (*Quadratic.data, "matrices", "linears")

    def __init__(
        self, sizes: Sequence[int], *, samples: int, dominance: float, condition: float = 2.0, seed: int = 0
    ) -> None:
        sizes, n = block_sizes(sizes), positive_integer("samples", samples)
        if n & (n - 1):
            raise ValueError(f"samples={n} is not possible: it must be a power of 2")
        if isinstance(dominance, bool) or not isinstance(dominance, int | float) or not 0 <= dominance < 1:
            raise ValueError(f"dominance={dominance!r} is not possible: it must be in [0, 1)")
        at_least("condition", condition, 1)
        if condition > GRID / 4:
            raise ValueError(
                f"condition={condition!r} is not possible: data on a grid of 2^-20 allow up to {GRID / 4:g}"
            )
        generator, d = np.random.default_rng(seed), sum(sizes)
        block = np.repeat(np.arange(len(sizes)), sizes)
        off = generator.standard_normal((n, d, d)) * (block[:, None] != block)
        off = off + off.transpose(0, 2, 1)
        most = block_norms(off, sizes).sum(axis=2).max()
        matrices = off * (dominance / condition / most if most > 0 else 0.0)
        for s in range(n):
            for rows in np.split(np.arange(d), np.cumsum(sizes)[:-1]):
                q, _ = np.linalg.qr(generator.standard_normal((len(rows), len(rows))))
                spectrum = condition ** -generator.uniform(size=len(rows))
                matrices[s][np.ix_(rows, rows)] = (q * spectrum) @ q.T
        matrices = np.round((matrices + matrices.transpose(0, 2, 1)) / 2 * GRID) / GRID
        linears = np.round(generator.standard_normal((n, d)) * GRID) / GRID
        self._collect(matrices, linears, generator.standard_normal(d), sizes)
        self.parameters.update(samples=n, dominance=dominance, condition=condition, seed=seed)

    @classmethod
    def from_parts(cls, matrices: ArrayLike, linears: ArrayLike, *, sizes: Sequence[int], start: Array) -> "FiniteSum":
        """From given A_s and b_s, whose means should have no rounding; for counter-examples."""
        problem = cls.__new__(cls)
        problem._collect(np.asarray(matrices, float), np.asarray(linears, float), np.asarray(start, float), sizes)
        return problem

    def _collect(self, matrices: Array, linears: Array, start: Array, sizes: Sequence[int]) -> None:
        self.matrices, self.linears = matrices, linears
        parameters = {"num_blocks": len(sizes), "block_sizes": list(sizes)}
        self._set(matrices.mean(axis=0), linears.mean(axis=0), start, sizes, parameters)
        diagonal = [np.linalg.eigvalsh(matrices[:, rows, rows]) for rows in self.slices]
        self.most = max(float(values.max()) for values in diagonal) * (1 + OUTWARD)
        self.least = min(float(values.min()) for values in diagonal) - OUTWARD * self.most
        norms = block_norms(matrices, sizes)
        others = float((norms * (1 - np.eye(len(sizes)))).sum(axis=2).max())
        self.dominance = others / self.least * (1 + OUTWARD) if self.least > 0 else np.inf


@dataclass(frozen=True, kw_only=True)
class FiniteSumFamily(BlockFamily):
    """Sweep over `FiniteSum`.

    Attributes:
        samples: values of n.
        dominance: values of q.
        condition: of the diagonal blocks.
    """

    problem = FiniteSum
    samples: Sequence[int]
    dominance: Sequence[float]
    condition: float
