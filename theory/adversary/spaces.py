"""Bounded coordinates of instances: what the search moves in, and the quadratics that they mean."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from theory.numbers import Array
from theory.problems.quadratic import Quadratic

Point = Mapping[str, Any]
"""Name of an axis -> value."""

STEEPEST = 6.0
"""Largest entry of a factor beside its diagonal of ones: two coordinates are correlated by up to 0.986."""


@dataclass(frozen=True)
class Axis:
    """A number in [low, high], on a logarithmic scale if `log`, or a choice among `values`.

    Raises:
        ValueError: when the range is empty, or logarithmic and not positive.
    """

    name: str
    low: float = -1.0
    high: float = 1.0
    log: bool = False
    values: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"axis {self.name}: [{self.low}, {self.high}] is not possible")

    @property
    def upper(self) -> float:
        """The coordinate of this axis is in [0, upper]; that of a choice is its index."""
        return float(len(self.values) - 1) if self.values else 1.0

    def value(self, coordinate: float) -> Any:
        """The value at a coordinate.

        >>> Axis("K", values=(1, 2, 4)).value(1.0), Axis("a", 0.01, 1.0, log=True).value(0.5)
        (2, 0.1)
        """
        if self.values:
            return self.values[round(coordinate)]
        if self.log:
            return self.low * (self.high / self.low) ** float(coordinate)
        return self.low + (self.high - self.low) * float(coordinate)


def decode(axes: Sequence[Axis], coordinates: Array) -> dict[str, Any]:
    """The point at these coordinates, shape (len(axes),)."""
    return {axis.name: axis.value(u) for axis, u in zip(axes, coordinates, strict=True)}


def matrix_axes(d: int) -> tuple[Axis, ...]:
    """Of positive definite matrices: entries of a unit lower triangular factor, then d - 1 ratios of scales."""
    factor = [Axis(f"m{row}{column}", -STEEPEST, STEEPEST) for row in range(d) for column in range(row)]
    return *factor, *(Axis(f"scale{row}", 0.1, 10.0, log=True) for row in range(1, d))


def start_axes(d: int, *, sizes: tuple[float, float] | None = None) -> tuple[Axis, ...]:
    """x^0, every entry in [-1, 1] times `size`; a theorem without a scale of its own needs none."""
    entries = tuple(Axis(f"x{row}") for row in range(d))
    return entries if sizes is None else (*entries, Axis("size", *sizes, log=True))


def matrix_of(point: Point, d: int) -> Array:
    """S M M' S: M unit lower triangular with rows scaled to norm one, S the scales, the first of them 1."""
    M = np.eye(d)
    for row in range(d):
        for column in range(row):
            M[row, column] = point[f"m{row}{column}"]
        M[row] /= np.linalg.norm(M[row])
    scale = np.array([1.0, *(point[f"scale{row}"] for row in range(1, d))])
    A = scale[:, None] * (M @ M.T) * scale
    return (A + A.T) / 2


def quadratic(point: Point, sizes: Sequence[int]) -> Quadratic:
    """f = x'Ax/2 with these blocks.

    Args:
        sizes: (d_1, ..., d_D), or point["sizes"] if the partition is an axis.
    """
    sizes = point.get("sizes", sizes)
    d = sum(sizes)
    start = point.get("size", 1.0) * np.array([point[f"x{row}"] for row in range(d)])
    if not start.any():  # the minimiser shows nothing
        start = np.ones(d)
    return Quadratic.from_matrix(matrix_of(point, d), sizes=list(sizes), start=start)
