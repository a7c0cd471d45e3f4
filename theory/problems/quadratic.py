"""Block-coupled convex quadratics: every constant of the theorems is known exactly."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from theory.numbers import dot, norm
from theory.problems.blocks import block_norms, strictly_lower
from theory.problems.certified import OUTWARD, Certified
from theory.problems.family import BlockFamily
from theory.problems.problem import Array
from theory.problems.sup import SupConstants, block_sup_norms, sup_norm
from theory.problems.validation import at_least, block_sizes
from theory.problems.validation import positive_integer as positive_integer  # the bounds import it from here

LARGEST_CONDITION = 1e12
"""Above, the rounding of float64 reaches the smallest eigenvalue."""

SPREADING = ("condition", "heterogeneity", "coupling")
"""Parameters that bring the smallest eigenvalue closer to 0."""


def certifiable(name: str, value: Any, *, strict: bool = False) -> float:
    """`value` if it is a condition number that float64 certifies, at least 1 or if strict above, else ValueError."""
    value = at_least(name, value, 1, strict=strict)
    if value > LARGEST_CONDITION:
        raise ValueError(f"{name}={value!r} is not possible: float64 certifies it up to {LARGEST_CONDITION:g}")
    return value


class Quadratic(Certified):
    """f(x) = x'Ax/2 - b'x with A = Dg + s (A_0 - Dg), Dg the block diagonal of a random positive definite A_0.

    A is the convex combination (1-s) Dg + s A_0, hence positive definite for every s in [0, 1]; s = 0 separates
    the blocks. A_0 = S Q diag(spectrum) Q' S with Q random orthogonal, a log-uniform spectrum with extremes
    1/condition and 1, and S = one factor in [1, heterogeneity^(1/2)] for each block, so that the L_i differ.

    C = R^d, and f is rational: `lifted(Fraction)` works with exact numbers.

    Args:
        sizes: d_1, ..., d_D, the number of coordinates of each block.
        coupling: s in [0, 1].
        condition: condition number of Q diag(spectrum) Q', at least 1.
        heterogeneity: at least 1.
        seed: seed of the problem's own generator, for A_0, b and the start.

    Raises:
        ValueError: when an argument is outside its range.

    >>> Quadratic([1, 1], coupling=0.0, seed=0).triangular([0, 1])
    0.0
    """

    data = ("matrix", "linear")

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        coupling: float = 1.0,
        condition: float = 10.0,
        heterogeneity: float = 1.0,
        seed: int = 0,
    ) -> None:
        sizes = block_sizes(sizes)
        if isinstance(coupling, bool) or not isinstance(coupling, int | float) or not 0 <= coupling <= 1:
            raise ValueError(f"coupling={coupling!r} is not possible: it must be in [0, 1]")
        certifiable("condition", condition)
        certifiable("heterogeneity", heterogeneity)
        generator = np.random.default_rng(seed)
        d = sum(sizes)
        orthogonal, _ = np.linalg.qr(generator.standard_normal((d, d)))
        spectrum = condition ** -generator.uniform(size=d)
        spectrum[0], spectrum[-1] = 1 / condition, 1.0
        factors = np.repeat(heterogeneity ** (generator.uniform(size=len(sizes)) / 2), sizes)
        full = factors[:, None] * (orthogonal * spectrum) @ orthogonal.T * factors
        block = np.repeat(np.arange(len(sizes)), sizes)
        matrix = np.where(block[:, None] == block, full, coupling * full)
        parameters = {
            "num_blocks": len(sizes),
            "block_sizes": list(sizes),
            "coupling": coupling,
            "condition": condition,
            "heterogeneity": heterogeneity,
            "seed": seed,
        }
        self._set(matrix, generator.standard_normal(d), generator.standard_normal(d), sizes, parameters)

    @classmethod
    def from_matrix(
        cls, matrix: Array, *, sizes: Sequence[int], start: Array, linear: Array | None = None
    ) -> "Quadratic":
        """f(x) = x'Ax/2 - b'x from a given positive definite A; for equality cases and counterexamples.

        Args:
            matrix: A.
            linear: b, zero by default.
            sizes: d_1, ..., d_D.
            start: x^0.

        Raises:
            ValueError: when A is not symmetric positive definite or the shapes do not fit.
        """
        problem = cls.__new__(cls)
        matrix = np.asarray(matrix, dtype=np.float64)
        d = sum(sizes)
        if matrix.shape != (d, d) or np.shape(start) != (d,):
            raise ValueError(f"shapes {matrix.shape} and {np.shape(start)} do not fit sizes={list(sizes)}")
        if not np.array_equal(matrix, matrix.T):
            raise ValueError(f"the matrix is not symmetric: {matrix.tolist()}")
        parameters = {"num_blocks": len(sizes), "block_sizes": list(sizes), "coupling": None, "seed": None}
        linear = np.zeros(d) if linear is None else np.asarray(linear, dtype=np.float64)
        problem._set(matrix, linear, np.asarray(start, dtype=np.float64), sizes, parameters)
        return problem

    def _set(
        self, matrix: Array, linear: Array, start: Array, sizes: Sequence[int], parameters: dict[str, Any]
    ) -> None:
        self.matrix = (matrix + matrix.T) / 2  # the products of a constructor are symmetric only up to rounding
        self.linear = linear
        eigenvalues = np.linalg.eigvalsh(self.matrix)
        mu, L = float(eigenvalues[0]), float(eigenvalues[-1])
        if mu < -OUTWARD * L or not L > 0:
            raise ValueError(f"the matrix is not positive definite: its smallest eigenvalue is {mu:.3g}")
        if mu <= OUTWARD * L:
            given = ", ".join(f"{name}={parameters[name]}" for name in SPREADING if parameters.get(name) is not None)
            raise ValueError(
                f"{given or 'the matrix'} is not possible: the eigenvalues go from {mu:.3g} to {L:.3g}, and float64 "
                f"certifies a positive one only above {OUTWARD:g} times the largest"
            )
        self._largest = L
        self._tensors = torch.from_numpy(self.matrix), torch.from_numpy(linear)
        minimiser = np.linalg.solve(self.matrix, linear)
        residual = self.gradient(minimiser)
        rounding = OUTWARD * float(self.value_scale(minimiser))
        # The sublevel set is an ellipsoid around x*; its longest half-axis is sqrt(2 (f(x^0) - f*)/mu).
        lowest = float(self.value(minimiser) - residual @ residual / (2 * mu)) - rounding
        self.certify(
            parameters=parameters,
            sizes=sizes,
            start=start,
            L=L,
            mu=mu,
            L_ij=block_norms(self.matrix, sizes),
            f_star=lowest,
            convex=True,
            radius=math.sqrt(2 * (self.decrease(start, minimiser) + rounding) / (mu - OUTWARD * L)),
            minimiser=minimiser,
            inverse=np.linalg.inv(self.matrix),
        )

    def value(self, x: Array) -> Array:
        return dot(x, x @ self.matrix / 2 - self.linear)

    def gradient(self, x: Array) -> Array:
        return x @ self.matrix - self.linear

    def decrease(self, x: Array, y: Array) -> Array:
        """f(x) - f(y) = -(grad f(x) + grad f(y))'(y - x)/2, exact for quadratics."""
        return dot(self.gradient(x) + self.gradient(y), x - y) / 2

    def gradient_scale(self, x: Array) -> Array:
        return self._largest * norm(x) + norm(self.linear)

    def value_scale(self, x: Array) -> Array:
        reach = norm(x)
        return self._largest * reach**2 / 2 + norm(self.linear) * reach

    def triangular(self, order: Sequence[int]) -> float:
        """Lambda = || strictly lower block triangle of A, blocks in this order ||_2, exact for quadratics."""
        return float(np.linalg.norm(strictly_lower(self.matrix, self.sizes, order), 2)) * (1 + OUTWARD)

    def sup_constants(self) -> SupConstants:
        """The norms of A itself, exact for quadratics."""
        pairs = block_sup_norms(self.matrix, self.sizes)
        return SupConstants(sup_norm(self.matrix), np.diag(pairs).copy(), pairs)

    def objective(self, blocks: Sequence[Tensor]) -> Tensor:
        matrix, linear = self._tensors
        x = torch.cat(list(blocks))
        return x @ (matrix @ x / 2 - linear)


@dataclass(frozen=True, kw_only=True)
class QuadraticFamily(BlockFamily):
    """Sweep over `Quadratic`.

    Attributes:
        coupling: values of s; one block has none, so D = 1 uses the first value only.
        condition: as in `Quadratic`.
        heterogeneity: as in `Quadratic`.
    """

    problem = Quadratic
    coupling: Sequence[float]
    condition: float
    heterogeneity: float

    def arguments(self) -> Iterator[dict[str, Any]]:
        for row in super().arguments():
            if len(row["sizes"]) > 1 or row["coupling"] == self.coupling[0]:
                yield row
