"""Methods: everything that turns a model and a loss into new weights, in one form for the training loop."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from bcd import Part
from bcd.memory import Bytes
from experiments.methods.footprint import Footprint


@dataclass(frozen=True)
class Trainable:
    """A model ready to be trained.

    Attributes:
        model: possibly wrapped by an adapter.
        optimizer: steps on the model's trainable parameters.
        visits: parts of parameters that are active together, one list for each block; full training has one list.
        footprint: the bytes that all this takes.
        report: what the method itself counted during training, JSON values by name.
        backward: what runs backward through the loss, for optimizers that move the weights inside backward.
        clip: ``clip(max_norm)`` clips the gradients and returns their norm before; None: as torch does it. It may
            return None when the norm is not known before the weights move, which only max_norm = infinity allows.
        merge: makes the plain model of a wrapped one, for `merged`.
        evaluating: entered while the model is evaluated or exported; what the weights are then is up to the method,
            and afterwards they are bitwise what they were.
        start_visit: starts the visit of that index, for optimizers of blocks whose order is not `bcd`'s.
        active: names of the blocks that the next step trains, for readers; none where a method has no blocks.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    visits: Sequence[Sequence[Part]]
    footprint: Footprint
    report: Callable[[], dict[str, Any]] = dict
    backward: Callable[[Tensor], None] = Tensor.backward
    clip: Callable[[float], Tensor | None] | None = None
    merge: Callable[[], nn.Module] | None = None
    evaluating: Callable[[], AbstractContextManager[None]] = nullcontext
    start_visit: Callable[[int], None] | None = None
    active: Callable[[], Sequence[str]] = tuple

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
        """Peak bytes of weights, gradients and optimizer state over the visits, from shapes alone."""
        held = [self.footprint.held(visit) for visit in range(len(self.visits))]
        states = (now.state + now.master for now in held)  # a remainder is an entry of the optimizer's state
        return Bytes(held[0].weights, max(now.gradients for now in held), max(states))

    def measured(self) -> Bytes:
        """Bytes that weights, gradients and optimizer state hold right now."""
        return self.footprint.measured()

    def merged(self) -> Any:
        """The trained model without adapters, for an export; a model that has adapters is used up."""
        return self.merge() if self.merge else self.model


class Method(Protocol):
    """What the training loop asks of a method. A method checks its own values when it is made, before any model."""

    def __call__(self, model: nn.Module) -> Trainable:
        """Make `model` trainable; called once for each method object."""
        ...

    def visiting(self, visits: Sequence[int], steps: int) -> "Method":
        """The same method, whose visits are these in turn and last `steps` steps each.

        One that has a single visit, or whose visits `Trainable.start_visit` begins, is what it is.

        Args:
            visits: indices of `Trainable.visits`.
            steps: at least 1.

        Raises:
            ValueError: for an impossible number of steps.
        """
        return self
