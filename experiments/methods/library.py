"""What methods on optimizers of torch and of libraries share: their parameters, and the bytes that they hold."""

from functools import cached_property
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from bcd.partitions import find_layers
from experiments.methods.fake_steps import Groups, Make, state_bytes, update_bytes
from experiments.methods.footprint import WholeFootprint, trained
from experiments.methods.interface import Trainable


class LibraryFootprint(WholeFootprint):
    """Of an optimizer of torch or of a library, measured on a copy that steps on fake tensors.

    Args:
        model: the model that it trains.
        optimizer: what moves it.
        make: builds it.
        groups: the parameters that `make` takes.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, make: Make, groups: Groups) -> None:
        super().__init__(model, optimizer)
        self._make, self._groups = make, groups

    def state(self) -> int:
        return self._state

    def update(self, visit: int) -> int:
        """As `Footprint.update`, without steps that make new bases, which come between many others."""
        return self._update

    @cached_property
    def _state(self) -> int:
        return state_bytes(self._make, self._groups)

    @cached_property
    def _update(self) -> int:
        return update_bytes(self._make, self._groups)


def library_trainable(model: nn.Module, make: Make, *groups: list[Tensor], **options: Any) -> Trainable:
    """A model whose trained parameters all move at every step of an optimizer.

    Args:
        model: its parameters that require a gradient are trained.
        make: ``make(*groups)`` builds the optimizer; it is called again for a prediction, on tensors without memory.
        groups: all trained parameters, in the lists that `make` takes; one list of all, if none is given.
        options: further fields of `Trainable`.
    """
    parts = trained(model)
    groups = groups or ([part.parameter for part in parts],)
    optimizer = make(*groups)
    return Trainable(model, optimizer, [parts], LibraryFootprint(model, optimizer, make, groups), **options)


def layer_matrices(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """The trained matrices inside the layers, and every other trained parameter: embedding, norms, biases, head.

    Raises:
        ValueError: when `model` has no layers, see `bcd.partitions.find_layers`.
    """
    inside = {id(p) for layer in find_layers(model)[1] for p in layer.parameters() if p.ndim == 2}
    parameters = [part.parameter for part in trained(model)]
    return [p for p in parameters if id(p) in inside], [p for p in parameters if id(p) not in inside]
