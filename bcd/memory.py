"""Bytes of training by category: predicted from shapes, and measured on the live tensors, in the same units.

Categories: `weights`, `gradients`, `state` (optimizer state). Activations depend on the loss and the batch and are
not part of this model; nor is what `BlockCoordinateDescent` keeps between visits (state="host" or "device") or for an
exact master (2 bytes a weight). All figures are bytes (1 GB = 10^9 bytes).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bcd.blocks import Part
from bcd.checks import require_whole

STEP_BYTES = 4
"""Adam-like rules keep one float32 step counter for each parameter tensor, as torch.optim does."""


@dataclass(frozen=True)
class Bytes:
    """Bytes by category; `peak` takes the larger of each."""

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


def predicted(
    parameters: Iterable[Tensor],
    visits: Sequence[Sequence[Part]],
    state_tensors: int,
    *,
    counts_steps: bool,
) -> Bytes:
    """Peak bytes over the visits, from shapes alone (no memory is touched; meta tensors are welcome).

        weights   = sum of all parameters
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
    return Bytes(nbytes(parameters), max(gradients), max(states))


def _tensors(state: Any) -> Iterable[Tensor]:
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, dict):
        for value in state.values():
            yield from _tensors(value)


def measured(parameters: Iterable[Tensor], optimizer: torch.optim.Optimizer) -> Bytes:
    """Bytes that `parameters`, their gradients and the state of `optimizer` hold right now."""
    everything = list(parameters)
    state = [tensor for values in optimizer.state.values() for tensor in _tensors(values)]
    return Bytes(nbytes(everything), nbytes(p.grad for p in everything if p.grad is not None), nbytes(state))
