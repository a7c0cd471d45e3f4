"""Functions over float64 arrays and over arrays of objects (mpmath.mpf, Fraction), so that a proof is written once.

numpy adds, multiplies, compares and sums arrays of any number type; roots and transcendental functions it knows for
floats only. Here they follow the type: float64 through numpy, anything else through mpmath at its working precision.
Fractions have sums and products only; the functions here turn them into mpf.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
from numpy.typing import ArrayLike

Array = np.ndarray

DIGITS = 60
"""Decimal digits of the multi-precision tier."""

TYPES: dict[str, Callable[[float], Any]] = {"float64": float, "mp": mpmath.mpf, "exact": Fraction}
"""Name of an arithmetic -> its number type, which takes every float64 exactly."""


def exact(x: Array) -> bool:
    """Whether the array holds number objects instead of float64."""
    return np.asarray(x).dtype == object


def _function(floats: Callable, objects: Callable, doc: str) -> Callable[[Array], Array]:
    each = np.frompyfunc(objects, 1, 1)

    def function(x: Array) -> Array:
        return each(x) if exact(x) else floats(x)

    function.__doc__ = doc
    return function


sqrt = _function(np.sqrt, mpmath.sqrt, "Square root, elementwise.")
exp = _function(np.exp, mpmath.exp, "Exponential, elementwise.")
expm1 = _function(np.expm1, mpmath.expm1, "exp(x) - 1, elementwise.")
log = _function(np.log, mpmath.log, "Natural logarithm, elementwise.")
log1p = _function(np.log1p, mpmath.log1p, "log(1 + x), elementwise.")
sin = _function(np.sin, mpmath.sin, "Sine, elementwise.")
cos = _function(np.cos, mpmath.cos, "Cosine, elementwise.")
tanh = _function(np.tanh, mpmath.tanh, "Hyperbolic tangent, elementwise.")
sinh = _function(np.sinh, mpmath.sinh, "Hyperbolic sine, elementwise.")
cosh = _function(np.cosh, mpmath.cosh, "Hyperbolic cosine, elementwise.")


def dot(x: Array, y: Array) -> Array:
    """Inner product along the last axis.

    >>> float(dot(np.array([1.0, 2.0]), np.array([3.0, 4.0])))
    11.0
    """
    return (x * y).sum(axis=-1)


def norm(x: Array) -> Array:
    """Euclidean norm along the last axis."""
    return sqrt(dot(x, x))


def convert(x: ArrayLike, number: Callable[[float], Any]) -> Any:
    """Every float64 as `number`, exactly: mpmath.mpf or Fraction. A scalar stays a scalar.

    >>> from fractions import Fraction
    >>> convert(0.5, Fraction), convert(np.array([0.25]), Fraction).tolist()
    (Fraction(1, 2), [Fraction(1, 4)])
    """
    return np.frompyfunc(number, 1, 1)(np.asarray(x, dtype=np.float64))


def like(y: ArrayLike, x: Array) -> Any:
    """The float64 numbers `y` in the number type of `x`: unchanged, or objects of the type of its elements."""
    return convert(y, type(np.asarray(x).flat[0])) if exact(x) else y


def lift(x: Array) -> Array:
    """float64 -> mpf, exactly; the start of a multi-precision trajectory.

    >>> lift(np.array([0.5]))[0]
    mpf('0.5')
    """
    return convert(x, mpmath.mpf)


def precision(arithmetic: str) -> AbstractContextManager:
    """Context in which numbers of this arithmetic have `DIGITS` digits.

    Raises:
        ValueError: when the arithmetic is not in `TYPES`.
    """
    if arithmetic not in TYPES:
        raise ValueError(f"arithmetic={arithmetic!r} is not one of {', '.join(TYPES)}")
    # Square roots of Fractions are multi-precision numbers too.
    return nullcontext() if arithmetic == "float64" else mpmath.workdps(DIGITS)
