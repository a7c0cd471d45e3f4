"""Bytes of training by category: predicted from shapes, and measured on the live tensors, in the same units.

Categories: `weights`, `gradients`, `state` (optimizer state). Activations depend on the loss and the batch and are
not part of this model. All figures are bytes (1 GB = 10^9 bytes).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

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
    visits: Sequence[Sequence[Tensor]],
    state_tensors: int,
) -> Bytes:
    """Peak bytes over the visits, from shapes alone (no memory is touched; meta tensors are welcome).

        weights   = sum of all parameters
        gradients = max over visits of the active parameters
        state     = max over visits of state_tensors x active parameters (+ 4 bytes a tensor when state_tensors > 0)

    parameters: every parameter of the model, frozen ones included.
    visits: the parameters active together, one entry for each block; full training has one entry with all.
    state_tensors: state tensors of the parameter's size that the rule keeps (Adam 2, SGD 0).
    """
    if not visits:
        raise ValueError("visits is empty: name at least one set of active parameters")
    states = [state_tensors * nbytes(active) + (STEP_BYTES * len(active) if state_tensors else 0) for active in visits]
    return Bytes(nbytes(parameters), max(nbytes(active) for active in visits), max(states))


def measured(parameters: Iterable[Tensor], optimizer: torch.optim.Optimizer) -> Bytes:
    """Bytes that `parameters`, their gradients and the state of `optimizer` hold right now."""
    everything = list(parameters)
    state = [value for values in optimizer.state.values() for value in values.values() if isinstance(value, Tensor)]
    return Bytes(nbytes(everything), nbytes(p.grad for p in everything if p.grad is not None), nbytes(state))
