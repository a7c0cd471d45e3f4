"""Methods: everything that turns a model and a loss into new weights, in one form for the training loop."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from bcd import BlockCoordinateDescent, Order, Partition, Rule
from bcd.optimizer import require_inner_steps
from bcd.rules.rule import require


@dataclass(frozen=True)
class Trainable:
    """A model ready to be trained.

    model: possibly wrapped by an adapter.              optimizer: steps on the model's trainable parameters.
    visits: parameters that are active together, one list for each block; full training has one list.
    state_tensors: state tensors of the parameter's size that the optimizer keeps for an active parameter.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    visits: Sequence[Sequence[Tensor]]
    state_tensors: int


class Method(Protocol):
    """What the training loop asks of a method. A method checks its own values when it is made, before any model."""

    def __call__(self, model: nn.Module) -> Trainable:
        """Make `model` trainable; called once for each method object."""
        ...


@dataclass(frozen=True)
class BlockMethod:
    """`bcd.BlockCoordinateDescent` on a partition of the model; arguments as there.

    Raises ValueError for an impossible inner_steps or lr.
    """

    partition: Callable[[nn.Module], Partition]
    order: Order
    rule: Rule
    inner_steps: int
    lr: float

    def __post_init__(self) -> None:
        require_inner_steps(self.inner_steps)
        require("lr", self.lr, least=0.0)

    def __call__(self, model: nn.Module) -> Trainable:
        partition = self.partition(model)
        optimizer = BlockCoordinateDescent(
            partition, rule=self.rule, order=self.order, inner_steps=self.inner_steps, lr=self.lr
        )
        visits = [list(block.parameters.values()) for block in partition.blocks]
        return Trainable(model, optimizer, visits, self.rule.state_tensors)


@dataclass(frozen=True)
class FullMethod:
    """A torch or library optimizer on every parameter that requires a gradient.

    optimizer: ``optimizer(parameters, lr=...)``, for example a partial of torch.optim.AdamW.
    lr: its learning rate.     state_tensors: state tensors of the parameter's size that it keeps.

    Raises ValueError for an impossible lr.
    """

    optimizer: Callable[..., torch.optim.Optimizer]
    lr: float
    state_tensors: int

    def __post_init__(self) -> None:
        require("lr", self.lr, least=0.0)

    def __call__(self, model: nn.Module) -> Trainable:
        parameters = [p for p in model.parameters() if p.requires_grad]
        return Trainable(model, self.optimizer(parameters, lr=self.lr), [parameters], self.state_tensors)
