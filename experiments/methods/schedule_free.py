"""Schedule-free learning (arXiv 2405.15682) by the authors' library schedulefree."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from experiments.methods.full import FullMethod
from experiments.methods.interface import Trainable


@dataclass(frozen=True)
class ScheduleFreeMethod(FullMethod):
    """A schedule-free optimizer on every parameter; evaluations and exports take the average that it keeps.

        y = (1 - beta) z + beta x: where gradients are taken     x <- (1 - c) x + c z: what is evaluated

    The weights hold y, the optimizer z, and x is computed from both. That is not bitwise reversible, so y is copied
    while x is in its place (gradients are not held then), and checkpoints hold y. The learning rate stays constant.

    Args:
        optimizer: as in `FullMethod`; it has ``train()`` and ``eval()`` as those of schedulefree.
        lr: its learning rate.
    """

    def __call__(self, model: Any) -> Trainable:
        trainable = super().__call__(model)
        optimizer: Any = trainable.optimizer
        parameters = [part.parameter for part in trainable.visits[0]]

        @contextmanager
        def evaluating() -> Iterator[None]:
            before = [parameter.detach().clone() for parameter in parameters]
            optimizer.eval()
            try:
                yield
            finally:
                optimizer.train()
                with torch.no_grad():
                    for parameter, weights in zip(parameters, before, strict=True):
                        parameter.copy_(weights)

        return replace(trainable, evaluating=evaluating)

    def make(self, parameters: Sequence[Tensor]) -> Any:
        optimizer: Any = super().make(parameters)
        optimizer.train()
        return optimizer
