"""What all problems share: constants rounded outwards, the gap above the minimum, exact copies of the data."""

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import mpmath
import numpy as np

from theory.numbers import convert, dot, exact, like
from theory.problems.blocks import slices
from theory.problems.sup import SupConstants

Array = np.ndarray

OUTWARD = 1e-13
"""Relative margin for the rounding of a constant that is computed in float64, about 450 units of rounding."""


class Certified:
    """Base of the problems; a subclass has value, gradient, decrease, gradient_scale, value_scale and objective.

    Attributes:
        data: names of the attributes that enter value and gradient, for `lifted`.
    """

    data: ClassVar[tuple[str, ...]] = ()
    _sup: SupConstants | None = None

    def certify(
        self,
        *,
        parameters: dict[str, Any],
        sizes: Sequence[int],
        start: Array,
        L_ij: Array,
        f_star: float,
        convex: bool,
        L: float = math.inf,
        mu: float = -math.inf,
        pl: float = 0.0,
        radius: float = math.inf,
        minimiser: Array | None = None,
        inverse: Array | None = None,
    ) -> None:
        """Set the constants; each argument is a valid bound up to float64 rounding.

        The spectral norm of (L_ij) bounds L; L bounds every L_i, (L - mu)/2 every other L_ij.

        Args:
            parameters: as in `Problem`, like all that are not named here.
            f_star: a true lower bound, without rounding.
            inverse: of the Hessian at the minimiser, for multi-precision.
        """
        self.parameters, self.sizes, self.slices = parameters, tuple(sizes), slices(sizes)
        self.start = start
        self.L = min(L, float(np.linalg.norm(L_ij, 2))) * (1 + OUTWARD)
        self.mu = max(mu - OUTWARD * self.L, 0.0 if convex else -self.L)
        off = np.where(np.eye(len(sizes), dtype=bool), self.L, (self.L - self.mu) / 2)
        self.L_ij = np.minimum(np.maximum(L_ij, L_ij.T) * (1 + OUTWARD), off)
        self.L_i = np.diag(self.L_ij).copy()
        self.f_star, self.convex = float(f_star), convex
        self.pl = max(pl * (1 - OUTWARD), self.mu, 0.0)
        self.radius = radius * (1 + OUTWARD)
        self.minimiser, self._inverse = minimiser, inverse

    @property
    def sup(self) -> SupConstants:
        """`sup_constants`, rounded upwards; they are made once, of the problem with float64 data."""
        if self._sup is None:
            found = self.sup_constants()
            up = 1 + OUTWARD
            self._sup = SupConstants(found.whole * up, found.blocks * up, found.pairs * up)
        return self._sup

    def sup_constants(self) -> SupConstants:
        """Lipschitz constants from l_inf to l_1, up to float64 rounding.

        Raises:
            ValueError: when the family has none.
        """
        raise ValueError(
            f"problem={type(self).__name__} is not possible: it has no certified Lipschitz constants from l_inf to l_1"
        )

    def value(self, x: Array) -> Array:
        raise NotImplementedError

    def gradient(self, x: Array) -> Array:
        raise NotImplementedError

    def decrease(self, x: Array, y: Array) -> Array:
        raise NotImplementedError

    def gap(self, x: Array) -> Array:
        """f(x) - f_star; for a strongly convex f with known minimiser f(x) - f(m) + ||grad f(m)||^2/(2 mu).

        That is at least f(x) - f*, by f* >= f(m) - ||grad f(m)||^2/(2 mu). m is the float64 minimiser; for mpf it is
        refined at the working precision by m <- m - B grad f(m), B the float64 inverse of the Hessian there. Each
        step gains about 13 digits, so that in 60 digits the gap is right to more than 50.
        """
        if self.minimiser is None or self.mu <= 0:
            return self.value(x) - like(self.f_star, x)
        point = like(self.minimiser, x)
        if self._inverse is not None and exact(x) and isinstance(point[0], mpmath.mpf):
            for _ in range(2 + mpmath.mp.dps // 10):
                point = point - self.gradient(point) @ self._inverse
        residual = self.gradient(point)
        return self.decrease(x, point) + dot(residual, residual) / like(2 * self.mu, x)

    def inside(self, x: Array) -> Array:
        return np.ones(np.shape(x)[:-1], dtype=bool)

    def triangular(self, order: Sequence[int]) -> float:
        return math.inf

    def lifted(self, number: Callable[[float], Any]) -> Self:
        other = copy.copy(self)
        for name in (*self.data, "start"):
            setattr(other, name, convert(getattr(self, name), number))
        return other
