"""Deterministic block coordinate descent as a function, and the trajectory that the theory needs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bcd.blocks import Block, Partition
from bcd.checks import require_whole
from bcd.optimizer import BlockCoordinateDescent
from bcd.orders import Order
from bcd.rules.rule import Rule

Point = tuple[Tensor, ...]
"""One tensor for each block, in the order of the blocks."""


@dataclass(frozen=True)
class InnerStep:
    """One step of the rule: what was known before it and where it led.

    Attributes:
        visit: index of the visit, from 0.
        block: index of the active block.
        k: step in the visit, 1..K.
        value: f at `before`.
        gradient: gradient of the active block at `before`.
        before: all blocks before the step.
        after: all blocks after it.
    """

    visit: int
    block: int
    k: int
    value: float
    gradient: Tensor
    before: Point
    after: Point


def minimise(
    f: Callable[[Sequence[Tensor]], Tensor],
    start: Sequence[Tensor],
    *,
    rule: Rule,
    order: Order,
    inner_steps: int,
    lr: float | Sequence[float],
    visits: int,
) -> list[InnerStep]:
    """Run `BlockCoordinateDescent` on f by closure and show every inner step.

    Args:
        f: maps D tensors to a scalar; differentiable by autograd.
        start: D tensors, copied; their dtype is the arithmetic's (float64 for theory).
        rule: as in `BlockCoordinateDescent`.
        order: as in `BlockCoordinateDescent`; one that draws several blocks a visit is refused, because a trajectory
            names one block a step.
        inner_steps: K, steps of a visit.
        lr: as in `BlockCoordinateDescent`.
        visits: how many.

    Returns:
        One entry a step.

    Raises:
        ValueError: besides for what `BlockCoordinateDescent` refuses, when f returns anything but a scalar tensor that
            depends on the active block.

    >>> from bcd import SGD, Cyclic
    >>> steps = minimise(lambda x: (x[0] - x[1]).square().sum() / 2, [torch.ones(1), torch.zeros(1)],
    ...                  rule=SGD(), order=Cyclic(), inner_steps=1, lr=0.5, visits=2)
    >>> [round(step.value, 4) for step in steps]
    [0.5, 0.125]
    """
    require_whole("visits", visits, least=1, why="a whole number of visits is needed, at least one")
    for i, tensor in enumerate(start):
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            raise ValueError(f"start[{i}]={tensor!r} is not possible: give a tensor of floating-point numbers")
    x = [torch.nn.Parameter(tensor.detach().clone()) for tensor in start]
    blocks = tuple(Block(f"x{i}", {f"x{i}": parameter}) for i, parameter in enumerate(x))
    optimizer = BlockCoordinateDescent(
        Partition(blocks, {}, {}), rule=rule, order=order, inner_steps=inner_steps, lr=lr
    )
    snapshot = tuple(parameter.detach().clone() for parameter in x)
    steps: list[InnerStep] = []
    gradient = torch.empty(0)

    def closure() -> float:
        nonlocal gradient
        optimizer.zero_grad()
        value = f(x)
        if not isinstance(value, Tensor) or value.ndim:
            raise ValueError(f"f returned {value!r}; it must return a tensor without dimensions, such as a sum")
        if value.requires_grad:
            value.backward()
        (active,) = optimizer.active_parameters
        if active.grad is None:
            raise ValueError(f"f does not depend on block {optimizer.active_blocks[0]}; leave it out of start")
        gradient = active.grad.clone()
        return value.item()

    for visit in range(visits):
        if len(optimizer.active_blocks) != 1:
            raise ValueError(f"minimise() needs one block a visit, the order gave {optimizer.active_blocks}")
        (block,) = optimizer.active_blocks
        for k in range(1, inner_steps + 1):
            value = optimizer.step(closure)
            after = (*snapshot[:block], x[block].detach().clone(), *snapshot[block + 1 :])
            steps.append(InnerStep(visit, block, k, value, gradient, snapshot, after))
            snapshot = after
    return steps
