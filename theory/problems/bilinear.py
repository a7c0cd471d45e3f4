"""Two linear terms and their product: the counter-example to published statements on BAdam."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from theory.numbers import dot
from theory.problems.certified import Certified
from theory.problems.problem import Array
from theory.problems.validation import at_least, positive_integer


class Bilinear(Certified):
    """f(x, y) = a x + b y + c x y from the start (0, 0), two scalar blocks, c = b (a + eps)/(rate K a).

    In block x the gradient is the constant a, so K steps of Adam's rule with lr `rate` move x by
    -rate K a/(a + eps) = -b/c whatever the betas are; then the gradient b + c x of block y is zero. The epoch gains
    what block x gains, though grad f(0, 0) = (a, b).

    f is linear in each block, so that every L_i > 0 is a Lipschitz constant; L_i = 1 is taken. L = |c|. f is not
    bounded below: f_star = -infinity.

    Args:
        slope: a > 0.
        ratio: b/a > 0.
        inner_steps: K.
        eps: Adam's.
        rate: step size for which the above holds.
    """

    data = ("a", "b", "c")

    def __init__(self, *, slope: float, ratio: float, inner_steps: int, rate: float, eps: float) -> None:
        positive_integer("inner_steps", inner_steps)
        for name, value in {"slope": slope, "ratio": ratio, "rate": rate, "eps": eps}.items():
            at_least(name, value, 0, strict=True)
        self.a, self.b = float(slope), float(ratio * slope)
        self.c = self.b * (slope + eps) / (rate * inner_steps * slope)
        if not self.c >= 1:
            raise ValueError(f"rate={rate!r} is not possible: L={self.c:.3g} must be at least L_i = 1")
        self.certify(
            parameters={"num_blocks": 2, "ratio": ratio, "inner_steps": inner_steps, "rate": rate, "eps": eps},
            sizes=[1, 1],
            start=np.zeros(2),
            L_ij=np.array([[1.0, self.c], [self.c, 1.0]]),
            L=self.c,
            mu=-self.c,
            f_star=-np.inf,
            convex=False,
        )

    def value(self, x: Array) -> Array:
        first, second = x[..., 0], x[..., 1]
        return self.a * first + self.b * second + self.c * first * second

    def gradient(self, x: Array) -> Array:
        return np.stack([self.a + self.c * x[..., 1], self.b + self.c * x[..., 0]], axis=-1)

    def decrease(self, x: Array, y: Array) -> Array:
        return dot(self.gradient(x) + self.gradient(y), x - y) / 2  # exact for quadratic functions

    def gradient_scale(self, x: Array) -> Array:
        return self.a + self.b + self.c * np.abs(x).sum(axis=-1)

    def value_scale(self, x: Array) -> Array:
        first, second = np.abs(x[..., 0]), np.abs(x[..., 1])
        return self.a * first + self.b * second + self.c * first * second

    def objective(self, blocks: Sequence[Tensor]) -> Tensor:
        x = torch.cat(list(blocks))
        return self.a * x[0] + self.b * x[1] + self.c * x[0] * x[1]


@dataclass(frozen=True, kw_only=True)
class BilinearFamily:
    """The listed instances; nothing is random.

    Attributes:
        slope: of all instances.
        eps: of all instances.
        example: one instance, for the showcase.
        counter_examples: mappings with ratio, inner_steps and rate.
    """

    slope: float
    eps: float
    counter_examples: Sequence[Mapping[str, Any]]
    example: Mapping[str, Any]

    problem: ClassVar[type[Bilinear]] = Bilinear

    def __post_init__(self) -> None:
        self.instances()
        self.showcase()

    def instances(self) -> list[Bilinear]:
        try:
            return [Bilinear(slope=self.slope, eps=self.eps, **row) for row in self.counter_examples]
        except TypeError as error:
            raise ValueError(f"counter_examples={self.counter_examples} is not possible: {error}") from error

    def showcase(self) -> Bilinear:
        try:
            return Bilinear(slope=self.slope, eps=self.eps, **self.example)
        except TypeError as error:
            raise ValueError(f"example={dict(self.example)} is not possible: {error}") from error
