"""Methods: everything that turns a model and a loss into new weights, in one form for the training loop."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bcd import BlockCoordinateDescent, Order, Partition, Rule


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


OptimizerFactory = Callable[..., torch.optim.Optimizer]
"""``optimizer(parameters, lr=...)``, for example a partial of torch.optim.AdamW."""


def block_coordinate_descent(
    model: nn.Module,
    *,
    partition: Callable[[nn.Module], Partition],
    order: Order,
    rule: Rule,
    inner_steps: int,
    lr: float,
) -> Trainable:
    """`bcd.BlockCoordinateDescent` on the partition of `model`."""
    blocks = partition(model)
    optimizer = BlockCoordinateDescent(blocks, rule=rule, order=order, inner_steps=inner_steps, lr=lr)
    visits = [list(block.parameters.values()) for block in blocks.blocks]
    return Trainable(model, optimizer, visits, rule.state_tensors)


def all_trainable(model: nn.Module, *, optimizer: OptimizerFactory, lr: float, state_tensors: int) -> Trainable:
    """A torch or library optimizer on every parameter of `model` that requires a gradient."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return Trainable(model, optimizer(parameters, lr=lr), [parameters], state_tensors)
