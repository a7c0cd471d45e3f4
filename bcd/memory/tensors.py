"""Bytes of tensors, and the place where they lie."""

from collections.abc import Iterable

import torch
from torch import Tensor

ON_HOST = "_bcd_on_host"
"""Attribute of a CUDA parameter whose bytes lie in host memory, see `bcd.execution.host_embedding`: their address."""


def nbytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of the given tensors, of a sparse one its values; one given twice counts once. Meta tensors will do."""
    unique = {id(t): t if t.layout == torch.strided else t._values() for t in tensors}
    return sum(t.numel() * t.element_size() for t in unique.values())


def on_host(parameter: Tensor) -> bool:
    """Whether the bytes of a CUDA parameter lie in host memory, and still do: moving a model moves them."""
    address = getattr(parameter, ON_HOST, None)
    return address is not None and address == parameter.data_ptr()


def by_place(parameters: Iterable[Tensor]) -> tuple[int, int]:
    """Bytes of the parameters on the device, and of those on the host."""
    everything = list(parameters)
    elsewhere = nbytes(p for p in everything if on_host(p))
    return nbytes(everything) - elsewhere, elsewhere
