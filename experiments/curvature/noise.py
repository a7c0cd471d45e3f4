"""Noise of minibatch gradients: gradients of single examples at random coordinates of a block.

A minibatch of examples that are drawn with replacement and weigh the same has a mean of these gradients, so mean,
standard deviation and skewness of its gradient follow, and any number of minibatches can be drawn later from them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from records.packed import pack

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)


def noise(
    loss: Callable[[Any], Tensor],
    singles: Sequence[Any],
    blocks: Sequence[Sequence[Tensor]],
    generator: torch.Generator,
    *,
    coordinates: int,
    kept: int,
) -> list[dict[str, Any]]:
    """Gradients of single examples at random coordinates of each block, and their statistics.

    Args:
        loss: of one of the `singles`.
        singles: batches of one example.
        blocks: the tensors of each block; all require gradients.
        generator: draws the coordinates.
        coordinates: number of coordinates of a block that are drawn.
        kept: number of them whose gradients are returned.

    Returns:
        For each block, by name:

        - coordinates: how many were drawn.
        - levels: `LEVELS`, of the quantiles below, which are over the coordinates.
        - skewness: quantiles of E xi^3/sigma^3 of one example, xi its gradient minus the mean.
        - signal: quantiles of |mean|/sigma.
        - zero: share of coordinates whose gradient never changes (left out of the quantiles).
        - gradients: encoded table with a row for each of the first `kept` coordinates and a column for each example.
    """
    indices = []
    for block in blocks:
        total = sum(tensor.numel() for tensor in block)
        indices.append(torch.randperm(total, generator=generator)[:coordinates])
    rows: list[list[Tensor]] = [[] for _ in blocks]
    for single in singles:
        flat = torch.autograd.grad(loss(single), [tensor for block in blocks for tensor in block])
        rest = iter(flat)
        for block, index, into in zip(blocks, indices, rows, strict=True):
            gradient = torch.cat([next(rest).flatten() for _ in block])
            into.append(gradient[index.to(gradient.device)].double().cpu())
    return [_statistics(torch.stack(into, dim=1), kept) for into in rows]


def _statistics(table: Tensor, kept: int) -> dict[str, Any]:
    """What `noise` returns for one block.

    Args:
        table: gradients of shape (coordinates, examples), float64.
        kept: as in `noise`.
    """
    mean = table.mean(dim=1)
    centred = table - mean[:, None]
    sigma = centred.square().mean(dim=1).sqrt()
    moves = sigma > 0
    skewness = (centred**3).mean(dim=1)[moves] / sigma[moves] ** 3
    levels = torch.tensor(LEVELS, dtype=torch.float64)
    some = bool(moves.any())
    return {
        "coordinates": len(table),
        "levels": list(LEVELS),
        "skewness": skewness.quantile(levels).tolist() if some else [],
        "signal": (mean[moves].abs() / sigma[moves]).quantile(levels).tolist() if some else [],
        "zero": 1 - moves.double().mean().item(),
        "gradients": pack(table[:kept].tolist()),
    }
