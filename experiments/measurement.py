"""Time and memory of training steps on a device, visit by visit, split into forward, backward and update.

The steps of a visit are queued without waiting for the device, as a training loop queues them; only their marks are
read afterwards. Memory is read in a step of its own, which is not timed.
"""

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bcd import BlockCoordinateDescent
from bcd.memory import Held, measured, measured_held
from experiments.methods import Trainable

PHASES = ("forward", "backward", "update")
WARM_UP = 2  # steps of a visit that are not timed: the first makes the state, the second reads the memory


class Clock:
    """Marks in the device's queue; `phases` waits for them and returns the seconds between neighbours."""

    def __init__(self, device: str) -> None:
        self._cuda = device == "cuda"
        self._marks: list[Any] = []

    def mark(self) -> None:
        """Note this moment of the device's work."""
        if self._cuda:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._marks.append(event)
        else:
            self._marks.append(time.perf_counter())

    def phases(self) -> list[float]:
        """Seconds between each two neighbouring marks."""
        if self._cuda:
            torch.cuda.synchronize()
            return [a.elapsed_time(b) / 1e3 for a, b in zip(self._marks, self._marks[1:], strict=False)]
        return [b - a for a, b in zip(self._marks, self._marks[1:], strict=False)]


class Memory:
    """Bytes of the device's allocator; zeros where the device keeps no account, as the CPU."""

    def __init__(self, device: str) -> None:
        self._cuda = device == "cuda"
        self.peak = 0
        self.reserved = 0

    def allocated(self) -> int:
        """Bytes of live tensors now."""
        return torch.cuda.memory_allocated() if self._cuda else 0

    def phase(self) -> int:
        """Largest number of allocated bytes since the last call."""
        if not self._cuda:
            return 0
        found = torch.cuda.max_memory_allocated()
        self.peak = max(self.peak, found)
        self.reserved = max(self.reserved, torch.cuda.max_memory_reserved())
        torch.cuda.reset_peak_memory_stats()
        return found

    def forget(self) -> None:
        """Begin a new peak."""
        self.phase()
        self.peak = self.reserved = 0


@dataclass(frozen=True)
class Visit:
    """One visit. Seconds are medians over the timed steps, bytes are those of a step after the first.

    index: of the visit.     first: name of its first parameter.     seconds: by phase, and "step" for their sum.
    steps: number of timed steps.     held: live tensors by category after the backward pass.
    other: allocated before the step and in no category.     activations, loss: allocated by the model's forward and by
    the loss, still alive when backward begins.     phases: largest allocated bytes of each phase of that step.
    peak, reserved: largest of the visit, with the switch at its end.     value: the loss of the last step.
    """

    index: int
    first: str
    seconds: dict[str, float]
    steps: int
    held: Held
    other: int
    activations: int
    loss: int
    phases: dict[str, int]
    peak: int
    reserved: int
    value: float


@dataclass(frozen=True)
class Steps:
    """Steps of `trainable` on the same tokens, (sequences, length), each predicted from those before it.

    max_grad_norm: clips the global norm of the gradients in the update; None: no clipping.
    """

    trainable: Trainable
    tokens: Tensor
    device: str
    max_grad_norm: float | None = None

    def once(self, after: Callable[[str], object] = lambda phase: None) -> Tensor:
        """Forward, backward, update; `after` is called with the name of each phase when it is queued."""
        trainable = self.trainable
        loss = trainable.model(input_ids=self.tokens, labels=self.tokens, use_cache=False).loss
        after("forward")
        trainable.backward(loss)
        after("backward")
        if self.max_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(trainable.model.parameters(), self.max_grad_norm)
        trainable.optimizer.step()
        trainable.optimizer.zero_grad()
        after("update")
        return loss.detach()


def measure_visit(steps: Steps, index: int, count: int) -> Visit:
    """Run WARM_UP + `count` steps of the current visit."""
    trainable, memory = steps.trainable, Memory(steps.device)
    memory.forget()
    steps.once()
    found = _memory_of_a_step(steps, memory)
    clock = Clock(steps.device)
    clock.mark()
    loss = torch.zeros(())
    for _ in range(count):
        loss = steps.once(lambda phase: clock.mark())
    passed = clock.phases()
    memory.phase()
    rows = [passed[i : i + len(PHASES)] for i in range(0, len(passed), len(PHASES))]
    seconds = {name: statistics.median(row[i] for row in rows) for i, name in enumerate(PHASES)}
    seconds["step"] = statistics.median(map(sum, rows))
    name = trainable.visits[index][0].name if len(trainable.visits) > 1 else ""
    return Visit(index, name, seconds, count, **found, peak=memory.peak, reserved=memory.reserved, value=float(loss))


def _memory_of_a_step(steps: Steps, memory: Memory) -> dict[str, Any]:
    """One step that notes what is allocated between its phases."""
    marks: dict[str, int] = {"start": memory.allocated()}
    peaks: dict[str, int] = {}
    held: list[Held] = []

    def after(phase: str) -> None:
        marks[phase] = memory.allocated()
        peaks[phase] = memory.phase()
        if phase == "backward":
            held.append(held_now(steps.trainable))

    decoder: Any = steps.trainable.model.get_decoder()  # pyright: ignore[reportCallIssue]
    hook = decoder.register_forward_hook(lambda *_: marks.__setitem__("model", memory.allocated()))
    try:
        memory.phase()
        steps.once(after)
    finally:
        hook.remove()
    (now,) = held
    at_loss = marks.get("model", marks["forward"])
    return {
        "held": now,
        "other": max(0, marks["start"] - (now.device - now.gradients)),
        "activations": at_loss - marks["start"],
        "loss": marks["forward"] - at_loss,
        "phases": peaks,
    }


def held_now(trainable: Trainable) -> Held:
    """Live tensors by category; float32 copies of the weights count as master."""
    parameters = list(trainable.model.parameters())
    if isinstance(trainable.optimizer, BlockCoordinateDescent):
        return measured_held(parameters, trainable.optimizer)
    now = measured(parameters, trainable.optimizer)
    master, state = trainable.foreign.live() if trainable.foreign else (0, now.state)
    return Held(now.weights, master, now.gradients, state, 0)


def run_visits(steps: Steps, indices: Sequence[int], count: int) -> tuple[list[Visit], int]:
    """Measure the visits of `indices` in turn, `count` timed steps each; the first is thrown away.

    That one loads kernels and runs the compiler; its largest bytes are the second result.
    """
    visits, optimizer = [], steps.trainable.optimizer
    warm_up = 0
    for turn, index in enumerate(indices):
        timed = count if turn else 1
        if steps.trainable.start_visit is not None:
            steps.trainable.start_visit(index)
        elif isinstance(optimizer, BlockCoordinateDescent):
            optimizer.inner_steps = WARM_UP + timed
        visit = measure_visit(steps, index, timed)
        if turn:
            visits.append(visit)
        else:
            warm_up = visit.peak
            clear(steps.device)  # what the compiler tried out is no part of training
    return visits, warm_up


def clear(device: str) -> None:
    """Give unreachable tensors and the allocator's reserve back."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
