"""Regularised logistic regression: smooth and strongly convex, not quadratic."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from theory.numbers import exp, expm1, log1p
from theory.problems.certified import OUTWARD
from theory.problems.curvature import box
from theory.problems.family import BlockFamily
from theory.problems.problem import Array
from theory.problems.ridge import RidgeSum
from theory.problems.validation import at_least, block_sizes, positive_integer


class Logistic(RidgeSum):
    """f(x) = (1/n) sum_s log(1 + exp(-y_s a_s'x)) + ridge ||x||^2/2, y_s = +-1.

    Hessian ridge I + (1/n) sum_s p_s(1-p_s) a_s a_s', weights in [0, 1/(4n)]: C = R^d, mu = ridge.
    f* >= f(m) - ||grad f(m)||^2/(2 mu) at the computed minimiser m. Radius sqrt(2 (f(x^0) - f*)/mu).

    Args:
        sizes: d_1, ..., d_D.
        samples: n.
        ridge: > 0.
        seed: for a_s (standard normal, columns scaled by factors in [1, 2]), labels with 10% flipped, and the start.

    Raises:
        ValueError: when an argument is outside its range.
    """

    def __init__(self, sizes: Sequence[int], *, samples: int, ridge: float, seed: int = 0) -> None:
        sizes = block_sizes(sizes)
        at_least("ridge", ridge, 0, strict=True)
        generator = np.random.default_rng(seed)
        d, n = sum(sizes), positive_integer("samples", samples)
        features = generator.standard_normal((n, d)) * generator.uniform(1, 2, size=d)
        labels = np.where(features @ generator.standard_normal(d) > 0, 1.0, -1.0)
        labels *= np.where(generator.uniform(size=n) < 0.1, -1.0, 1.0)
        self.samples = n
        self.set_rows(ridge * np.eye(d), labels[:, None] * features, np.zeros(n))
        start = 2 * generator.standard_normal(d)
        minimiser = self.nearly_minimal(start)
        lowest = self.lower_bound(minimiser, ridge * (1 - OUTWARD))
        gap = float(self.value(start)) - lowest + OUTWARD * float(self.value_scale(start))
        self.certify_with(
            box(self.base, self.rows, np.zeros(n), np.full(n, 0.25 / n), sizes),
            parameters={
                "num_blocks": len(sizes),
                "block_sizes": sizes,
                "samples": samples,
                "ridge": ridge,
                "seed": seed,
            },
            sizes=sizes,
            start=start,
            f_star=lowest,
            convex=True,
            radius=math.sqrt(2 * gap / ridge),
            minimiser=minimiser,
            inverse=np.linalg.inv(self.hessian(minimiser)),
        )

    def phi(self, u: Array) -> Array:
        return (log1p(exp(-abs(u))) + np.maximum(-u, 0)) / self.samples

    def slope(self, u: Array) -> Array:
        small = exp(-abs(u))  # never overflows
        return -np.where(u > 0, small, 1) / (1 + small) / self.samples

    def drop(self, u: Array, change: Array) -> Array:
        """log((1 + e^-u)/(1 + e^-v)) = log1p((e^-change - 1)/(1 + e^v)), v = u - change, for small changes."""
        v = u - change
        small = expm1(-np.minimum(np.maximum(change, -1), 1)) * -self.slope(v) * self.samples
        return np.where(abs(change) <= 1, log1p(small) / self.samples, self.phi(u) - self.phi(v))

    def bend(self, u: Array) -> Array:
        small = exp(-abs(u))
        return small / (1 + small) ** 2 / self.samples

    def phi_torch(self, u: Tensor) -> Tensor:
        # the default threshold, 20, is exact to 2e-9 only; exp(-40) is below the rounding of float64
        return torch.nn.functional.softplus(-u, threshold=40) / self.samples


@dataclass(frozen=True, kw_only=True)
class LogisticFamily(BlockFamily):
    """Sweep over `Logistic`.

    Attributes:
        ridge: values of the ridge.
        samples: n.
    """

    problem = Logistic
    ridge: Sequence[float]
    samples: int
