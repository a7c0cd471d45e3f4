"""Methods: everything that turns a model and a loss into new weights, in one form for the training loop."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from bcd import BlockCoordinateDescent, Expansion, Order, Part, Partition, Rule
from bcd.memory import Bytes, Held, held, measured
from bcd.optimizer import Lifetime, Master, Nonfinite, require_inner_steps
from bcd.rules.rule import require


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


@dataclass(frozen=True)
class BlockMethod:
    """`bcd.BlockCoordinateDescent` on a partition of the model; arguments as there.

    It reports the visits started, skipped steps, backward passes through everything that a greedy order cost, and with
    track_unchanged the share of each block's weights that its last visit left bitwise as they were.

    Raises ValueError for an impossible inner_steps or lr.
    """

    partition: Callable[[nn.Module], Partition]
    order: Order
    rule: Rule
    inner_steps: int
    lr: float
    always_active: Sequence[str] = ()
    state: Lifetime = "reset"
    master: Master = "off"
    switch_warmup: int = 0
    nonfinite: Nonfinite = "ignore"
    track_unchanged: bool = False
    expansion: Expansion | None = None

    def __post_init__(self) -> None:
        for axis in ("partition", "order", "rule"):
            if isinstance(name := getattr(self, axis), str):
                raise ValueError(f"method.{axis}={name} is no {axis}; choose one with {axis}={name}")
        require_inner_steps(self.inner_steps)
        require("lr", self.lr, least=0.0)

    def __call__(self, model: nn.Module) -> Trainable:
        partition = self.partition(model)
        optimizer = self._optimizer(
            partition,
            rule=self.rule,
            order=self.order,
            inner_steps=self.inner_steps,
            lr=self.lr,
            always_active=self.always_active,
            state=self.state,
            master=self.master,
            switch_warmup=self.switch_warmup,
            nonfinite=self.nonfinite,
            track_unchanged=self.track_unchanged,
            expansion=self.expansion,
        )
        always = [part for block in partition.blocks if block.name in self.always_active for part in block.parts]
        drawn = [block for block in partition.blocks if block.name not in self.always_active]
        width = getattr(self.order, "width", 1)
        # Where a visit trains several blocks, the largest ones together are the visit that needs most.
        largest = sorted(drawn, key=lambda block: block.numel, reverse=True)[:width]
        together = [*always, *(part for block in largest for part in block.parts)]
        visits = [together] if width > 1 else [[*always, *block.parts] for block in drawn]

        def report() -> dict[str, Any]:
            counted = ("visits_started", "skipped_steps", "full_backwards", "unchanged")
            return {name: getattr(optimizer, name) for name in counted}

        return Trainable(model, optimizer, visits, self.rule.state_tensors, self.rule.counts_steps, report)

    def _optimizer(self, partition: Partition, **options: Any) -> BlockCoordinateDescent:
        return BlockCoordinateDescent(partition, **options)


@dataclass(frozen=True)
class FullMethod:
    """A torch or library optimizer on every parameter that requires a gradient.

    optimizer: ``optimizer(parameters, lr=...)``, for example a partial of torch.optim.AdamW.
    lr: its learning rate.     state_tensors, counts_steps: what it keeps for a parameter, see `bcd.rules.Rule`.

    Raises ValueError for an impossible lr.
    """

    optimizer: Callable[..., torch.optim.Optimizer]
    lr: float
    state_tensors: int
    counts_steps: bool

    def __post_init__(self) -> None:
        require("lr", self.lr, least=0.0)

    def __call__(self, model: nn.Module) -> Trainable:
        parts = [Part(name, p) for name, p in model.named_parameters() if p.requires_grad]
        optimizer = self.optimizer([part.parameter for part in parts], lr=self.lr)
        return Trainable(model, optimizer, [parts], self.state_tensors, self.counts_steps)
