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

from bcd.memory import Held
from experiments.methods import Trainable

PHASES: tuple[str, ...] = ("forward", "backward", "update")
WARM_UP = 2  # steps of a visit that are not timed: the first makes the state, the second reads the memory


class Clock:
    """Marks in the device's queue, each the end of a phase; `steps` waits for them and adds up the seconds between."""

    def __init__(self, device: str) -> None:
        self._cuda = device == "cuda"
        self._marks: list[Any] = []
        self._names: list[str] = []

    def mark(self, phase: str) -> None:
        """Note this moment of the device's work as the end of `phase`."""
        self._names.append(phase)
        if self._cuda:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._marks.append(event)
        else:
            self._marks.append(time.perf_counter())

    def steps(self) -> list[dict[str, float]]:
        """Seconds of each step by phase, summed over its micro-batches; a step ends with its update."""
        if self._cuda:
            torch.cuda.synchronize()
        steps: list[dict[str, float]] = [dict.fromkeys(PHASES, 0.0)]
        for name, before, after in zip(self._names[1:], self._marks, self._marks[1:], strict=False):
            steps[-1][name] += before.elapsed_time(after) / 1e3 if self._cuda else after - before
            if name == "update":
                steps.append(dict.fromkeys(PHASES, 0.0))
        return steps[:-1]


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
        peak = torch.cuda.max_memory_allocated()
        self.peak = max(self.peak, peak)
        self.reserved = max(self.reserved, torch.cuda.max_memory_reserved())
        torch.cuda.reset_peak_memory_stats()
        return peak

    def forget(self) -> None:
        """Begin a new peak."""
        self.phase()
        self.peak = self.reserved = 0


@dataclass(frozen=True)
class Visit:
    """One visit. Seconds are medians over the timed steps, bytes are those of a step after the first.

    Attributes:
        index: of the visit.
        first: name of its first parameter.
        seconds: by phase, and "step" for their sum.
        steps: number of timed steps.
        held: live tensors by category after the backward pass.
        other: allocated before the step and in no category.
        activations: allocated by the model's forward, still alive when backward begins.
        loss: allocated by the loss, still alive when backward begins.
        phases: largest allocated bytes of each phase of that step.
        peak: largest allocated bytes of the visit, with the switch at its end.
        reserved: largest reserved bytes, the same.
        value: the loss of the last step.
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
    """Steps on the same tokens, each predicted from those before it.

    Attributes:
        trainable: what takes the steps.
        tokens: (sequences, length).
        device: "cpu" or "cuda".
        max_grad_norm: clips the global norm of the gradients in the update; None: no clipping.
        micro_batches: parts of the tokens that go forward and backward one after another.
    """

    trainable: Trainable
    tokens: Tensor
    device: str
    max_grad_norm: float | None = None
    micro_batches: int = 1

    def once(self, after: Callable[[str], object] = lambda phase: None) -> Tensor:
        """Forward, backward, update; `after` is called with the name of each phase when it is queued."""
        trainable = self.trainable
        total = torch.zeros((), device=self.tokens.device)
        for part in self.tokens.chunk(self.micro_batches):
            loss = trainable.model(input_ids=part, labels=part, use_cache=False).loss / self.micro_batches
            after("forward")
            trainable.backward(loss)
            after("backward")
            total += loss.detach()
            del loss
        if self.max_grad_norm is not None:
            trainable.clipped(self.max_grad_norm)
        trainable.optimizer.step()
        trainable.optimizer.zero_grad()
        after("update")
        return total


def measure_visit(steps: Steps, index: int, count: int) -> Visit:
    """Run WARM_UP + `count` steps of the current visit."""
    trainable, memory = steps.trainable, Memory(steps.device)
    memory.forget()
    steps.once()
    step = _memory_of_a_step(steps, memory)
    clock = Clock(steps.device)
    clock.mark("start")
    loss = torch.zeros(())
    for _ in range(count):
        loss = steps.once(clock.mark)
    rows = clock.steps()
    memory.phase()
    seconds = {name: statistics.median(row[name] for row in rows) for name in PHASES}
    seconds["step"] = statistics.median(sum(row.values()) for row in rows)
    name = trainable.visits[index][0].name if len(trainable.visits) > 1 else ""
    return Visit(index, name, seconds, count, **step, peak=memory.peak, reserved=memory.reserved, value=float(loss))


def _memory_of_a_step(steps: Steps, memory: Memory) -> dict[str, Any]:
    """One step that notes what is allocated between its phases."""
    marks: dict[str, int] = {"start": memory.allocated()}
    peaks: dict[str, int] = {}
    held: list[Held] = []

    def after(phase: str) -> None:
        marks[phase] = memory.allocated()  # of the last micro-batch, which finds the gradients of the others
        peaks[phase] = max(peaks.get(phase, 0), memory.phase())
        if phase == "backward":
            held[:] = [steps.trainable.footprint.held_now()]

    decoder: Any = steps.trainable.model.get_decoder()  # pyright: ignore[reportCallIssue]
    hook = decoder.register_forward_hook(lambda *_: marks.__setitem__("model", memory.allocated()))
    try:
        memory.phase()
        steps.once(after)
    finally:
        hook.remove()
    (now,) = held
    at_loss = marks.get("model", marks["forward"])
    before = marks["start"] + (now.gradients if steps.micro_batches > 1 else 0)
    return {
        "held": now,
        "other": max(0, marks["start"] - (now.device - now.gradients)),
        "activations": max(0, at_loss - before),
        "loss": marks["forward"] - at_loss,
        "phases": peaks,
    }


def run_visits(steps: Steps, indices: Sequence[int], count: int) -> tuple[list[Visit], int]:
    """Measure visits in turn. The first is thrown away: it loads kernels and runs the compiler.

    Args:
        steps: of a method whose visits last WARM_UP + `count` steps, see `Method.visiting`.
        indices: of the visits.
        count: timed steps of each.

    Returns:
        The visits, and the largest bytes of the one thrown away.
    """
    visits, warm_up = [], 0
    for turn, index in enumerate(indices):
        if steps.trainable.start_visit is not None:
            steps.trainable.start_visit(index)
        visit = measure_visit(steps, index, count)
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
