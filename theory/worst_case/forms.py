"""Forms: linear in function values, quadratic in vectors, with one Gram matrix for each block; exact Fractions.

A vector of block i is a combination of basis vectors of that block (gradients, steps, the start). Vectors of
different blocks are orthogonal, so that an inner product only ever meets one block and no orthogonality constraint
is needed: this is what one Gram matrix a block means.
"""

from collections import defaultdict
from collections.abc import Hashable, Mapping
from fractions import Fraction

Vector = Mapping[str, Fraction]
"""Basis vector -> coefficient; a basis vector that is missing has the coefficient 0."""


def combine(*terms: tuple[Fraction | int, Vector]) -> dict[str, Fraction]:
    """The sum of coefficient * vector.

    >>> combine((1, {"g": Fraction(2)}), (-2, {"g": Fraction(1), "s": Fraction(1)}))
    {'s': Fraction(-2, 1)}
    """
    total: dict[str, Fraction] = defaultdict(Fraction)
    for scale, vector in terms:
        for name, value in vector.items():
            total[name] += scale * value
    return {name: value for name, value in total.items() if value}


class Form:
    """sum_n values[n] f^n + sum_i sum_{a,b} grams[i][a, b] <a, b>, with grams[i] symmetric.

    Attributes:
        values: name of a function value -> coefficient.
        grams: block -> pair of basis vectors -> coefficient.
    """

    def __init__(self) -> None:
        self.values: dict[Hashable, Fraction] = defaultdict(Fraction)
        self.grams: dict[int, dict[tuple[str, str], Fraction]] = defaultdict(lambda: defaultdict(Fraction))

    def value(self, name: Hashable, scale: Fraction | int) -> "Form":
        """Add scale * f^name; returns self."""
        self.values[name] += scale
        return self

    def inner(self, block: int, u: Vector, v: Vector, scale: Fraction | int) -> "Form":
        """Add scale * <u, v> for two vectors of a block; returns self."""
        gram = self.grams[block]
        for a, u_a in u.items():
            for b, v_b in v.items():
                half = scale * u_a * v_b / 2
                gram[a, b] += half
                gram[b, a] += half
        return self

    def add(self, other: "Form", scale: Fraction | int = 1) -> "Form":
        """Add scale * other; returns self."""
        for name, value in other.values.items():
            self.values[name] += scale * value
        for block, gram in other.grams.items():
            for pair, value in gram.items():
                self.grams[block][pair] += scale * value
        return self
