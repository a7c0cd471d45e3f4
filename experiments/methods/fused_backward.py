"""LOMO (arXiv 2306.09782) and AdaLOMO (arXiv 2310.10195) by pytorch-optimizer: weights move inside backward."""

import functools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bcd.memory import FLOAT32_BYTES, Held, nbytes
from bcd.rules.rule import require
from experiments.methods.interface import Foreign, Trainable
from experiments.methods.library import library_trainable


@dataclass(frozen=True)
class LOMOMethod:
    """LOMO on every parameter: x <- x - lr c g, each gradient dropped as soon as its parameter has moved.

    c = min(1, max_norm / ||g||) needs the norm of all gradients before the first weight moves, so that clipping costs
    a second backward pass (as in the library and in the paper). Without clipping (max_grad_norm=null) there is one
    pass, and the gradient norm is not known: a gradient that is not finite then leaves its parameter where it is.
    Gradients cannot be accumulated over several batches.

    lr: learning rate.     Raises ValueError for an impossible lr.
    """

    lr: float

    def __post_init__(self) -> None:
        require("lr", self.lr, least=0.0)

    def __call__(self, model: Any) -> Trainable:
        from pytorch_optimizer import LOMO  # imports 128 optimizers, and wrong values should be told at once

        return _trainable(model, _stepwise(LOMO)(model, lr=self.lr))


@dataclass(frozen=True)
class AdaLOMOMethod:
    """AdaLOMO on every parameter: Adafactor's update inside backward, relative to the size of the weights.

    The step is lr max(eps, RMS(weights)) times an update of RMS at most 1; a matrix keeps one second moment a row and
    one a column, in float32. Clipping works as in `LOMOMethod`, and each gradient is dropped when the next one comes.

    lr: relative learning rate.     Raises ValueError for an impossible lr.
    """

    lr: float

    def __post_init__(self) -> None:
        require("lr", self.lr, least=0.0)

    def __call__(self, model: Any) -> Trainable:
        from pytorch_optimizer import AdaLOMO

        # Gradients are in the dtype of the weights, and none of them needs a scaled loss.
        named = _Completed(model)
        optimizer = _stepwise(AdaLOMO)(named, lr=self.lr, loss_scale=0.0)
        named.begin()
        state = FLOAT32_BYTES * sum(sum(p.shape) for p in model.parameters())
        return _trainable(model, optimizer, beside=state)


class _Completed:
    """Stands for the model in the library's AdaLOMO, which at every gradient goes through all parameters for complete
    ones: after `begin` it names those that have been completed since it was asked last.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._waiting: list[tuple[str, Tensor]] | None = None

    def parameters(self) -> Iterator[Tensor]:
        return self._model.parameters()

    def named_parameters(self) -> Iterable[tuple[str, Tensor]]:
        if self._waiting is None:
            return self._model.named_parameters()
        waiting, self._waiting = self._waiting, []
        return waiting

    def begin(self) -> None:
        self._waiting = []
        for name, parameter in self._model.named_parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(functools.partial(self._completed, name))

    def _completed(self, name: str, parameter: Tensor) -> None:
        assert self._waiting is not None
        self._waiting.append((name, parameter))


def _trainable(model: Any, optimizer: Any, *, beside: int = 0) -> Trainable:
    """A model that `optimizer` trains.     beside: bytes of its state, which it keeps in an own way."""
    trainable = library_trainable(model, optimizer, lambda parameter: 0, temporary=lambda parameters: 0)
    # One gradient at a time is there; the largest, while it is used, beside float32 copies of it and its weight.
    largest = max(nbytes([part.parameter]) for part in trainable.visits[0])
    held = Held(nbytes(model.parameters()), 0, largest, 0, 0)
    return replace(
        trainable,
        backward=optimizer.begin,
        clip=optimizer.clip,
        foreign=Foreign(lambda index: held, lambda index: 0, lambda: (0, 0), _consumed),
        gradient_peak=lambda: optimizer.gradient_peak,
        beside=beside,
    )


def _consumed(parameter: Tensor) -> None:
    """The library's float32 copies of gradient and weight."""
    gradient = parameter.grad
    assert gradient is not None
    copies = [gradient.float(), parameter.detach().float()]
    parameter.grad = None
    del copies


def _stepwise(kind: Any) -> Any:
    """The library's optimizer in three calls: `begin` takes the loss, `clip` may run backward for its norm, `step`
    moves the weights."""

    class Stepwise(kind):
        def __init__(self, model: Any, **options: Any) -> None:
            self.gradient_peak = 0
            self._loss: Tensor | None = None
            self._completed = 0
            self._watching = True
            # Before the library's own hooks, which drop the gradient.
            for parameter in (p for p in model.parameters() if p.requires_grad):
                parameter.register_post_accumulate_grad_hook(self._watch)
            super().__init__(model, **options)

        def _watch(self, parameter: Tensor) -> None:
            self._completed += 1
            if self._watching:
                now = nbytes(p.grad for p in self.model.parameters() if p.grad is not None)
                self.gradient_peak = max(self.gradient_peak, now)

        def begin(self, loss: Tensor) -> None:
            self._loss = loss

        def clip(self, max_norm: float) -> Tensor | None:
            self.clip_grad_norm, self.clip_coef = None, None
            if max_norm == math.inf:
                return None
            self.clip_grad_norm, self._completed = max_norm, 0
            self.grad_norm(self._loss)
            if len(self.grad_norms) < self._completed:  # the library leaves out gradients that are not finite
                return torch.tensor(math.nan)
            return torch.norm(torch.stack(self.grad_norms), 2.0)

        def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
            assert self._loss is not None, "backward comes before step"
            self.fused_backward(self._loss, self.param_groups[0]["lr"])
            self._watching = False  # every step holds the same

        def zero_grad(self, set_to_none: bool = True) -> None:
            self._loss = None
            super().zero_grad(set_to_none)

    return Stepwise
