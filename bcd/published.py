"""BAdam in one line: the published choices of partition, order, rule and state (arXiv 2404.02827, Algorithm 1)."""

from typing import Any, Literal

import torch
from torch import nn

from bcd.checks import require_whole
from bcd.optimizer import BlockCoordinateDescent
from bcd.orders import RandomReshuffle
from bcd.partitions import by_layer
from bcd.rules import Adam

INNER_STEPS = 100
"""K of the authors' package (there `switch_block_every`)."""


def badam(
    model: nn.Module,
    lr: float,
    *,
    inner_steps: int = INNER_STEPS,
    only_trainable: bool = False,
    rest: Literal["train", "freeze"] | None = None,
    seed: int = 0,
    **options: Any,
) -> BlockCoordinateDescent:
    """`BlockCoordinateDescent` as BAdam is published: one layer at a time, by Adam with fresh state at every visit.

        optimizer = bcd.badam(model, lr=1e-5)

    | axis | choice |
    |---|---|
    | partition | `by_layer`; embedding, final norm and head stay frozen |
    | order | `RandomReshuffle`: a fresh permutation of the layers for each block epoch |
    | rule | `Adam`, betas (0.9, 0.999), eps 1e-8, no weight decay |
    | state | dropped at the end of a visit |
    | master | where weights are bfloat16: exact float32 ones of the active layer, else none |

    Trainers of transformers and trl make it themselves with `bcd.integrations.trainer_badam`.

    Args:
        model: any Hugging Face decoder or a plain ``nn.Sequential``.
        lr: step size; about ten times that of full Adam is where tuned ones were here.
        inner_steps: K, steps of a visit; `recommended_inner_steps` has the formula of the paper.
        only_trainable: see `by_layer`; with PEFT models it trains the adapters, layer by layer.
        rest: see `by_layer`.
        seed: of the order.
        options: of `BlockCoordinateDescent`, which take the place of the choices above, also rule and order.

    Raises:
        ValueError: see `by_layer` and `BlockCoordinateDescent`.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    >>> badam(model, lr=1e-3, inner_steps=5)  # doctest: +ELLIPSIS
    BlockCoordinateDescent(2 blocks, 13 weights, Adam(...), RandomReshuffle(seed=0), inner_steps=5, lr=0.001)
      active: ..., step 0 of 5 of visit 1
    """
    frozen: Any = {"embedding": "freeze", "final_norm": "freeze", "head": "freeze"}
    partition = by_layer(model, **frozen, only_trainable=only_trainable, rest=rest)
    narrow = any(p.dtype == torch.bfloat16 for block in partition.blocks for p in block.parameters.values())
    published = {
        "rule": Adam(),
        "order": RandomReshuffle(seed=seed),
        "inner_steps": inner_steps,
        "lr": lr,
        "master": "discard" if narrow else "off",
    }
    return BlockCoordinateDescent(partition, **(published | options))


def recommended_inner_steps(
    examples: int, batch_size: int, num_blocks: int, *, least: int = 1, most: int | None = None
) -> int:
    """K = n/(B D), rounded: every block is visited once in an epoch over the data (section 2 of the paper).

    Args:
        examples: n, of the training set.
        batch_size: B, examples of an optimizer step, accumulation and processes included.
        num_blocks: D.
        least: smallest K; the authors' readme asks for least=50, most=100.
        most: largest K; None for no limit.

    Raises:
        ValueError: for numbers that are not whole or below 1, or least above most.

    >>> recommended_inner_steps(52_000, 16, 32), recommended_inner_steps(7_473, 32, 30, least=50, most=100)
    (102, 50)
    """
    for name, value in (("examples", examples), ("batch_size", batch_size), ("num_blocks", num_blocks)):
        require_whole(name, value, least=1)
    require_whole("least", least, least=1)
    require_whole("most", most, least=1, or_none=True)
    if most is not None and least > most:
        raise ValueError(f"least={least} with most={most} is not possible: nothing lies between")
    steps = max(least, round(examples / (batch_size * num_blocks)))
    return steps if most is None else min(steps, most)
