"""Nesterov's tridiagonal quadratic: the hard instance of first-order methods, a chain that couples only neighbours."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from theory.problems.family import BlockFamily
from theory.problems.quadratic import Quadratic, certifiable
from theory.problems.validation import block_sizes


class Nesterov(Quadratic):
    """f(x) = x'Ax/2 - b'x, A = ((c-1)/4) tridiag(-1, 2, -1) + I, b = ((c-1)/4) e_1.

    All eigenvalues lie in (1, c), so c is the condition number for d -> infinity. A gradient at one block moves its
    two neighbours only. The start is random; from 0 a gradient method changes one more coordinate each step.

    Source: Nesterov, Lectures on Convex Optimization, 2018, sections 2.1.2 and 2.1.4.

    Args:
        sizes: d_1, ..., d_D.
        condition: c > 1.
        seed: of the start, standard normal.

    Raises:
        ValueError: when an argument is outside its range.

    >>> Nesterov([1, 1], condition=5.0).matrix.tolist()
    [[3.0, -1.0], [-1.0, 3.0]]
    """

    def __init__(self, sizes: Sequence[int], *, condition: float, seed: int = 0) -> None:
        sizes = block_sizes(sizes)
        stiffness = (certifiable("condition", condition, strict=True) - 1) / 4
        d = sum(sizes)
        matrix = stiffness * (2 * np.eye(d) - np.eye(d, k=1) - np.eye(d, k=-1)) + np.eye(d)
        parameters = {"num_blocks": len(sizes), "block_sizes": sizes, "condition": condition, "seed": seed}
        start = np.random.default_rng(seed).standard_normal(d)
        self._set(matrix, stiffness * np.eye(d)[0], start, sizes, parameters)


@dataclass(frozen=True, kw_only=True)
class NesterovFamily(BlockFamily):
    """Sweep over `Nesterov`.

    Attributes:
        condition: values of c.
    """

    problem = Nesterov
    condition: Sequence[float]
