"""What a bound may ask of a problem: values, gradients and constants that are certified, never estimated."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from torch import Tensor

Array = np.ndarray


class Problem(Protocol):
    """min f(x) over x = (x_1, ..., x_D), with x_i of d_i coordinates, d = d_1 + ... + d_D.

    Points are flat float64 arrays of shape (..., d), so that a whole trajectory is evaluated in one call.

    parameters: what identifies the instance, JSON values only (num_blocks, coupling, seed, ...).
    sizes: (d_1, ..., d_D).     start: x^0, shape (d,).     f_star: a lower bound of f; the minimum if known.
    L: largest, mu: smallest eigenvalue that a Hessian may have; mu < 0 if f is not convex (mu = -L is always valid).
    L_i: shape (D,), Lipschitz constants of x_i -> gradient_i f.
    L_ij: shape (D, D), L_ij >= sup ||d2_ij f||_2, with L_ii = L_i.
    """

    parameters: dict[str, Any]
    sizes: tuple[int, ...]
    start: Array
    f_star: float
    L: float
    mu: float
    L_i: Array
    L_ij: Array

    def value(self, x: Array) -> Array:
        """f(x)."""
        ...

    def gradient(self, x: Array) -> Array:
        """Gradient of f, of the shape of x."""
        ...

    def decrease(self, x: Array, y: Array) -> Array:
        """f(x) - f(y), without the cancellation of two large values where the problem can avoid it."""
        ...

    def gap(self, x: Array) -> Array:
        """f(x) - f_star."""
        ...

    def gradient_scale(self, x: Array) -> Array:
        """Size of the terms that are summed in gradient(x): its rounding error is a few eps times this."""
        ...

    def triangular(self, order: Sequence[int]) -> float:
        """Best direct upper bound of Lambda of Lemma T for this order; infinity if none is known."""
        ...

    def objective(self, blocks: Sequence[Tensor]) -> Tensor:
        """f on D float64 tensors, differentiable by autograd: the argument of `bcd.minimise`."""
        ...


class ProblemFamily(Protocol):
    """The sweep over problems that a yaml in conf/problem describes."""

    def instances(self) -> Iterator[Problem]:
        """Every problem of the sweep, once."""
        ...

    def showcase(self) -> Problem:
        """The problem whose whole trajectory is recorded for the figures."""
        ...
