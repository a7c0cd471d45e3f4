"""An optimizer of torch or of a library on every parameter, as a method."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.optim import Optimizer

from bcd.rules.rule import require
from experiments.methods.interface import Method, Trainable
from experiments.methods.library import library_trainable


@dataclass(frozen=True)
class FullMethod(Method):
    """A torch or library optimizer on every parameter that requires a gradient.

    Args:
        optimizer: ``optimizer(parameters, lr=...)``, for example a partial of torch.optim.AdamW.
        lr: its learning rate.

    Raises:
        ValueError: for an impossible lr.
    """

    optimizer: Callable[..., Optimizer]
    lr: float

    def __post_init__(self) -> None:
        require("lr", self.lr, least=0.0)

    def __call__(self, model: nn.Module) -> Trainable:
        return library_trainable(model, self.make)

    def make(self, parameters: Sequence[Tensor]) -> Optimizer:
        """The optimizer on these parameters."""
        return self.optimizer(parameters, lr=self.lr)
