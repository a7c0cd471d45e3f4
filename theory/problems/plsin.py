"""u^2 + 3 sin(u)^2 in transformed coordinates: nonconvex, and gradient descent still converges linearly."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from theory.numbers import cos, sin
from theory.problems.curvature import box
from theory.problems.family import BlockFamily
from theory.problems.problem import Array
from theory.problems.quadratic import certifiable
from theory.problems.ridge import RidgeSum
from theory.problems.validation import block_sizes


@functools.cache
def pl_of_one_term(cells: int = 200000) -> float:
    """Certified min of phi'(u)^2/(2 phi(u)), phi(u) = u^2 + 3 sin(u)^2; the literature's value is 1/32.

    |u| <= 1/2: phi'' >= 2 + 6 cos 1 > 5.2 and phi'' <= 8, so the ratio is at least 5.2^2/8 > 3.
    u >= 3: phi' >= 2u - 3 and phi <= u^2 + 3, so it is at least (2u - 3)^2/(2 (u^2 + 3)) >= 9/24, increasing in u.
    Between: cells of half width h, on which phi' and phi move by at most 8h and (2u + 3)h from the middle.

    >>> 0.175 < pl_of_one_term() < 0.176
    True
    """
    h = 2.5 / cells / 2
    u = 0.5 + h * (2 * np.arange(cells) + 1)
    slope = np.maximum(np.abs(2 * u + 3 * np.sin(2 * u)) - 8 * h, 0)
    value = u**2 + 3 * np.sin(u) ** 2 + (2 * (u + h) + 3) * h
    return min(9 / 24, float((slope**2 / (2 * value)).min()) * (1 - 1e-12))


class PLSin(RidgeSum):
    """f(x) = sum_c u_c^2 + 3 sin(u_c)^2, u = B(x - m), B (d, d) invertible; minimum 0 at m only.

    Curvatures 2 + 6 cos(2u_c) in [-4, 8]: C = R^d. With s = sigma_min(B) and mu_1 = `pl_of_one_term()`:
    ||grad f||^2 >= s^2 sum_c phi'(u_c)^2 >= 2 s^2 mu_1 f, and f(x) <= F gives ||x - m||^2 <= ||u||^2/s^2 <= F/s^2.
    m != 0: at 0 float64 would resolve distances down to 1e-324, and no relative tolerance survives that underflow.

    Source: the scalar function is from Karimi, Nutini and Schmidt, arXiv 1608.04636.

    Args:
        sizes: d_1, ..., d_D.
        condition: of B, at least 1; its singular values are log-uniform in [1/condition, 1].
        seed: for B, m (standard normal) and the start, m + 3 x standard normal.

    Raises:
        ValueError: when an argument is outside its range.
    """

    def __init__(self, sizes: Sequence[int], *, condition: float, seed: int = 0) -> None:
        sizes = block_sizes(sizes)
        certifiable("condition", condition)
        generator = np.random.default_rng(seed)
        d = sum(sizes)
        (left, _), (right, _) = (np.linalg.qr(generator.standard_normal((d, d))) for _ in range(2))
        singular = condition ** -generator.uniform(size=d)
        singular[0], singular[-1] = 1 / condition, 1.0
        rows, minimiser = left * singular @ right, generator.standard_normal(d)
        self.set_rows(np.zeros((d, d)), rows, rows @ minimiser)
        least = float(np.linalg.svd(self.rows, compute_uv=False)[-1])
        start = minimiser + 3 * generator.standard_normal(d)
        parameters = {"num_blocks": len(sizes), "block_sizes": sizes, "condition": condition, "seed": seed}
        self.certify_with(
            box(self.base, self.rows, np.full(d, -4.0), np.full(d, 8.0), sizes),
            parameters=parameters,
            sizes=sizes,
            start=start,
            f_star=0.0,
            convex=False,
            pl=least**2 * pl_of_one_term(),
            radius=math.sqrt(float(self.value(start))) / least,
            minimiser=minimiser,
        )

    def phi(self, u: Array) -> Array:
        return u * u + 3 * sin(u) ** 2

    def slope(self, u: Array) -> Array:
        return 2 * u + 3 * sin(2 * u)

    def bend(self, u: Array) -> Array:
        return 2 + 6 * cos(2 * u)

    def drop(self, u: Array, change: Array) -> Array:
        both = 2 * u - change
        return change * both + 3 * sin(both) * sin(change)

    def phi_torch(self, u: Tensor) -> Tensor:
        return u**2 + 3 * torch.sin(u) ** 2


@dataclass(frozen=True, kw_only=True)
class PLSinFamily(BlockFamily):
    """Sweep over `PLSin`.

    Attributes:
        condition: values of the condition of B.
    """

    problem = PLSin
    condition: Sequence[float]
