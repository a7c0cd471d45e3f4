"""Huber regression with outliers: convex, once differentiable, not strongly convex."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from theory.numbers import like
from theory.problems.certified import OUTWARD
from theory.problems.curvature import box
from theory.problems.family import BlockFamily
from theory.problems.problem import Array
from theory.problems.ridge import RidgeSum
from theory.problems.validation import at_least, block_sizes, positive_integer


class Huber(RidgeSum):
    """f(x) = (1/n) sum_s h(a_s'x - b_s), h(u) = u^2/2 for |u| <= delta, else delta |u| - delta^2/2.

    Averaged Hessians are (1/n) sum_s w_s a_s a_s' with weights in [0, 1]: C = R^d, mu = 0.
    f* by duality: h(u) = max{su - s^2/2 : |s| <= delta}, so every s with A's = 0, |s_c| <= delta gives
    n f(x) >= -b's - ||s||^2/2; s is the slope at a computed minimiser, projected and scaled to be feasible.
    Radius: where sum_s h(u_s) <= F, ||u|| <= reach(F) = F/delta + delta/2 if F >= delta^2/2, else sqrt(2F) (u^2 is a
    convex function of h, so that one residual has everything). Hence
    ||x - x*|| <= (reach(n f(x^0)) + reach(n f(m)))/sigma_min(A) for every minimiser x* and any point m.

    f is rational.

    Args:
        sizes: d_1, ..., d_D.
        samples: n >= d.
        delta: > 0.
        seed: for a_s (standard normal), b_s (linear, noise, every fifth an outlier) and the start (3 x standard
            normal).

    Raises:
        ValueError: when an argument is outside its range.
    """

    data = (*RidgeSum.data, "delta")

    def __init__(self, sizes: Sequence[int], *, samples: int, delta: float, seed: int = 0) -> None:
        sizes = block_sizes(sizes)
        d, n = sum(sizes), positive_integer("samples", samples)
        self.delta, self.samples = at_least("delta", delta, 0, strict=True), n
        if n < d:
            raise ValueError(
                f"samples={samples!r} is not possible: it must be at least {d}, the number of coordinates"
            )
        generator = np.random.default_rng(seed)
        rows = generator.standard_normal((n, d))
        offsets = rows @ generator.standard_normal(d) + 0.1 * generator.standard_normal(n)
        offsets[::5] += 5 * generator.standard_normal(len(offsets[::5]))
        self.set_rows(np.zeros((d, d)), rows, offsets)
        start = 3 * generator.standard_normal(d)
        point = self.nearly_minimal(start)
        reach = self._reach(float(self.value(start))) + self._reach(float(self.value(point)))
        parameters = {"num_blocks": len(sizes), "block_sizes": sizes, "samples": n, "delta": delta, "seed": seed}
        self.certify_with(
            box(self.base, rows, np.zeros(n), np.full(n, 1 / n), sizes),
            parameters=parameters,
            sizes=sizes,
            start=start,
            f_star=self._dual(point),
            convex=True,
            radius=reach / float(np.linalg.svd(rows, compute_uv=False)[-1]),
        )

    def _reach(self, value: float) -> float:
        total = value * self.samples
        return total / self.delta + self.delta / 2 if total > self.delta**2 / 2 else float(np.sqrt(2 * total))

    def _dual(self, point: Array) -> float:
        slopes = self.slope(self.directions(point)) * self.samples
        slopes -= self.rows @ np.linalg.lstsq(self.rows, slopes)[0]
        largest = float(np.abs(slopes).max())
        if largest > self.delta:  # 0 where the residuals vanish
            slopes *= self.delta / largest
        value = -self.offsets @ slopes - slopes @ slopes / 2
        # A's = 0 up to rounding only; x* lies within the radius, which the margin covers.
        scale = np.abs(self.offsets) @ np.abs(slopes) + slopes @ slopes + self.value_scale(point) * self.samples
        return float(value - OUTWARD * scale) / self.samples

    def phi(self, u: Array) -> Array:
        size = abs(u)
        return np.where(size <= self.delta, u * u / 2, self.delta * (size - self.delta / 2)) / self.samples

    def slope(self, u: Array) -> Array:
        return self._clip(u) / self.samples

    def _clip(self, u: Array) -> Array:
        return np.minimum(np.maximum(u, -self.delta), self.delta)

    def drop(self, u: Array, change: Array) -> Array:
        """h(u) = c u - c^2/2 with c the clipped u, hence h(u) - h(v) = c_u (u-v) + (c_u - c_v)(v - (c_u + c_v)/2)."""
        v, c_u, c_v = u - change, self._clip(u), self._clip(u - change)
        return (c_u * change + (c_u - c_v) * (v - (c_u + c_v) / 2)) / self.samples

    def bend(self, u: Array) -> Array:
        return like(np.where(abs(u) <= self.delta, 1.0, 0.0), u) / self.samples

    def phi_torch(self, u: Tensor) -> Tensor:
        return (
            torch.nn.functional.huber_loss(u, torch.zeros_like(u), reduction="none", delta=self.delta) / self.samples
        )


@dataclass(frozen=True, kw_only=True)
class HuberFamily(BlockFamily):
    """Sweep over `Huber`.

    Attributes:
        delta: values of delta.
        samples: n.
    """

    problem = Huber
    delta: Sequence[float]
    samples: int
