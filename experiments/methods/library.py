"""What methods on optimizers of libraries share: their parameters, and the bytes that such an optimizer holds."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bcd import Part
from bcd.memory import STEP_BYTES, Held, measured, nbytes
from bcd.partitions import find_layers
from experiments.methods.interface import Foreign, Trainable


def trained(model: nn.Module) -> list[Part]:
    """The parameters of `model` that require a gradient, whole."""
    return [Part(name, p) for name, p in model.named_parameters() if p.requires_grad]


def layer_matrices(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """The trained matrices inside the layers, and every other trained parameter: embedding, norms, biases, head.

    Raises ValueError when `model` has no layers, see `bcd.partitions.find_layers`.
    """
    inside = {id(p) for layer in find_layers(model)[1] for p in layer.parameters() if p.ndim == 2}
    parameters = [part.parameter for part in trained(model)]
    return [p for p in parameters if id(p) in inside], [p for p in parameters if id(p) not in inside]


def adam_bytes(parameter: Tensor, *, counter: bool) -> int:
    """Two moments of the parameter's size and dtype, and a float32 step counter where the optimizer keeps one."""
    return 2 * nbytes([parameter]) + STEP_BYTES * counter


def library_trainable(
    model: Any,
    optimizer: torch.optim.Optimizer,
    state: Callable[[Tensor], int],
    *,
    temporary: Callable[[Sequence[Tensor]], int],
    **options: Any,
) -> Trainable:
    """A model whose trained parameters all move at every step of `optimizer`.

    state: bytes kept for a parameter.     temporary: bytes that the update of the given parameters takes and frees,
        without steps that make new bases: how much their decompositions take is up to the linear algebra.
    options: further fields of `Trainable`.
    """
    parts = trained(model)
    parameters = [part.parameter for part in parts]
    held = Held(nbytes(model.parameters()), 0, nbytes(parameters), sum(map(state, parameters)), 0)
    foreign = Foreign(
        lambda index: held,
        lambda index: temporary(parameters),
        lambda: (0, measured(parameters, optimizer).state),
    )
    given = {"state_tensors": 0, "counts_steps": False, "foreign": foreign} | options
    return Trainable(model, optimizer, [parts], **given)
