"""Quadratic plus cosines: smooth and nonconvex, with constants attained up to the phases."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from theory.numbers import cos, sin
from theory.problems.certified import OUTWARD
from theory.problems.curvature import box
from theory.problems.family import BlockFamily
from theory.problems.problem import Array
from theory.problems.quadratic import Quadratic
from theory.problems.ridge import RidgeSum
from theory.problems.validation import at_least, block_sizes, positive_integer


class QuadCos(RidgeSum):
    """f(x) = x'Ax/2 + sum_{c<=m} a_c cos(w_c'x - t_c), A the matrix of a `Quadratic`.

    Hessian A - sum_c a_c cos(.) w_c w_c', weights in [-a_c, a_c] for all x: C = R^d.
    f* >= -sum_c a_c. Where f(x) <= f(x^0), ||x||^2 <= r^2 = 2 (f(x^0) + sum_c a_c)/lambda_min(A), and the minimiser is
    there too, so the radius is 2r. Small amplitudes leave f strongly convex; then f* is sharp, as for `Logistic`.

    Args:
        sizes: d_1, ..., d_D.
        amplitude: a_c is uniform in [amplitude/2, amplitude].
        terms: m.
        seed: for A, a, w (standard normal), t (uniform phases) and the start (twice standard normal).

    Raises:
        ValueError: when an argument is outside its range.
    """

    data = (*RidgeSum.data, "amplitudes")

    def __init__(self, sizes: Sequence[int], *, amplitude: float, terms: int, seed: int = 0) -> None:
        sizes = block_sizes(sizes)
        at_least("amplitude", amplitude, 0, strict=True)
        generator = np.random.default_rng(seed)
        d, m = sum(sizes), positive_integer("terms", terms)
        matrix = Quadratic(sizes, condition=10.0, seed=seed)
        self.amplitudes = amplitude * generator.uniform(0.5, 1, size=m)
        self.set_rows(matrix.matrix, generator.standard_normal((m, d)), generator.uniform(0, 2 * np.pi, size=m))
        start = 2 * generator.standard_normal(d)
        lowest = -float(self.amplitudes.sum())
        radius = 2 * math.sqrt(2 * (float(self.value(start)) - lowest) / matrix.mu)
        curvature = box(matrix.matrix, self.rows, -self.amplitudes, self.amplitudes, sizes)
        minimiser = inverse = None
        if convex := curvature.mu > OUTWARD * curvature.L:
            minimiser = self.nearly_minimal(start)
            inverse = np.linalg.inv(self.hessian(minimiser))
            lowest = self.lower_bound(minimiser, curvature.mu)
        self.certify_with(
            curvature,
            parameters={
                "num_blocks": len(sizes),
                "block_sizes": sizes,
                "amplitude": amplitude,
                "terms": terms,
                "seed": seed,
            },
            sizes=sizes,
            start=start,
            f_star=np.nextafter(lowest, -np.inf),
            convex=convex,
            radius=radius,
            minimiser=minimiser,
            inverse=inverse,
        )

    def phi(self, u: Array) -> Array:
        return self.amplitudes * cos(u)

    def slope(self, u: Array) -> Array:
        return -self.amplitudes * sin(u)

    def bend(self, u: Array) -> Array:
        return -self.amplitudes * cos(u)

    def drop(self, u: Array, change: Array) -> Array:
        return self.amplitudes * (-2) * sin(u - change / 2) * sin(change / 2)

    def phi_torch(self, u: Tensor) -> Tensor:
        return torch.from_numpy(self.amplitudes) * torch.cos(u)


@dataclass(frozen=True, kw_only=True)
class QuadCosFamily(BlockFamily):
    """Sweep over `QuadCos`.

    Attributes:
        amplitude: values of the amplitude.
        terms: m.
    """

    problem = QuadCos
    amplitude: Sequence[float]
    terms: int
