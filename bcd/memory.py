"""Bytes of training by category: predicted from shapes, and measured on the live tensors, in the same units.

`Bytes` has the peaks of a whole run: `weights`, `gradients`, `state` (optimizer state while active). `Held` has one
visit with everything that `BlockCoordinateDescent` keeps, on the device and on the host. Activations and the loss
depend on the batch: `bcd.activations` counts them, and `phases` adds both up. All figures are bytes (1 GB = 10^9).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bcd import precision
from bcd.blocks import Part
from bcd.checks import require_whole
from bcd.optimizer import BlockCoordinateDescent, Lifetime, Master

STEP_BYTES = 4
"""Adam-like rules keep one float32 step counter for each parameter tensor, as torch.optim does."""
ON_HOST = "_bcd_on_host"
"""Attribute of a CUDA parameter whose bytes lie in host memory, see `bcd.execution.host_embedding`: their address."""


@dataclass(frozen=True)
class Bytes:
    """Bytes on the device by category; `peak` takes the larger of each."""

    weights: int
    gradients: int
    state: int

    def peak(self, other: "Bytes") -> "Bytes":
        return Bytes(
            max(self.weights, other.weights),
            max(self.gradients, other.gradients),
            max(self.state, other.state),
        )


def nbytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of the given tensors; a tensor given twice counts once. Works on the meta device."""
    unique = {id(t): t for t in tensors}
    return sum(t.numel() * t.element_size() for t in unique.values())


def on_host(parameter: Tensor) -> bool:
    """Whether the bytes of a CUDA parameter lie in host memory, and still do: moving a model moves them."""
    address = getattr(parameter, ON_HOST, None)
    return address is not None and address == parameter.data_ptr()


def _by_place(parameters: Iterable[Tensor]) -> tuple[int, int]:
    """Bytes of the parameters on the device, and of those on the host."""
    everything = list(parameters)
    elsewhere = nbytes(p for p in everything if on_host(p))
    return nbytes(everything) - elsewhere, elsewhere


def predicted(
    parameters: Iterable[Tensor],
    visits: Sequence[Sequence[Part]],
    state_tensors: int,
    *,
    counts_steps: bool,
) -> Bytes:
    """Peak bytes over the visits, from shapes alone (no memory is touched; meta tensors are welcome).

        weights   = sum of all parameters, without an embedding on the host
        gradients = max over visits of the parameters with an active part: autograd fills whole tensors
        state     = max over visits of state_tensors x active parts (+ 4 bytes a part for a step counter)

    parameters: every parameter of the model, frozen ones included.
    visits: the parts active together, one entry for each block; full training has one entry with everything.
    state_tensors, counts_steps: of the rule, see `bcd.rules.Rule` (Adam 2, True; SGD 0, False).

    Raises ValueError when visits is empty or state_tensors is no whole number >= 0.
    """
    require_whole(
        "state_tensors", state_tensors, least=0, why="a rule keeps a whole number of tensors (Adam 2, SGD 0)"
    )
    if not visits:
        raise ValueError("visits is empty: name at least one set of active parameters")
    states = [
        sum(state_tensors * part.numel * part.parameter.element_size() + STEP_BYTES * counts_steps for part in active)
        for active in visits
    ]
    gradients = [nbytes(part.parameter for part in active) for active in visits]
    return Bytes(_by_place(parameters)[0], max(gradients), max(states))


def _tensors(state: Any) -> Iterable[Tensor]:
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, dict | list | tuple):
        for value in state.values() if isinstance(state, dict) else state:
            yield from _tensors(value)


def measured(parameters: Iterable[Tensor], optimizer: torch.optim.Optimizer) -> Bytes:
    """Bytes that `parameters`, their gradients and the state of `optimizer` hold right now, on their device."""
    everything = list(parameters)
    state = [tensor for values in optimizer.state.values() for tensor in _tensors(values)]
    gradients = nbytes(p.grad for p in everything if p.grad is not None)
    return Bytes(_by_place(everything)[0], gradients, nbytes(state))


# --- one visit, with what is kept of other visits ---

REMAINDER_BYTES = 2
"""An exact master is the bfloat16 weight and a 16-bit remainder, see `bcd.precision`."""
FLOAT32_BYTES = 4


@dataclass(frozen=True)
class Held:
    """Bytes held during one visit, once its first backward and step are done.

    weights: all parameters on the device.     master: remainders of the active weights.
    gradients: of the active parameters.     state: optimizer state on the device.
    host: what is kept on the CPU: of the blocks that are not active, and an embedding that is read from there.
    """

    weights: int
    master: int
    gradients: int
    state: int
    host: int

    @property
    def device(self) -> int:
        """Everything but `host`."""
        return self.weights + self.master + self.gradients + self.state


def _has_master(part: Part, master: Master) -> bool:
    return master != "off" and part.parameter.dtype == torch.bfloat16


def _remainders(parts: Iterable[Part], master: Master) -> int:
    return sum(REMAINDER_BYTES * part.numel for part in parts if _has_master(part, master))


def _states(parts: Iterable[Part], state_tensors: int, counts_steps: bool, master: Master) -> int:
    """The rule sees the float32 master where there is one, and makes its state of the same dtype."""
    return sum(
        state_tensors * part.numel * (FLOAT32_BYTES if _has_master(part, master) else part.parameter.element_size())
        + STEP_BYTES * counts_steps
        for part in parts
    )


