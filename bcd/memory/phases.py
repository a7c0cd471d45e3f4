"""Bytes of one step: the buffers and temporary bytes of the update, and the phases of a step."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bcd import precision
from bcd.blocks import Part
from bcd.memory.visit import FLOAT32_BYTES, Held, has_master
from bcd.optimizer import Master


def scratch_bytes(active: Sequence[Part], *, master: Master, compiled: bool) -> int:
    """Bytes of the float32 buffers for master and gradient that a visit keeps from its first step on; from shapes.

        2 x 4 x max(largest active part, min(`bcd.precision.CHUNK`, all active parts))

    Args:
        active: the parts of the visit.
        master: see `BlockCoordinateDescent`.
        compiled: whether one compiled kernel does the update, which needs no buffer, as on a GPU unless the rule names
            a kernel itself. Without a master there is none either.
    """
    if compiled or not any(has_master(part, master) for part in active):
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
    block, or with a master one chunk in float32. A fused or compiled kernel takes nothing, and rules with less state
    no more than is left out here: what they take for one tensor at a time.

    Args:
        blocks: the parts updated by one call of the rule, one entry a call.
        state_tensors: of the rule.
        fused: whether the rule's kernel is.
        master: see `BlockCoordinateDescent`.
        compiled: see `scratch_bytes`.
    """
    if state_tensors < 2 or fused:
        return 0
    largest = 0
    for parts in blocks:
        exact = [part for part in parts if has_master(part, master)]
        plain = [part for part in parts if not has_master(part, master)]
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

    Args:
        held: during the visit.
        saved: bytes saved for backward when forward ends (`bcd.memory.activations.SavedTensors`).
        live_peak: of forward and backward, gradients included (`bcd.memory.activations.LivePeak`).
        update: `update_bytes`.
        scratch: `scratch_bytes`.
    """
    always = held.device - held.gradients + scratch
    return Phases(always + saved, always + live_peak, always + held.gradients + update)
