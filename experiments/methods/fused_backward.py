"""LOMO (arXiv 2306.09782) and AdaLOMO (arXiv 2310.10195) by pytorch-optimizer: weights move inside backward."""

import functools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from bcd.memory import Bytes, Held, nbytes
from bcd.memory.activations import LivePeak
from bcd.rules.rule import require
from experiments.methods.fake_steps import Answers
from experiments.methods.footprint import WholeFootprint
from experiments.methods.interface import Method, Trainable


@dataclass(frozen=True)
class LOMOMethod(Method):
    """LOMO on every parameter: x <- x - lr c g, each gradient dropped as soon as its parameter has moved.

    c = min(1, max_norm / ||g||) needs the norm of all gradients before the first weight moves, so that clipping costs
    a second backward pass (as in the library and in the paper). Without clipping (max_grad_norm=null) there is one
    pass, and the gradient norm is not known: a gradient that is not finite then leaves its parameter where it is.
    Gradients cannot be accumulated over several batches.

    Args:
        lr: learning rate.

    Raises:
        ValueError: for an impossible lr.
    """

    lr: float

    def __post_init__(self) -> None:
        require("lr", self.lr, least=0.0)

    def __call__(self, model: Any) -> Trainable:
        from pytorch_optimizer import LOMO  # imports 128 optimizers, and wrong values should be told at once

        return _trainable(model, _stepwise(LOMO)(model, lr=self.lr), LOMO)


@dataclass(frozen=True)
class AdaLOMOMethod(Method):
    """AdaLOMO on every parameter: Adafactor's update inside backward, relative to the size of the weights.

    The step is lr max(eps, RMS(weights)) times an update of RMS at most 1; a matrix keeps one second moment a row and
    one a column, in float32. Clipping works as in `LOMOMethod`, and each gradient is dropped when the next one comes.

    Args:
        lr: relative learning rate.

    Raises:
        ValueError: for an impossible lr.
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
        return _trainable(model, optimizer, AdaLOMO)


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


class FusedBackwardFootprint(WholeFootprint):
    """Of an optimizer that moves each weight inside backward and drops its gradient.

    Args:
        model: the model that it trains.
        optimizer: made of a class of `_stepwise`.
        kind: the library's class.
    """

    def __init__(self, model: nn.Module, optimizer: Any, kind: Any) -> None:
        super().__init__(model, optimizer)
        self._kind = kind
        self.consumed = self._consumed

    def further_state(self) -> list[Tensor]:
        """The moments of AdaLOMO, which are there from the start; LOMO has none."""
        names = ("exp_avg_sq", "exp_avg_sq_row", "exp_avg_sq_col")
        return [moment for name in names for moment in getattr(self.optimizer, name, {}).values()]

    def used_up(self, visit: int) -> list[Tensor]:
        return self.differentiated(visit)

    def held(self, visit: int) -> Held:
        largest = max(nbytes([part.parameter]) for part in self.trained)  # one gradient at a time is there
        return replace(super().held(visit), gradients=largest)

    def measured(self) -> Bytes:
        optimizer: Any = self.optimizer
        return self._now().peak(Bytes(0, optimizer.gradient_peak, 0))

    def _consumed(self, parameter: Tensor) -> None:
        """The library's own update, by an optimizer of this parameter alone."""
        alone = nn.Parameter(parameter.detach())
        with LivePeak.unseen():  # its state is part of `held`
            optimizer = self._kind(nn.ParameterList([alone]), lr=1.0, loss_scale=0.0)
        alone.grad, parameter.grad = parameter.grad, None
        with Answers():
            optimizer.grad_func(0)


def _trainable(model: nn.Module, optimizer: Any, kind: Any) -> Trainable:
    footprint = FusedBackwardFootprint(model, optimizer, kind)
    backward, clip = optimizer.begin, optimizer.clip
    return Trainable(model, optimizer, [footprint.trained], footprint, backward=backward, clip=clip)


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
