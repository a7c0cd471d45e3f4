"""How a step is computed when a user follows the documentation of transformers and peft: nothing of ours."""

import warnings
from dataclasses import dataclass
from typing import Any

import torch

from experiments.errors import UserError


@dataclass(frozen=True)
class Documented:
    """The model's own loss, which holds all logits, with transformers' checkpointing of every layer or without any.

    checkpoint: ``gradient_checkpointing_enable({"use_reentrant": False})``. transformers 5.23 makes the embedding's
        output require gradients together with it, so that backward runs through all layers.
    """

    checkpoint: bool

    def __post_init__(self) -> None:
        if not isinstance(self.checkpoint, bool):
            raise UserError(f"execution.checkpoint={self.checkpoint!r} is not possible: give true or false")

    def __call__(self, model: Any, optimizer: torch.optim.Optimizer) -> None:
        """Set `model` up; the optimizer is not touched."""
        if self.checkpoint:
            with warnings.catch_warnings():
                # Names that changed between versions of transformers and peft.
                warnings.simplefilter("ignore", FutureWarning)
                model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
