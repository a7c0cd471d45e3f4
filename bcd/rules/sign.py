"""Sign descent (signSGD, arXiv 1802.04434): what Adam's first step is for a small eps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from bcd.checks import require_number
from bcd.rules.rule import State


@dataclass(frozen=True)
class Sign:
    """x <- x - lr (sign(g) + weight_decay x): every weight with a gradient moves by lr; decay is decoupled.

    The sign of a complex number is g / |g|.

    Raises:
        ValueError: when weight_decay is negative.
    """

    weight_decay: float = 0.0

    state_tensors = 0
    counts_steps = False
    state_names = ()

    def __post_init__(self) -> None:
        require_number("weight_decay", self.weight_decay, least=0.0)

    def hyperparameters(self) -> dict[str, Any]:
        return {"weight_decay": self.weight_decay}

    def init(self, parameters: Sequence[Tensor]) -> list[State]:
        return [{} for _ in parameters]

    def update(
        self,
        parameters: Sequence[Tensor],
        gradients: Sequence[Tensor],
        states: Sequence[State],
        lr: float | Tensor,
        hyperparameters: Mapping[str, Any],
    ) -> None:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if hyperparameters["weight_decay"]:
                parameter.mul_(1 - lr * hyperparameters["weight_decay"])
            parameter.sub_(gradient.sgn() * lr)

    def coefficients(self, lr: float, hyperparameters: Mapping[str, Any], step: int) -> tuple[float, ...]:
        return lr, lr * hyperparameters["weight_decay"]

    @staticmethod
    def formula(
        x: Tensor, g: Tensor, state: Sequence[Tensor], coefficients: Sequence[Tensor]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        rate, shrink = coefficients
        return x - shrink * x - rate * g.sgn(), ()
