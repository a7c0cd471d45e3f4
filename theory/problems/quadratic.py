"""Block-coupled convex quadratics: every constant of the theorems is known exactly."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from theory.problems.problem import Array


def positive_integer(name: str, value: Any) -> int:
    """`value` if it is an integer >= 1, else ValueError."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name}={value!r} is not possible: it must be an integer of at least 1")
    return value


class Quadratic:
    """f(x) = x'Ax/2 - b'x with A = Dg + s (A_0 - Dg), Dg the block diagonal of a random positive definite A_0.

    A is the convex combination (1-s) Dg + s A_0, hence positive definite for every s in [0, 1]; s = 0 separates
    the blocks. A_0 = S Q diag(spectrum) Q' S with Q random orthogonal, a log-uniform spectrum with extremes
    1/condition and 1, and S = one factor in [1, heterogeneity^(1/2)] for each block, so that the L_i differ.

    sizes: d_1, ..., d_D, the number of coordinates of each block.
    coupling: s in [0, 1].
    condition: condition number of Q diag(spectrum) Q', at least 1.
    heterogeneity: at least 1.
    seed: seed of the problem's own generator, for A_0, b and the start.

    Raises ValueError when an argument is outside its range.

    >>> Quadratic([1, 1], coupling=0.0, seed=0).triangular([0, 1])
    0.0
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        coupling: float = 1.0,
        condition: float = 10.0,
        heterogeneity: float = 1.0,
        seed: int = 0,
    ) -> None:
        if not sizes:
            raise ValueError("sizes=[] is not possible: at least one block is needed")
        sizes = [positive_integer("size of a block", size) for size in sizes]
        if not 0 <= coupling <= 1:
            raise ValueError(f"coupling={coupling!r} is not possible: it must be in [0, 1]")
        for name, value in (("condition", condition), ("heterogeneity", heterogeneity)):
            if not 1 <= value < math.inf:
                raise ValueError(f"{name}={value!r} is not possible: it must be at least 1 and finite")
        generator = np.random.default_rng(seed)
        d = sum(sizes)
        orthogonal, _ = np.linalg.qr(generator.standard_normal((d, d)))
        spectrum = condition ** -generator.uniform(size=d)
        spectrum[0], spectrum[-1] = 1 / condition, 1.0
        factors = np.repeat(heterogeneity ** (generator.uniform(size=len(sizes)) / 2), sizes)
        full = factors[:, None] * (orthogonal * spectrum) @ orthogonal.T * factors
        block = np.repeat(np.arange(len(sizes)), sizes)
        matrix = np.where(block[:, None] == block, full, coupling * full)
        self._set(matrix, generator.standard_normal(d), generator.standard_normal(d), sizes)
        self.parameters = {
            "num_blocks": len(sizes),
            "block_sizes": list(sizes),
            "coupling": coupling,
            "condition": condition,
            "heterogeneity": heterogeneity,
            "seed": seed,
        }

    @classmethod
    def from_matrix(
        cls, matrix: Array, *, sizes: Sequence[int], start: Array, linear: Array | None = None
    ) -> "Quadratic":
        """f(x) = x'Ax/2 - b'x from a given positive definite A; for equality cases and counterexamples.

        matrix: A.     linear: b, zero by default.     sizes: d_1, ..., d_D.     start: x^0.

        Raises ValueError when A is not symmetric positive definite or the shapes do not fit.
        """
        problem = cls.__new__(cls)
        matrix = np.asarray(matrix, dtype=np.float64)
        d = sum(sizes)
        if matrix.shape != (d, d) or np.shape(start) != (d,):
            raise ValueError(f"shapes {matrix.shape} and {np.shape(start)} do not fit sizes={list(sizes)}")
        if not np.array_equal(matrix, matrix.T):
            raise ValueError(f"the matrix is not symmetric: {matrix.tolist()}")
        problem._set(matrix, np.zeros(d) if linear is None else linear, np.asarray(start, dtype=np.float64), sizes)
        problem.parameters = {"num_blocks": len(sizes), "block_sizes": list(sizes), "coupling": None, "seed": None}
        return problem

    def _set(self, matrix: Array, linear: Array, start: Array, sizes: Sequence[int]) -> None:
        self.matrix = (matrix + matrix.T) / 2  # the products above are symmetric only up to rounding
        self.linear = linear
        self.start = start
        self.sizes = tuple(sizes)
        ends = list(itertools.accumulate(sizes))
        self.slices = [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]
        eigenvalues = np.linalg.eigvalsh(self.matrix)
        self.mu, self.L = float(eigenvalues[0]), float(eigenvalues[-1])
        if self.mu <= 0:
            raise ValueError(f"the matrix is not positive definite: its smallest eigenvalue is {self.mu:.3g}")
        self.L_ij = np.array([[np.linalg.norm(self.matrix[a, b], 2) for b in self.slices] for a in self.slices])
        self.L_i = np.diag(self.L_ij).copy()
        self.minimiser = np.linalg.solve(self.matrix, linear)
        self.f_star = float(-linear @ self.minimiser / 2)
        self._tensors = torch.from_numpy(self.matrix), torch.from_numpy(np.asarray(linear))

    def value(self, x: Array) -> Array:
        return np.einsum("...i,...i->...", x, x @ self.matrix / 2 - self.linear)

    def gradient(self, x: Array) -> Array:
        return x @ self.matrix - self.linear

    def decrease(self, x: Array, y: Array) -> Array:
        """f(x) - f(y) = -(grad f(x) + grad f(y))'(y - x)/2, exact for quadratics."""
        return np.einsum("...i,...i->...", self.gradient(x) + self.gradient(y), x - y) / 2

    def gap(self, x: Array) -> Array:
        return self.decrease(x, self.minimiser)

    def gradient_scale(self, x: Array) -> Array:
        return self.L * np.linalg.norm(x, axis=-1) + np.linalg.norm(self.linear)

    def triangular(self, order: Sequence[int]) -> float:
        """Lambda = || strictly lower block triangle of A, blocks in this order ||_2, exact for quadratics."""
        position = np.empty(len(self.sizes), dtype=int)
        position[list(order)] = np.arange(len(self.sizes))
        rank = np.repeat(position, self.sizes)
        return float(np.linalg.norm(np.where(rank[:, None] > rank, self.matrix, 0.0), 2))

    def objective(self, blocks: Sequence[Tensor]) -> Tensor:
        matrix, linear = self._tensors
        x = torch.cat(list(blocks))
        return x @ (matrix @ x / 2 - linear)