def held(
    parameters: Iterable[Tensor],
    active: Sequence[Part],
    visited: Sequence[Part] = (),
    *,
    state_tensors: int,
    counts_steps: bool,
    state: Lifetime = "reset",
    master: Master = "off",
) -> Held:
    """Bytes held during a visit, from shapes alone.

        weights   = all parameters, without an embedding on the host
        master    = 2 bytes a weight of each active bfloat16 part, 0 when master="off"
        gradients = parameters with an active part, whole: autograd knows no rows
        state     = active parts x state_tensors, in float32 under a master; state="device": visited parts too
        host      = state of the visited parts for state="host", and their remainders for master="host"; that embedding

    active, visited: the parts of this visit, and those of earlier visits that are not active now (every other part
        after a block epoch).
    state_tensors, counts_steps: of the rule.     state, master: see `BlockCoordinateDescent`.
    """
    weights, embedding = _by_place(parameters)
    on_device = _states(active, state_tensors, counts_steps, master)
    kept = _states(visited, state_tensors, counts_steps, master)
    return Held(
        weights=weights,
        master=_remainders(active, master),
        gradients=nbytes(part.parameter for part in active),
        state=on_device + (kept if state == "device" else 0),
        host=embedding + (kept if state == "host" else 0) + (_remainders(visited, master) if master == "host" else 0),
    )


def measured_held(parameters: Iterable[Tensor], optimizer: BlockCoordinateDescent) -> Held:
    """The categories of `held` on the live tensors of `optimizer`, right now.

    What is kept of other visits counts as `host` by the optimizer's options: on a CPU the device cannot tell.
    """
    everything = list(parameters)
    blocks = optimizer.partition.blocks
    active = {(id(part.parameter), part.rows) for i in optimizer.active_blocks for part in blocks[i].parts}
    weights, embedding = _by_place(everything)
    bytes_of = {"master": 0, "state": 0, "host": embedding}
    for part in (part for block in blocks for part in block.parts):
        values = optimizer.state.get(part.parameter, {})
        if part.rows is not None:
            values = values.get("{}:{}".format(*part.rows), {})
        for name, value in values.items():
            if (id(part.parameter), part.rows) in active:
                category = "master" if name == "remainder" else "state"
            else:
                away = name == "remainder" or optimizer.state_lifetime == "host"
                category = "host" if away else "state"
            bytes_of[category] += nbytes([value])
    gradients = nbytes(p.grad for p in everything if p.grad is not None)
    return Held(weights=weights, gradients=gradients, **bytes_of)


def scratch_bytes(active: Sequence[Part], *, master: Master, compiled: bool) -> int:
    """Bytes of the float32 buffers for master and gradient that a visit keeps from its first step on; from shapes.

        2 x 4 x max(largest active part, min(`bcd.precision.CHUNK`, all active parts))

    compiled: whether one compiled kernel does the update, which needs no buffer, as on a GPU unless the rule names a
        kernel itself. Without a master there is none either.
    """
    if compiled or not any(_has_master(part, master) for part in active):
        return 0
    sizes = [part.numel for part in active]
    return 2 * FLOAT32_BYTES * max(*sizes, min(precision.limit(active[0].parameter), sum(sizes)))


def update_bytes(
    blocks: Iterable[Sequence[Part]],
    *,
    state_tensors: int,
    fused: bool,
    master: Master = "off",
    compiled: bool = False,
) -> int:
    """Temporary bytes of the update, which goes through the blocks one after another; from shapes alone.

    Adam-like rules (state_tensors >= 2) take the root of the second moment of everything that is updated at once: a
    block, or with a master one chunk in float32. A fused or compiled kernel, and a rule with less state, take nothing.

    blocks: the parts updated by one call of the rule, one entry a call.
    """
    if state_tensors < 2 or fused:
        return 0
    largest = 0
    for parts in blocks:
        exact = [part for part in parts if _has_master(part, master)]
        plain = [part for part in parts if not _has_master(part, master)]
        if exact and not compiled:
            for chunk in precision.chunks([part.of(part.parameter) for part in exact]):
                largest = max(largest, sum(FLOAT32_BYTES * exact[i].numel for i in chunk))
        largest = max(largest, sum(part.numel * part.parameter.element_size() for part in plain))
    return largest


@dataclass(frozen=True)
class Phases:
    """Device bytes of one step by phase: the end of forward, the worst moment of forward and backward, the update."""

    forward: int
    backward: int
    update: int

    @property
    def peak(self) -> int:
        return max(self.forward, self.backward, self.update)


def phases(held: Held, *, saved: int, live_peak: int, update: int, scratch: int = 0) -> Phases:
    """The phases of a step that is not the visit's first (its state is there already).

        forward  = weights + master + state + scratch + saved
        backward = weights + master + state + scratch + live_peak
        update   = weights + master + state + scratch + gradients + update

    saved: bytes saved for backward when forward ends (`bcd.activations.SavedTensors`).
    live_peak: of forward and backward, gradients included (`bcd.activations.LivePeak`).
    update: `update_bytes`.     scratch: `scratch_bytes`.
    """
    always = held.device - held.gradients + scratch
    return Phases(always + saved, always + live_peak, always + held.gradients + update)
