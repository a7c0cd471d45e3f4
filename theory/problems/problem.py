"""What a bound may ask of a problem: values, gradients and constants that are certified, never estimated."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, Self

import numpy as np
from torch import Tensor

from theory.problems.sup import SupConstants

Array = np.ndarray


class Problem(Protocol):
    """min f(x) over x = (x_1, ..., x_D), with x_i of d_i coordinates, d = d_1 + ... + d_D.

    Points are flat arrays of shape (..., d), so that a whole trajectory is evaluated in one call: float64, or objects
    of mpmath.mpf for the multi-precision tier (`theory.numbers`). C is a convex set, all of R^d for most; elsewhere
    it contains a neighbourhood of {f <= f(x^0)}, and with it every point at which the proofs about descent use the
    constants: iterates, steps x - grad f(x)/L and x - U_i grad_i f(x)/L_i from them (Lemma S), w of line A0* (`a1`).

    Attributes:
        parameters: what identifies the instance, JSON values only (num_blocks, coupling, seed, ...).
        sizes: (d_1, ..., d_D).
        slices: where each block lies.
        start: x^0, shape (d,), inside C.
        f_star: a lower bound of f on R^d; the minimum where pl > 0.
        L: sup over C of ||d2 f||_2 at most.
        mu: a lower bound of the eigenvalues of d2 f on C; mu >= -L.
        L_i: shape (D,), Lipschitz constants of x_i -> gradient_i f on C.
        L_ij: shape (D, D), L_ij >= sup ||d2_ij f||_2 over C, with L_ii = L_i.
        convex: whether f is convex.
        pl: Polyak-Lojasiewicz constant, ||grad f||^2 >= 2 pl (f - f*) on C; 0 if none is known.
        radius: at least max{||x - x*|| : f(x) <= f(x^0)} for every minimiser x*; infinity if none is known.
        minimiser: the minimiser to float64 accuracy; None if it is not known or not unique.
        sup: Lipschitz constants of the gradient from l_inf to l_1 on C; a ValueError where none are certified.
    """

    parameters: dict[str, Any]
    sizes: tuple[int, ...]
    slices: list[slice]
    start: Array
    f_star: float
    L: float
    mu: float
    L_i: Array
    L_ij: Array
    convex: bool
    pl: float
    radius: float
    minimiser: Array | None

    @property
    def sup(self) -> SupConstants:
        """See the attributes."""
        ...

    def value(self, x: Array) -> Array:
        """f(x)."""
        ...

    def gradient(self, x: Array) -> Array:
        """Gradient of f, of the shape of x."""
        ...

    def decrease(self, x: Array, y: Array) -> Array:
        """f(x) - f(y), from x - y: its rounding is a few eps times gradient_scale ||x - y||, not value_scale."""
        ...

    def gap(self, x: Array) -> Array:
        """f(x) minus a lower bound of f: f_star, or a sharper one in multi-precision."""
        ...

    def gradient_scale(self, x: Array) -> Array:
        """Size of the terms that are summed in gradient(x): its rounding error is a few eps times this."""
        ...

    def value_scale(self, x: Array) -> Array:
        """Size of the terms that are summed in value(x): its rounding error is a few eps times this."""
        ...

    def inside(self, x: Array) -> Array:
        """Whether each point lies in C: a run must check it, for the constants hold nowhere else."""
        ...

    def triangular(self, order: Sequence[int]) -> float:
        """Best direct upper bound of Lambda of Lemma T for this order; infinity if none is known."""
        ...

    def objective(self, blocks: Sequence[Tensor]) -> Tensor:
        """f on D float64 tensors, differentiable by autograd: the argument of `bcd.minimise`."""
        ...

    def lifted(self, number: Callable[[float], Any]) -> Self:
        """The same problem with its data and start as `number` objects; Fraction needs a rational f."""
        ...


class ProblemFamily(Protocol):
    """The sweep over problems that a yaml in conf/problem describes."""

    def instances(self) -> Iterator[Problem]:
        """Every problem of the sweep, once."""
        ...

    def showcase(self) -> Problem:
        """The problem whose whole trajectory is recorded for the figures."""
        ...
