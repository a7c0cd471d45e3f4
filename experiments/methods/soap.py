"""SOAP (arXiv 2409.11321) by the library pytorch-optimizer: Adam in the eigenbases of Shampoo's preconditioners."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from bcd.memory import nbytes
from bcd.rules.rule import require
from experiments.methods.interface import Trainable
from experiments.methods.library import adam_bytes, library_trainable, trained


@dataclass(frozen=True)
class SOAPMethod:
    """SOAP on every parameter; vectors move by Adam. The first step only starts the preconditioners.

    lr: learning rate.     precondition_frequency: steps between two new eigenbases.
    max_precondition_dim: larger dimensions (a vocabulary) get no preconditioner.

    Raises ValueError for an impossible lr, frequency or dimension.
    """

    lr: float
    betas: tuple[float, float]
    weight_decay: float
    precondition_frequency: int
    max_precondition_dim: int

    def __post_init__(self) -> None:
        require("lr", self.lr, least=0.0)
        require("precondition_frequency", self.precondition_frequency, least=1)
        require("max_precondition_dim", self.max_precondition_dim, least=1)

    def __call__(self, model: Any) -> Trainable:
        from pytorch_optimizer import SOAP  # imports 128 optimizers, and wrong values should be told at once

        optimizer = SOAP(
            [part.parameter for part in trained(model)],
            lr=self.lr,
            betas=(self.betas[0], self.betas[1]),
            weight_decay=self.weight_decay,
            precondition_frequency=self.precondition_frequency,
            max_precondition_dim=self.max_precondition_dim,
        )

        def squares(parameter: Tensor) -> int:
            sides = [n for n in parameter.shape if parameter.ndim > 1 and n <= self.max_precondition_dim]
            return parameter.element_size() * sum(n * n for n in sides)

        def state(parameter: Tensor) -> int:
            """Two moments; for each dimension of a matrix a preconditioner and its eigenbasis."""
            return adam_bytes(parameter, counter=False) + 2 * squares(parameter)

        def temporary(parameters: Sequence[Tensor]) -> int:
            """Gradient and momentum in the eigenbasis, the root and the update; then the products of the gradient."""
            return max(4 * nbytes([p]) + squares(p) for p in parameters)

        return library_trainable(model, optimizer, state, temporary=temporary)
