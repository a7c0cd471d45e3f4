"""LoRA (arXiv 2106.09685) through the library peft."""

import functools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bcd.rules.rule import require
from experiments.methods.full import FullMethod
from experiments.methods.interface import Trainable
from experiments.randomness import seeded


@dataclass(frozen=True)
class LoRAMethod(FullMethod):
    """Freeze the model and train low-rank factors: W x + (alpha / rank) B A x, with B = 0 at the start.

    Args:
        optimizer: as in `FullMethod`, for the factors.
        lr: as in `FullMethod`.
        rank: as in peft.LoraConfig.
        alpha: as in peft.LoraConfig; None is 2 rank.
        target_modules: as in peft.LoraConfig.
        seed: of the factors A.

    Raises:
        ValueError: for an impossible rank or lr, and when no module has a name in target_modules.
    """

    rank: int
    alpha: int | None
    target_modules: Sequence[str]
    seed: int

    def __post_init__(self) -> None:
        super().__post_init__()
        require("rank", self.rank, least=1)
        if self.alpha is not None:
            require("alpha", self.alpha, least=0.0)

    def __call__(self, model: Any) -> Trainable:
        from peft import LoraConfig, get_peft_model  # slow to import, and wrong values should be told at once

        alpha = 2 * self.rank if self.alpha is None else self.alpha
        # What peft adds for a task is generation, which not every model has.
        task = "CAUSAL_LM" if hasattr(model, "prepare_inputs_for_generation") else None
        config = LoraConfig(r=self.rank, lora_alpha=alpha, target_modules=list(self.target_modules), task_type=task)
        # peft draws A from the global generator; fork it so that nothing else depends on the adapter.
        with seeded(self.seed), warnings.catch_warnings():
            # peft 0.21 asks transformers 5 for a property by its former name.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
            adapted = get_peft_model(model, config)
        # Merging uses the adapter up, so that what asks again gets the same model.
        return replace(super().__call__(adapted), merge=functools.cache(adapted.merge_and_unload))
