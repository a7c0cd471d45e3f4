"""Gradient steps normalised row by row: a size for each output of a linear map, and no state.

Relatives: SCALE (arXiv 2506.16659), which normalises columns and gives the last layer momentum, and SWAN (arXiv
2412.13148), which normalises rows and then whitens.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bcd.checks import require_number
from bcd.rules.rule import Shape, State


@dataclass(frozen=True)
class RowNormalised:
    """x <- x - lr (g / RMS(row of g) + weight_decay x): the entries of every row move by lr in root mean square.

    A row is what one index of the first dimension holds (the weights of one output of a linear map); a vector is one
    row. The root mean square is taken in float32. A row of zeros, or so small that its squares are, moves by the decay
    alone.

    Raises:
        ValueError: when weight_decay is negative.
    """

    weight_decay: float = 0.0

    state_tensors = 0
    counts_steps = False

    def __post_init__(self) -> None:
        require_number("weight_decay", self.weight_decay, least=0.0)

    def hyperparameters(self) -> dict[str, Any]:
        return {"weight_decay": self.weight_decay}

    def state_shapes(self, shape: Shape) -> dict[str, Shape]:
        return {}

    def splits(self, shape: Shape) -> bool:
        return len(shape) > 1

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
            parameter.sub_(gradient * (lr * inverse_rms(gradient)))


def inverse_rms(gradient: Tensor) -> Tensor:
    """1 / RMS of each row, in float32 or wider and of a shape to multiply with; 0 for a row of zeros."""
    dims = tuple(range(1, gradient.ndim)) or None
    wide = torch.promote_types(gradient.dtype, torch.float32)
    norm = torch.linalg.vector_norm(gradient, dim=dims, keepdim=True, dtype=wide)
    length = max(1, gradient.numel() // max(1, norm.numel()))
    return torch.where(norm == 0, 0.0, math.sqrt(length) / norm)
