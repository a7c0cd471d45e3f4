"""Adam's rule (Kingma and Ba, arXiv 1412.6980, algorithm 1), the inner rule of BAdam."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam

from bcd.checks import require_number
from bcd.rules.rule import State, refuse_of_torch, require_kernel


@dataclass(frozen=True)
class Adam:
    """Adam's rule with bias correction; fresh state at every visit makes it BAdam's (Algorithm 1).

        g   <- g + weight_decay x                              (L2 penalty, as torch.optim.Adam)
        m   <- beta1 m + (1 - beta1) g
        v   <- beta2 v + (1 - beta2) g * g
        x   <- x - lr (m / (1 - beta1^k)) / (sqrt(v / (1 - beta2^k)) + eps)

    g: gradient of the block; m: `exp_avg`; v: `exp_avg_sq`; k: `step`, counted from 1 since the state was made;
    beta1, beta2: `betas`.

    The arithmetic is torch's own functional `adam`, so each kernel variant is bitwise that of torch.optim.Adam.

    Attributes:
        betas: as in torch.optim.Adam.
        eps: as in torch.optim.Adam.
        weight_decay: as in torch.optim.Adam.
        foreach: kernel variant, as in torch.optim.Adam; None lets torch choose.
        fused: kernel variant, as in torch.optim.Adam; None lets torch choose.
        amsgrad: False; True is refused, with what to do instead.
        maximize: False; True is refused, with what to do instead.

    Raises:
        ValueError: when a beta is outside [0, 1), eps or weight_decay is negative, or foreach goes with fused.
    """

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    foreach: bool | None = None
    fused: bool | None = None
    amsgrad: bool = field(default=False, repr=False)
    maximize: bool = field(default=False, repr=False)

    state_tensors = 2
    counts_steps = True
    decoupled = False
    state_names = ("exp_avg", "exp_avg_sq")

    def __post_init__(self) -> None:
        if not isinstance(self.betas, Sequence) or len(self.betas) != 2:
            raise ValueError(f"betas={self.betas!r} is not possible: give two numbers, (beta1, beta2)")
        for name, beta in zip(("beta1", "beta2"), self.betas, strict=True):
            require_number(name, beta, least=0.0, below=1.0)
        require_number("eps", self.eps, least=0.0)
        require_number("weight_decay", self.weight_decay, least=0.0)
        require_kernel(self.foreach, self.fused)
        refuse_of_torch(amsgrad=self.amsgrad, maximize=self.maximize)

    def hyperparameters(self) -> dict[str, Any]:
        return {"betas": tuple(self.betas), "eps": self.eps, "weight_decay": self.weight_decay}

    def init(self, parameters: Sequence[Tensor]) -> list[State]:
        return [
            {
                # torch keeps the step on the CPU unless the kernel is fused and so runs on the device.
                "step": torch.zeros((), dtype=torch.float32, device=p.device if self.fused else "cpu"),
                "exp_avg": torch.zeros_like(p, memory_format=torch.preserve_format),
                "exp_avg_sq": torch.zeros_like(p, memory_format=torch.preserve_format),
            }
            for p in parameters
        ]

    def update(
        self,
        parameters: Sequence[Tensor],
        gradients: Sequence[Tensor],
        states: Sequence[State],
        lr: float | Tensor,
        hyperparameters: Mapping[str, Any],
    ) -> None:
        beta1, beta2 = hyperparameters["betas"]
        adam(
            list(parameters),
            list(gradients),
            [s["exp_avg"] for s in states],
            [s["exp_avg_sq"] for s in states],
            [],
            [s["step"] for s in states],
            foreach=self.foreach,
            fused=self.fused,
            amsgrad=False,
            decoupled_weight_decay=self.decoupled,
            beta1=beta1,
            beta2=beta2,
            lr=lr,
            weight_decay=hyperparameters["weight_decay"],
            eps=hyperparameters["eps"],
            maximize=False,
        )

    def coefficients(self, lr: float, hyperparameters: Mapping[str, Any], step: int) -> tuple[float, ...]:
        (beta1, beta2), decay = hyperparameters["betas"], hyperparameters["weight_decay"]
        return (
            lr * decay if self.decoupled else 0.0,
            0.0 if self.decoupled else decay,
            1 - beta1,
            beta2,
            1 - beta2,
            lr / (1 - beta1**step),
            math.sqrt(1 - beta2**step),
            hyperparameters["eps"],
        )

    @staticmethod
    def formula(
        x: Tensor, g: Tensor, state: Sequence[Tensor], coefficients: Sequence[Tensor]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        (m, v), (shrink, decay, c1, b2, c2, rate, root, eps) = state, coefficients
        g = g + decay * x
        x = x - shrink * x
        m = m + c1 * (g - m)
        v = b2 * v + c2 * g * g
        return x - rate * m / (v.sqrt() / root + eps), (m, v)


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam's rule with decoupled weight decay (arXiv 1711.05101), in torch.optim.AdamW's convention.

        x <- x - lr weight_decay x               (times lr, unlike the paper's own schedule multiplier)
        then Adam's step with weight_decay = 0

    Attributes:
        weight_decay: 0.01 as in torch.optim.AdamW; everything else as in `Adam`.
    """

    weight_decay: float = 0.01

    decoupled = True