@dataclass(frozen=True)
class QuadraticFamily:
    """Sweep over `Quadratic`: every combination of the lists, without duplicates.

    num_blocks: values of D.
    block_sizes: patterns of block sizes, each repeated up to D blocks: [1, 3] at D = 4 gives sizes 1, 3, 1, 3.
    coupling: values of s; one block has none, so D = 1 uses the first value only.
    condition, heterogeneity: as in `Quadratic`.
    seeds: number of seeds, 0, 1, ...
    example: arguments of the `Quadratic` that `showcase` returns.

    Raises ValueError when a list is empty or a value is outside its range.
    """

    num_blocks: Sequence[int]
    block_sizes: Sequence[Sequence[int]]
    coupling: Sequence[float]
    condition: float
    heterogeneity: float
    seeds: int
    example: Mapping[str, Any]

    def __post_init__(self) -> None:
        for name in ("num_blocks", "block_sizes", "coupling"):
            if isinstance(getattr(self, name), int | float | str) or not len(getattr(self, name)):
                raise ValueError(f"{name}={getattr(self, name)!r} is not possible: it must be a list of values")
        for count in self.num_blocks:
            positive_integer("num_blocks", count)
        positive_integer("seeds", self.seeds)
        for sizes in self.block_sizes:
            if isinstance(sizes, int | float | str):
                raise ValueError(f"block_sizes={self.block_sizes!r} is not possible: it must be a list of lists")
        for sizes, coupling in itertools.product(self.block_sizes, self.coupling):
            Quadratic(sizes, coupling=coupling, condition=self.condition, heterogeneity=self.heterogeneity)
        self.showcase()

    def instances(self) -> Iterator[Quadratic]:
        for count in self.num_blocks:
            patterns = {tuple(itertools.islice(itertools.cycle(sizes), count)) for sizes in self.block_sizes}
            couplings = self.coupling if count > 1 else self.coupling[:1]
            for sizes, coupling, seed in itertools.product(sorted(patterns), couplings, range(self.seeds)):
                yield Quadratic(
                    sizes,
                    coupling=coupling,
                    condition=self.condition,
                    heterogeneity=self.heterogeneity,
                    seed=seed,
                )

    def showcase(self) -> Quadratic:
        try:
            return Quadratic(**self.example)
        except TypeError as error:
            raise ValueError(f"example={dict(self.example)} is not possible: {error}") from error
