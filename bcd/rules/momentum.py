"""Gradient descent with momentum: heavy ball (Polyak 1964) and Nesterov's form, as torch.optim.SGD has them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim.sgd import sgd

from bcd.checks import require_flag, require_number
from bcd.rules.rule import State, refuse_of_torch, require_kernel


@dataclass(frozen=True)
class Momentum:
    """Momentum with state from the visit's first gradient.

        g <- g + weight_decay x
        m <- momentum m + g                     (m <- g at the first step)
        x <- x - lr m                           heavy ball
        x <- x - lr (g + momentum m)            nesterov=True

    m: `momentum_buffer`. Heavy ball with step lr is the exponential average (1 - b) g with step lr / (1 - b).

    The arithmetic is torch's own functional `sgd`, so each kernel variant is bitwise that of torch.optim.SGD.

    Attributes:
        momentum: in [0, 1).
        nesterov: as in torch.optim.SGD.
        weight_decay: as in torch.optim.SGD.
        foreach: kernel variant, as in torch.optim.SGD; None lets torch choose.
        fused: kernel variant, as in torch.optim.SGD; None lets torch choose.
        maximize: False; True is refused, with what to do instead.

    Raises:
        ValueError: when momentum is outside [0, 1), weight_decay is negative, nesterov goes with momentum 0, or
            foreach with fused.
    """

    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    foreach: bool | None = None
    fused: bool | None = None
    maximize: bool = field(default=False, repr=False)

    state_tensors = 1
    counts_steps = False
    state_names = ("momentum_buffer",)

    def __post_init__(self) -> None:
        require_number("momentum", self.momentum, least=0.0, below=1.0)
        require_number("weight_decay", self.weight_decay, least=0.0)
        require_flag("nesterov", self.nesterov)
        require_kernel(self.foreach, self.fused)
        refuse_of_torch(maximize=self.maximize)
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov=True needs a positive momentum, got momentum=0")

    def hyperparameters(self) -> dict[str, Any]:
        return {"momentum": self.momentum, "nesterov": self.nesterov, "weight_decay": self.weight_decay}

    def init(self, parameters: Sequence[Tensor]) -> list[State]:
        # From zero, the first step makes the buffer momentum * 0 + g: the gradient, with which torch begins.
        return [{"momentum_buffer": torch.zeros_like(p, memory_format=torch.preserve_format)} for p in parameters]

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
            [state["momentum_buffer"] for state in states],
            foreach=self.foreach,
            fused=self.fused,
            weight_decay=hyperparameters["weight_decay"],
            momentum=hyperparameters["momentum"],
            lr=float(lr),
            dampening=0.0,
            nesterov=hyperparameters["nesterov"],
            maximize=False,
        )

    def coefficients(self, lr: float, hyperparameters: Mapping[str, Any], step: int) -> tuple[float, ...]:
        momentum, nesterov = hyperparameters["momentum"], hyperparameters["nesterov"]
        return (
            hyperparameters["weight_decay"],
            momentum,
            lr if nesterov else 0.0,
            lr * momentum if nesterov else lr,
        )

    @staticmethod
    def formula(
        x: Tensor, g: Tensor, state: Sequence[Tensor], coefficients: Sequence[Tensor]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        (m,), (decay, momentum, g_rate, m_rate) = state, coefficients
        g = g + decay * x
        m = momentum * m + g
        return x - g_rate * g - m_rate * m, (m,)
