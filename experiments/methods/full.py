"""An optimizer of torch or of a library on every parameter, as a method."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from bcd import Part
from bcd.rules.rule import require
from experiments.methods.interface import Trainable


@dataclass(frozen=True)
class FullMethod:
    """A torch or library optimizer on every parameter that requires a gradient.

    optimizer: ``optimizer(parameters, lr=...)``, for example a partial of torch.optim.AdamW.
    lr: its learning rate.     state_tensors, counts_steps: what it keeps for a parameter, see `bcd.rules.Rule`.

    Raises ValueError for an impossible lr.
    """

    optimizer: Callable[..., torch.optim.Optimizer]
    lr: float
    state_tensors: int
    counts_steps: bool

    def __post_init__(self) -> None:
        require("lr", self.lr, least=0.0)

    def __call__(self, model: nn.Module) -> Trainable:
        parts = [Part(name, p) for name, p in model.named_parameters() if p.requires_grad]
        optimizer = self.optimizer([part.parameter for part in parts], lr=self.lr)
        return Trainable(model, optimizer, [parts], self.state_tensors, self.counts_steps)
