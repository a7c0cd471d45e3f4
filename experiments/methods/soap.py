"""SOAP (arXiv 2409.11321) by the library pytorch-optimizer: Adam in the eigenbases of Shampoo's preconditioners."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from bcd.rules.rule import require
from experiments.methods.interface import Method, Trainable
from experiments.methods.library import library_trainable


@dataclass(frozen=True)
class SOAPMethod(Method):
    """SOAP on every parameter; vectors move by Adam. The first step only starts the preconditioners.

    Args:
        lr: learning rate.
        betas: of Adam's moments.
        weight_decay: decoupled.
        precondition_frequency: steps between two new eigenbases.
        max_precondition_dim: larger dimensions (a vocabulary) get no preconditioner.

    Raises:
        ValueError: for an impossible lr, frequency or dimension.
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

        def make(parameters: list[Tensor]) -> Optimizer:
            return SOAP(
                parameters,
                lr=self.lr,
                betas=(self.betas[0], self.betas[1]),
                weight_decay=self.weight_decay,
                precondition_frequency=self.precondition_frequency,
                max_precondition_dim=self.max_precondition_dim,
            )

        return library_trainable(model, make)
