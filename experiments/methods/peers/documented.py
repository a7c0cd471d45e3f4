"""How a step is computed when a user follows the documentation of transformers and peft: nothing of ours."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from bcd.execution import Execution
from experiments.errors import UserError


@dataclass(frozen=True)
class Documented(Execution):
    """The model's own loss, which holds all logits, with transformers' checkpointing of every layer or without any.

    Args:
        checkpoint: ``gradient_checkpointing_enable({"use_reentrant": False})``. transformers 5.23 makes the
            embedding's output require gradients together with it, so that backward runs through all layers.

    Raises:
        UserError: for another value than true and false.
    """

    checkpoint: bool = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.checkpoint, bool):
            raise UserError(f"execution.checkpoint={self.checkpoint!r} is not possible: give true or false")

    def __call__(
        self, model: Any, optimizer: torch.optim.Optimizer | None = None, *, check: bool = True
    ) -> Callable[[], None]:
        """Set `model` up; the optimizer is not touched."""
        undo = super().__call__(model, optimizer, check=check)
        if not self.checkpoint:
            return undo
        with _former_names():
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})

        def off() -> None:
            with _former_names():
                model.gradient_checkpointing_disable()
            undo()

        return off


@contextmanager
def _former_names() -> Iterator[None]:
    """Names that changed between versions of transformers and peft are used without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield
