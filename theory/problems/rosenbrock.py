"""Rosenbrock's banana valley: two scalar blocks, strongly curved coupling, PL on its sublevel sets."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from theory.problems.blocks import block_norms
from theory.problems.certified import OUTWARD, Certified
from theory.problems.family import Family
from theory.problems.problem import Array
from theory.problems.validation import at_least, choice

SLACK = 1.1
"""Widths of C in units of those of the sublevel set of x^0."""


class Rosenbrock(Certified):
    """f(x, y) = (1 - x)^2 + b (y - x^2)^2; minimum 0 at (1, 1) only.

    f <= F = f(x^0) implies |x - 1| <= sqrt(F) and |y - x^2| <= sqrt(F/b). With s = 1.1 sqrt(F), t = 1.1 sqrt(F/b) the
    set C = {|x - 1| <= s, x^2 - t <= y <= chord(x) + t} is convex, chord the secant of x^2 over [1-s, 1+s]; a descent
    step from f <= F stays in C, since along it the descent lemma gives f <= F as long as the segment is in C.

    Hessian [[2 + 12 b x^2 - 4 b y, -4 b x], [-4 b x, 2 b]]. On the lower edge d2_xx = 2 + 8 b x^2 + 4 b t, largest at
    |x| = X = 1 + s, where |d2_xy| is largest as well: L_1, L_12 and L are attained there. mu: on the upper edge d2_xx
    is a quadratic q(x); cells of [1-s, 1+s] with lower bounds of q and upper bounds of |x|.
    PL: f = ||r||^2 with residuals r = (1 - x, sqrt(b)(y - x^2)) and Jacobian J, ||grad f||^2 >= 4 sigma_min(J)^2 f;
    |det J| = sqrt(b), and the largest singular value grows with |x|, so pl = 2 sigma_min(J)^2 at |x| = X.
    Radius: |y - 1| <= |x^2 - 1| + |y - x^2|.

    f is rational.

    Args:
        num_blocks: 1 or 2.
        steepness: b > 0.
        seed: of the start, uniform in [-1.5, 1.5] x [-0.5, 2].

    Raises:
        ValueError: when an argument is outside its range.
    """

    data = ("steepness",)

    def __init__(self, *, num_blocks: int, steepness: float, seed: int = 0) -> None:
        choice("num_blocks", num_blocks, (1, 2))
        b = self.steepness = at_least("steepness", steepness, 0, strict=True)
        start = np.random.default_rng(seed).uniform([-1.5, -0.5], [1.5, 2.0])
        first = float(self.value(start)) * (1 + OUTWARD)
        s, t = SLACK * math.sqrt(first), SLACK * math.sqrt(first / b)
        self.half_width, self.half_height = s, t
        X = 1 + s
        worst = np.array([[2 + 8 * b * X**2 + 4 * b * t, 4 * b * X], [4 * b * X, 2 * b]])
        lowest, largest_x = self._upper_edge(cells=2000)
        edge = np.stack(
            [np.stack([lowest, 4 * b * largest_x]), np.stack([4 * b * largest_x, np.full_like(lowest, 2 * b)])]
        )
        mu = float(np.linalg.eigvalsh(np.moveaxis(edge, -1, 0))[:, 0].min())
        worst[0, 0] = max(worst[0, 0], -float(lowest.min()))
        L = max(float(np.linalg.norm(worst, 2)), -mu)
        jacobian = np.array([[-1.0, 0.0], [-2 * math.sqrt(b) * X, math.sqrt(b)]])
        reach = math.sqrt(first)
        sizes = [2] if num_blocks == 1 else [1, 1]
        self.certify(
            parameters={"num_blocks": num_blocks, "steepness": steepness, "seed": seed},
            sizes=sizes,
            start=start,
            L=L,
            mu=mu,
            L_ij=np.array([[L]]) if num_blocks == 1 else block_norms(worst, sizes),
            f_star=0.0,
            convex=False,
            pl=2 * float(np.linalg.svd(jacobian, compute_uv=False)[-1]) ** 2 * (1 - 1e-9),
            radius=math.hypot(reach, reach * (2 + reach) + math.sqrt(first / b)),
            minimiser=np.ones(2),
        )

    def _upper_edge(self, cells: int) -> tuple[Array, Array]:
        """On each cell of [1-s, 1+s]: the least d2_xx of C, convex in x and least at 1/3, and the largest |x|."""
        s, t, b = self.half_width, self.half_height, self.steepness
        ends = np.linspace(1 - s, 1 + s, cells + 1)
        x = np.clip(1 / 3, ends[:-1], ends[1:])
        return 2 + 12 * b * x**2 - 4 * b * (2 * x - (1 - s * s) + t), np.maximum(np.abs(ends[:-1]), np.abs(ends[1:]))

    def _terms(self, x: Array) -> tuple[Array, Array, Array]:
        return x[..., 0], 1 - x[..., 0], x[..., 1] - x[..., 0] * x[..., 0]

    def value(self, x: Array) -> Array:
        _, slow, valley = self._terms(x)
        return slow * slow + self.steepness * valley * valley

    def gradient(self, x: Array) -> Array:
        first, slow, valley = self._terms(x)
        steep = 2 * self.steepness * valley
        return np.stack([-2 * slow - 2 * first * steep, steep], axis=-1)

    def decrease(self, x: Array, y: Array) -> Array:
        """Differences of squares, from the differences of the residuals."""
        (first, slow, valley), (other, slow_y, valley_y) = self._terms(x), self._terms(y)
        dx = first - other
        change = (x - y)[..., 1] - dx * (first + other)
        return -dx * (slow + slow_y) + self.steepness * change * (valley + valley_y)

    def gradient_scale(self, x: Array) -> Array:
        first, second = np.abs(x[..., 0]), np.abs(x[..., 1])
        return 2 * (1 + first) + self.steepness * (2 + 4 * first) * (second + first**2)

    def value_scale(self, x: Array) -> Array:
        first, slow, valley = self._terms(x)
        terms = np.abs(valley) * (np.abs(x[..., 1]) + first**2)
        return np.abs(slow) * (1 + np.abs(first)) + self.steepness * terms

    def inside(self, x: Array) -> Array:
        s, t = self.half_width, self.half_height
        first, slow, valley = self._terms(x)
        below_chord = x[..., 1] <= 2 * first - (1 - s * s) + t
        return np.asarray((abs(slow) <= s) & (valley >= -t) & below_chord, dtype=bool)

    def objective(self, blocks: Sequence[Tensor]) -> Tensor:
        x, y = torch.cat(list(blocks))
        return (1 - x) ** 2 + self.steepness * (y - x**2) ** 2


@dataclass(frozen=True, kw_only=True)
class RosenbrockFamily(Family):
    """Sweep over `Rosenbrock`.

    Attributes:
        num_blocks: values of the number of blocks.
        steepness: values of b.
    """

    problem = Rosenbrock
    num_blocks: Sequence[int]
    steepness: Sequence[float]
