"""(L/2) x^2 in one variable: the problem of statements about the noise alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from theory.problems.family import Family
from theory.problems.quadratic import Quadratic
from theory.problems.validation import at_least


def parabola(curvature: float, seed: int = 0) -> Quadratic:
    """f(x) = (L/2) x^2 from x^0 = 1.

    Args:
        curvature: L > 0.
        seed: unused, nothing is random; every problem of a family has one.

    Raises:
        ValueError: when the curvature is not positive and finite.
    """
    at_least("curvature", curvature, 0, strict=True)
    problem = Quadratic.from_matrix(np.array([[float(curvature)]]), sizes=[1], start=np.ones(1))
    problem.parameters = {"num_blocks": 1, "block_sizes": [1], "curvature": curvature, "seed": seed}
    return problem


@dataclass(frozen=True, kw_only=True)
class ParabolaFamily(Family):
    """Sweep over the curvature L."""

    problem = staticmethod(parabola)
    curvature: Sequence[float]
