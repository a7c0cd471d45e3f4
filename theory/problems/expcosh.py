"""Mean of hyperbolic cosines: (L0, L1)-smooth, its Hessian grows with f, and no global L exists."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from theory.numbers import cosh, sinh
from theory.problems.curvature import hull
from theory.problems.family import BlockFamily
from theory.problems.problem import Array
from theory.problems.ridge import RidgeSum
from theory.problems.validation import at_least, block_sizes, positive_integer

SLACK = 1.5
"""f on C, in units of f(x^0)."""


class ExpCosh(RidgeSum):
    """f(x) = (1/m) sum_s cosh(a_s'x) on C = {x : f(x) <= 1.5 f(x^0)}; minimum 1 at x = 0.

    On C the weights cosh(a_s'x)/m of the Hessian are at least 1/m and add up to at most 1.5 f(x^0); this simplex has
    m + 1 vertices. f is strongly convex with mu = lambda_min(A'A)/m.
    A descent step from f(x) <= f(x^0) stays in C: along it the descent lemma holds as long as the segment is in C, and
    gives f <= f(x^0) there, while f is continuous and would have to pass the values in between before leaving C.
    Radius: sum_s cosh(u_s) <= m F gives ||u||^2 <= m arcosh(F)^2 (arcosh^2 is concave), so
    R = sqrt(m) arcosh(f(x^0))/sigma_min(A).

    Source: (L0, L1)-smoothness is from Zhang et al., arXiv 1905.11881.

    Args:
        sizes: d_1, ..., d_D.
        terms: m >= d.
        height: f(x^0) > 1.
        seed: for a_s (standard normal / sqrt(d)) and the direction of the start.

    Raises:
        ValueError: when an argument is outside its range.
    """

    def __init__(self, sizes: Sequence[int], *, terms: int, height: float, seed: int = 0) -> None:
        sizes = block_sizes(sizes)
        at_least("height", height, 1, strict=True)
        d, self.terms = sum(sizes), positive_integer("terms", terms)
        if terms < d:
            raise ValueError(f"terms={terms!r} is not possible: it must be at least {d}, the number of coordinates")
        generator = np.random.default_rng(seed)
        self.set_rows(np.zeros((d, d)), generator.standard_normal((terms, d)) / math.sqrt(d), np.zeros(terms))
        start = self._at_height(generator.standard_normal(d), height)
        self.ceiling = SLACK * float(self.value(start))
        one_above = (self.ceiling - 1) * np.eye(terms + 1, terms)  # the last row, 0, is the vertex f = 1
        vertices = 1 / terms + one_above
        least = float(np.linalg.svd(self.rows, compute_uv=False)[-1])
        self.certify_with(
            hull(self.base, self.rows, vertices, sizes),
            parameters={
                "num_blocks": len(sizes),
                "block_sizes": sizes,
                "terms": terms,
                "height": height,
                "seed": seed,
            },
            sizes=sizes,
            start=start,
            f_star=1.0,
            convex=True,
            pl=least**2 / terms,
            radius=math.sqrt(terms) * math.acosh(float(self.value(start))) / least,
            minimiser=np.zeros(d),
        )

    def _at_height(self, direction: Array, height: float) -> Array:
        low, high = 0.0, math.acosh(self.terms * height) / float(np.abs(self.rows @ direction).max())
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if self.value(middle * direction) <= height else (low, middle)
        return low * direction

    def inside(self, x: Array) -> Array:
        # arcosh bounds every |u|, so that cosh does not overflow for points far away
        u = abs(self.directions(x))
        near = np.asarray((u <= math.acosh(self.terms * self.ceiling)).all(axis=-1), dtype=bool)
        return near & np.asarray(self.value(np.where(near[..., None], x, 0 * x)) <= self.ceiling, dtype=bool)

    def phi(self, u: Array) -> Array:
        return cosh(u) / self.terms

    def slope(self, u: Array) -> Array:
        return sinh(u) / self.terms

    def bend(self, u: Array) -> Array:
        return cosh(u) / self.terms

    def drop(self, u: Array, change: Array) -> Array:
        return 2 * sinh(u - change / 2) * sinh(change / 2) / self.terms

    def phi_torch(self, u: Tensor) -> Tensor:
        return torch.cosh(u) / self.terms


@dataclass(frozen=True, kw_only=True)
class ExpCoshFamily(BlockFamily):
    """Sweep over `ExpCosh`.

    Attributes:
        height: values of f(x^0).
        terms: m.
    """

    problem = ExpCosh
    height: Sequence[float]
    terms: int
