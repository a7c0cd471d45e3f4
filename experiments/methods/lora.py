"""LoRA (arXiv 2106.09685) through the library peft."""

from collections.abc import Sequence
from typing import Any

import torch
from peft import LoraConfig, get_peft_model

from experiments.methods import OptimizerFactory, Trainable, all_trainable


def lora(
    model: Any,
    *,
    rank: int,
    alpha: int,
    target_modules: Sequence[str],
    seed: int,
    optimizer: OptimizerFactory,
    lr: float,
    state_tensors: int,
) -> Trainable:
    """Freeze `model` and train low-rank factors: W x + (alpha / rank) B A x, with B = 0 at the start.

    rank, alpha, target_modules: as in peft.LoraConfig.     seed: of the factors A.
    optimizer, lr, state_tensors: as in `all_trainable`.

    Raises ValueError when rank < 1 or when no module of the model has a name in target_modules.
    """
    if rank < 1:
        raise ValueError(f"rank={rank} is not possible: it must be at least 1")
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(target_modules), task_type="CAUSAL_LM")
    # peft draws A from the global generator; fork it so that nothing else depends on the adapter.
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        adapted = get_peft_model(model, config)
    return all_trainable(adapted, optimizer=optimizer, lr=lr, state_tensors=state_tensors)
