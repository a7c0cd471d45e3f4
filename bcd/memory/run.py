"""Peaks of a whole run by category, and what is held at a moment."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bcd.memory.tensors import by_place, nbytes


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


def _tensors(state: Any) -> Iterable[Tensor]:
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, dict | list | tuple):
        for value in state.values() if isinstance(state, dict) else state:
            yield from _tensors(value)


def measured(parameters: Iterable[Tensor], optimizer: torch.optim.Optimizer) -> Bytes:
    """Bytes that `parameters`, their gradients and the state of `optimizer` hold right now, on their device.

    The state of an expansion is included.
    """
    everything = list(parameters)
    state = [tensor for values in optimizer.state.values() for tensor in _tensors(values)]
    state += _tensors(getattr(optimizer, "expansion_state", {}))
    gradients = nbytes(p.grad for p in everything if p.grad is not None)
    return Bytes(by_place(everything)[0], gradients, nbytes(state))
