"""Steps along the orthogonalised gradient: Muon's without its momentum (Jordan et al. 2024), and so without state."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bcd.checks import require_number, require_whole
from bcd.rules.row_normalised import inverse_rms
from bcd.rules.rule import Shape, State

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Of the odd polynomial that moves every singular value towards 1, as in torch.optim.Muon."""


@dataclass(frozen=True)
class Orthogonalised:
    """x <- x - lr (sqrt(max(m, n)) O + weight_decay x), with O nearly the orthogonal factor U V' of g = U S V'.

        O <- g / ||g||_F
        O <- a O + (b O O' + c (O O')^2) O              `steps` times, (a, b, c) = (3.4445, -4.775, 2.0315)

    Singular values that are not far below the largest end between 0.7 and 1.2 after five steps. The factor
    sqrt(max(m, n)) gives the entries of an m x n matrix of full rank a root mean square of about one, so that lr is as
    for `Sign`. A tensor of more than two dimensions is a stack of matrices, its last two; a vector moves along its
    gradient over the root mean square. The products are in float32 (TF32 where torch is told so).

    Attributes:
        steps: of Newton and Schulz's iteration.
        weight_decay: decoupled.

    Raises:
        ValueError: when steps is below 1 or weight_decay is negative; in the first step for complex weights.
    """

    steps: int = 5
    weight_decay: float = 0.0

    state_tensors = 0
    counts_steps = False

    def __post_init__(self) -> None:
        require_whole("steps", self.steps, least=1)
        require_number("weight_decay", self.weight_decay, least=0.0)

    def hyperparameters(self) -> dict[str, Any]:
        return {"steps": self.steps, "weight_decay": self.weight_decay}

    def state_shapes(self, shape: Shape) -> dict[str, Shape]:
        return {}

    def splits(self, shape: Shape) -> bool:
        return False

    def init(self, parameters: Sequence[Tensor]) -> list[State]:
        if any(p.is_complex() for p in parameters):
            raise ValueError("a weight is complex, which the orthogonalised step does not know; use Adam() or Sign()")
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
            if gradient.ndim < 2:
                parameter.sub_(gradient * (lr * inverse_rms(gradient)))
            else:
                size = math.sqrt(max(gradient.shape[-2:]))
                parameter.sub_(orthogonal(gradient, hyperparameters["steps"]) * (lr * size))


def orthogonal(gradient: Tensor, steps: int) -> Tensor:
    """O of each matrix, in float32 or wider."""
    a, b, c = NEWTON_SCHULZ
    matrix = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
    tall = matrix.shape[-2] > matrix.shape[-1]
    matrix = matrix.mT if tall else matrix
    norm = torch.linalg.vector_norm(matrix, dim=(-2, -1), keepdim=True)
    matrix = matrix * torch.where(norm == 0, 0.0, 1 / norm)
    for _ in range(steps):
        gram = matrix @ matrix.mT
        matrix = a * matrix + (b * gram + c * (gram @ gram)) @ matrix
    return matrix.mT if tall else matrix
