"""Methods: everything that turns a model and a loss into new weights, in one form for the training loop."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from bcd import BlockCoordinateDescent, Part
from bcd.memory import Bytes, Held, held, measured


@dataclass(frozen=True)
class Foreign:
    """What an optimizer holds that is not `bcd`'s and not described by `Trainable.state_tensors`, in bytes.

    held: of a visit, by its index, from shapes alone.     update: temporary, while the weights are updated.
    live: what its float32 copies of weights and its state hold right now.
    consumed: for a prediction: what backward does with a parameter whose gradient is complete.
    """

    held: Callable[[int], Held]
    update: Callable[[int], int]
    live: Callable[[], tuple[int, int]]
    consumed: Callable[[Tensor], None] | None = None


@dataclass(frozen=True)
class Trainable:
    """A model ready to be trained.

    model: possibly wrapped by an adapter.              optimizer: steps on the model's trainable parameters.
    visits: parts of parameters that are active together, one list for each block; full training has one list.
    state_tensors, counts_steps: what the optimizer keeps for an active part, see `bcd.rules.Rule`.
    report: what the method itself counted during training, JSON values by name.
    backward: what runs backward through the loss, for optimizers that move the weights inside backward.
    start_visit: starts the visit of that index, for optimizers of blocks whose order is not `bcd`'s.
    foreign: bytes of an optimizer that keeps other things than its state_tensors.
    merge: makes the plain model of a wrapped one, for `merged`.
    clip: ``clip(max_norm)`` clips the gradients and returns their norm before; None: as torch does it. It may return
        None when the norm is not known before the weights move, which only max_norm = infinity allows.
    evaluating: entered while the model is evaluated or exported; what the weights are then is up to the method, and
        afterwards they are bitwise what they were.
    gradient_peak: bytes of the gradients that existed together, for backward passes that drop them; None: those that
        are there after backward.
    beside: bytes of state that are kept beside the optimizer's entries for its parameters.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    visits: Sequence[Sequence[Part]]
    state_tensors: int
    counts_steps: bool
    report: Callable[[], dict[str, Any]] = dict
    backward: Callable[[Tensor], None] = Tensor.backward
    start_visit: Callable[[int], None] | None = None
    foreign: Foreign | None = None
    merge: Callable[[], nn.Module] | None = None
    clip: Callable[[float], Tensor | None] | None = None
    evaluating: Callable[[], AbstractContextManager[None]] = nullcontext
    gradient_peak: Callable[[], int] | None = None
    beside: int = 0

    @cached_property
    def parameters(self) -> list[nn.Parameter]:
        """Of the model; collecting them takes milliseconds, at every step."""
        return list(self.model.parameters())

    def clipped(self, max_norm: float) -> Tensor | None:
        """Clip the global norm of all gradients to max_norm; returns the norm before, see `clip`."""
        if self.clip is not None:
            return self.clip(max_norm)
        return torch.nn.utils.clip_grad_norm_(self.parameters, max_norm)

    def predicted(self) -> Bytes:
        """Peak bytes of weights, gradients and optimizer state, from shapes alone."""
        if self.foreign is None:
            parameters = list(self.model.parameters())
            kept: dict[str, Any] = {"state_tensors": self.state_tensors, "counts_steps": self.counts_steps}
            if isinstance(self.optimizer, BlockCoordinateDescent):
                kept["master"] = self.optimizer.master
            found = [held(parameters, visit, **kept) for visit in self.visits]
        else:
            found = [self.foreign.held(index) for index in range(len(self.visits))]
        states = (now.state + now.master for now in found)  # a remainder is an entry of the optimizer's state
        return Bytes(found[0].weights, max(now.gradients for now in found), max(states) + self.beside)

    def measured(self) -> Bytes:
        """Bytes that weights, gradients and optimizer state hold right now."""
        now = measured(self.parameters, self.optimizer)
        now = Bytes(now.weights, now.gradients, now.state + self.beside)
        return now if self.gradient_peak is None else now.peak(Bytes(0, self.gradient_peak(), 0))

    def merged(self) -> Any:
        """The trained model without adapters, for an export; a model that has adapters is used up."""
        return self.merge() if self.merge else self.model


class Method(Protocol):
    """What the training loop asks of a method. A method checks its own values when it is made, before any model."""

    def __call__(self, model: nn.Module) -> Trainable:
        """Make `model` trainable; called once for each method object."""
        ...
