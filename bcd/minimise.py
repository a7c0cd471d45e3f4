"""Deterministic block coordinate descent as a function, and the trajectory that the theory needs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bcd.blocks import Block, Partition
from bcd.optimizer import BlockCoordinateDescent
from bcd.orders import Order
from bcd.rules.rule import Rule

Point = tuple[Tensor, ...]
"""One tensor for each block, in the order of the blocks."""


@dataclass(frozen=True)
class InnerStep:
    """One step of the rule: what was known before it and where it led.

    visit: index of the visit, from 0.     block: index of the active block.     k: step in the visit, 1..K.
    value: f at `before`.                  gradient: gradient of the active block at `before`.
    before, after: all blocks before and after the step.
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
    """Run `BlockCoordinateDescent` on f by closure and return every inner step.

    f: maps D tensors to a scalar; differentiable by autograd.
    start: D tensors, copied; their dtype is the arithmetic's (float64 for theory).
    visits: number of visits, each of K = `inner_steps` steps; orders that draw several blocks a visit are
        refused, because a trajectory names one block a step.
    rule, order, lr: as in `BlockCoordinateDescent`.

    >>> from bcd import SGD, Cyclic
    >>> steps = minimise(lambda x: (x[0] - x[1]).square().sum() / 2, [torch.ones(1), torch.zeros(1)],
    ...                  rule=SGD(), order=Cyclic(), inner_steps=1, lr=0.5, visits=2)
    >>> [round(step.value, 4) for step in steps]
    [0.5, 0.125]
    """
    if visits < 1:
        raise ValueError(f"visits={visits} is not possible: at least one visit is needed")
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
        value.backward()
        (active,) = optimizer.active_parameters
        assert active.grad is not None  # for the type checker: backward has just filled it
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
