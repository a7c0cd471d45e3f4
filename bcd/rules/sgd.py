"""Gradient descent's rule, the inner rule of the paper's SGD ablation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.optim.sgd import sgd

from bcd.checks import require_number
from bcd.rules.rule import State, refuse_of_torch, require_kernel


@dataclass(frozen=True)
class SGD:
    """x <- x - lr (g + weight_decay x), without momentum and without state.

    The arithmetic is torch's own functional `sgd`, so each kernel variant is bitwise that of torch.optim.SGD.

    Attributes:
        weight_decay: L2 penalty, as in torch.optim.SGD.
        foreach: kernel variant, as in torch.optim.SGD; None lets torch choose.
        fused: kernel variant, as in torch.optim.SGD; None lets torch choose.
        maximize: False; True is refused, with what to do instead.

    Raises:
        ValueError: when weight_decay is negative or foreach goes with fused.
    """

    weight_decay: float = 0.0
    foreach: bool | None = None
    fused: bool | None = None
    maximize: bool = field(default=False, repr=False)

    state_tensors = 0
    counts_steps = False
    state_names = ()

    def __post_init__(self) -> None:
        require_number("weight_decay", self.weight_decay, least=0.0)
        require_kernel(self.foreach, self.fused)
        refuse_of_torch(maximize=self.maximize)

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
        sgd(
            list(parameters),
            list(gradients),
            [None] * len(parameters),
            foreach=self.foreach,
            fused=self.fused,
            weight_decay=hyperparameters["weight_decay"],
            momentum=0.0,
            lr=float(lr),
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )

    def coefficients(self, lr: float, hyperparameters: Mapping[str, Any], step: int) -> tuple[float, ...]:
        return lr, hyperparameters["weight_decay"]

    @staticmethod
    def formula(
        x: Tensor, g: Tensor, state: Sequence[Tensor], coefficients: Sequence[Tensor]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        rate, decay = coefficients
        return x - rate * (g + decay * x), ()
