"""Sums of functions of one variable along fixed directions; five families are of this form."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from theory.numbers import dot
from theory.problems.certified import OUTWARD, Certified
from theory.problems.curvature import Curvature
from theory.problems.problem import Array
from theory.problems.sup import SupConstants


class RidgeSum(Certified):
    """f(x) = x'Bx/2 + sum_c phi_c(u_c), u = Gx - t, with Hessian B + G' diag(phi''(u)) G.

    A subclass has phi, slope = phi' and bend = phi'' on arrays (..., m), phi_torch, and drop(u, change) =
    phi(u) - phi(u - change), which must not cancel for a small change. `bend` is needed in float64 and mpf only.

    Attributes:
        base: B, (d, d).
        rows: G, (m, d).
        offsets: t, (m,).
    """

    data = ("base", "rows", "offsets")
    phi_torch: Callable[[Tensor], Tensor]

    def phi(self, u: Array) -> Array:
        raise NotImplementedError

    def slope(self, u: Array) -> Array:
        raise NotImplementedError

    def bend(self, u: Array) -> Array:
        raise NotImplementedError

    def drop(self, u: Array, change: Array) -> Array:
        raise NotImplementedError

    def set_rows(self, base: Array, rows: Array, offsets: Array) -> None:
        self.base, self.rows, self.offsets = base, rows, offsets
        self._tensors = tuple(torch.from_numpy(array.copy()) for array in (base, rows, offsets))
        self._sizes_of_rows = np.linalg.norm(rows, axis=1), np.linalg.norm(offsets), np.linalg.norm(base, 2)

    def certify_with(self, curvature: Curvature, **rest: Any) -> None:
        """`certify` with the constants of the curvature, and its Lambda."""
        self._curvature = curvature
        self.certify(L=curvature.L, mu=curvature.mu, L_ij=curvature.L_ij, **rest)

    def directions(self, x: Array) -> Array:
        """u = Gx - t, of shape (..., m)."""
        return x @ self.rows.T - self.offsets

    def value(self, x: Array) -> Array:
        return dot(x, x @ self.base) / 2 + self.phi(self.directions(x)).sum(axis=-1)

    def gradient(self, x: Array) -> Array:
        return x @ self.base + self.slope(self.directions(x)) @ self.rows

    def decrease(self, x: Array, y: Array) -> Array:
        quadratic = dot(x - y, (x + y) @ self.base) / 2
        return quadratic + self.drop(self.directions(x), (x - y) @ self.rows.T).sum(axis=-1)

    def hessian(self, x: Array) -> Array:
        """At one float64 point."""
        return self.base + self.rows.T * self.bend(self.directions(x)) @ self.rows

    def _rounding(self, x: Array) -> Array:
        rows, offsets, _ = self._sizes_of_rows
        return rows * np.linalg.norm(x, axis=-1)[..., None] + offsets  # of the terms summed in u

    def gradient_scale(self, x: Array) -> Array:
        u = self.directions(x)
        terms = np.abs(self.slope(u)) + np.abs(self.bend(u)) * self._rounding(x)
        return self._sizes_of_rows[2] * np.linalg.norm(x, axis=-1) + terms @ self._sizes_of_rows[0]

    def value_scale(self, x: Array) -> Array:
        u = self.directions(x)
        terms = np.abs(self.phi(u)) + np.abs(self.slope(u)) * self._rounding(x)
        return self._sizes_of_rows[2] * dot(x, x) / 2 + terms.sum(axis=-1)

    def triangular(self, order: Sequence[int]) -> float:
        return self._curvature.triangular(self.sizes, order) * (1 + OUTWARD)

    def sup_constants(self) -> SupConstants:
        return self._curvature.sup_constants(self.sizes)

    def objective(self, blocks: Sequence[Tensor]) -> Tensor:
        base, rows, offsets = self._tensors
        x = torch.cat(list(blocks))
        return x @ (base @ x) / 2 + self.phi_torch(rows @ x - offsets).sum()

    def nearly_minimal(self, start: Array) -> Array:
        """A point of float64 accuracy near the minimiser of a convex f; nothing is certified by it alone."""
        result = minimize(self.value, start, jac=self.gradient, method="BFGS", options={"gtol": 1e-9})
        point = np.asarray(result.x)
        for _ in range(4):
            step = np.linalg.lstsq(self.hessian(point), self.gradient(point))[0]
            if np.linalg.norm(self.gradient(point - step)) >= np.linalg.norm(self.gradient(point)):
                break
            point = point - step
        return point

    def lower_bound(self, point: Array, mu: float) -> float:
        """f(m) - ||grad f(m)||^2/(2 mu) <= f* for mu-strongly convex f, less the rounding of f(m)."""
        residual = self.gradient(point)
        return float(self.value(point) - residual @ residual / (2 * mu) - OUTWARD * self.value_scale(point))
