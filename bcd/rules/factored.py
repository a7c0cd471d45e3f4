"""Steps by a factored second moment (Adafactor, arXiv 1804.04235): Adam's sizes from one row and one column."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bcd.checks import require_number
from bcd.rules.rule import Shape, State


@dataclass(frozen=True)
class Factored:
    """Adafactor's update (algorithms 4 and 5) with a step size of its own and without momentum.

        s   <- g * g + eps,    b = 1 - k^beta2_decay
        r   <- b r + (1 - b) mean of s over each row,    c <- b c + (1 - b) mean of s over each column
        v   =  r c / mean(r)                             (a vector: v <- b v + (1 - b) s)
        u   =  g / sqrt(v),  u <- u / max(1, RMS(u))
        x   <- x - lr (u + weight_decay x)

    g: gradient; r: `row_var`; c: `col_var`; v of a vector: `variance`, unfactored as Adafactor has it; k: `step`,
    counted from 1 since the state was made, so that the first step has b = 0. RMS is over the tensor. A tensor of more
    than two dimensions is a stack of matrices, its last two. Names and shapes are those of torch.optim.Adafactor,
    whose step is relative to the size of the weights.

    The state is float32: (m + n) numbers for an m x n matrix, 0.35 % of one of 576 x 576.

    Attributes:
        beta2_decay: as in torch.optim.Adafactor, negative: the averages look back over about k^-beta2_decay steps.
        eps: regularises squares.
        weight_decay: decoupled.

    Raises:
        ValueError: when beta2_decay is not negative, eps is not positive or weight_decay is negative; in the first
            step for complex weights.
    """

    beta2_decay: float = -0.8
    eps: float = 1e-30
    weight_decay: float = 0.0

    state_tensors = 0
    counts_steps = True

    def __post_init__(self) -> None:
        require_number("beta2_decay", self.beta2_decay, below=0.0)
        require_number("eps", self.eps, above=0.0)
        require_number("weight_decay", self.weight_decay, least=0.0)

    def hyperparameters(self) -> dict[str, Any]:
        return {"beta2_decay": self.beta2_decay, "eps": self.eps, "weight_decay": self.weight_decay}

    def state_shapes(self, shape: Shape) -> dict[str, Shape]:
        if len(shape) < 2:
            return {"variance": shape}
        return {"row_var": (*shape[:-1], 1), "col_var": (*shape[:-2], 1, shape[-1])}

    def splits(self, shape: Shape) -> bool:
        return False  # columns are averaged, and the update is bounded, over the tensor

    def init(self, parameters: Sequence[Tensor]) -> list[State]:
        states = []
        for p in parameters:
            if p.is_complex():
                raise ValueError(
                    "a weight is complex, for which a factored second moment is not defined; use Adam() or Sign()"
                )
            wide = torch.promote_types(p.dtype, torch.float32)
            moments = {name: p.new_zeros(shape, dtype=wide) for name, shape in self.state_shapes(p.shape).items()}
            states.append({"step": torch.zeros((), dtype=torch.float32, device="cpu"), **moments})
        return states

    def update(
        self,
        parameters: Sequence[Tensor],
        gradients: Sequence[Tensor],
        states: Sequence[State],
        lr: float | Tensor,
        hyperparameters: Mapping[str, Any],
    ) -> None:
        for parameter, gradient, state in zip(parameters, gradients, states, strict=True):
            state["step"] += 1
            weight = float(state["step"]) ** hyperparameters["beta2_decay"]
            update = _direction(gradient, state, weight, hyperparameters["eps"])
            size = torch.linalg.vector_norm(update) / max(1, update.numel()) ** 0.5
            if hyperparameters["weight_decay"]:
                parameter.mul_(1 - lr * hyperparameters["weight_decay"])
            parameter.sub_(update.mul_(lr / size.clamp(min=1.0)))


def _direction(gradient: Tensor, state: State, weight: float, eps: float) -> Tensor:
    """g / sqrt(v) in the dtype of the state, whose moments take in the gradient with this weight."""
    vector = "variance" in state
    g = gradient.to(state["variance" if vector else "row_var"].dtype)
    squares = g.square().add_(eps)
    if vector:
        variance = state["variance"].lerp_(squares, weight)
        return torch.mul(g, variance.rsqrt(), out=squares)
    row = state["row_var"].lerp_(squares.mean(-1, keepdim=True), weight)
    column = state["col_var"].lerp_(squares.mean(-2, keepdim=True), weight)
    torch.mul(g, (row / row.mean(-2, keepdim=True)).rsqrt(), out=squares)
    return squares.mul_(column.rsqrt())
