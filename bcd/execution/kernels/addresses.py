"""Memory that a GPU can read, as a tensor, by its address."""

import math

import torch
from torch import Tensor


class _Bytes:
    """Bytes that a GPU can read, by address; torch keeps `owner`, and so the bytes, as long as a tensor shows them."""

    def __init__(self, address: int, count: int, owner: object) -> None:
        self.owner = owner
        self.__cuda_array_interface__ = {"shape": (count,), "typestr": "|u1", "data": (address, False), "version": 3}


def at_address(address: int, shape: tuple[int, ...], like: Tensor, owner: object = None) -> Tensor:
    """What lies at an address that the GPU of `like` can read, as a CUDA tensor of that shape and of its dtype.

    Args:
        address: of the first byte.
        shape: of the tensor.
        like: says device and dtype.
        owner: what keeps the memory from being freed; None: the caller does.
    """
    tensor = torch.as_tensor(_Bytes(address, math.prod(shape) * like.element_size(), owner), device=like.device)
    if tensor.data_ptr() != address:
        raise RuntimeError(f"{torch.cuda.get_device_name(like.device)} does not read the memory at {address} in place")
    return tensor.view(like.dtype).view(shape)
