"""Operators of our own, the library quack, whose kernels they call on an H100 or H200, and what kernels take.

quack: https://github.com/Dao-AILab/quack. Its tiles are chosen by rule, not searched for at run time, so that a run
repeats bitwise.
"""

import functools
import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

CAPABILITY = 9
"""Major compute capability on which what is used here was measured: H100, H200."""
MULTIPLE = 16
"""The kernels of products want the sides of a weight to be multiples of this."""


def operator(function: Callable[..., Any]) -> Any:
    """The function of tensors as the operator bcd::NAME, which the compiler takes as it is; it changes no argument.

    As torch.library.custom_op, without what that does at each call, which takes longer than a launch of quack's. One
    that autograd meets needs torch.library.register_autograd, if only to refuse: it would be taken for a constant.
    """
    name, tags = f"bcd::{function.__name__}", (torch.Tag.pt2_compliant_tag,)
    torch.library.define(name, torch.library.infer_schema(function, mutates_args=()), tags=tags)
    torch.library.impl(name, "CompositeExplicitAutograd", function)
    return getattr(torch.ops.bcd, function.__name__).default


def quack(module: str) -> Any:
    """A module of quack.

    Raises:
        ImportError: where it is not installed.
    """
    return importlib.import_module(f"quack.{module}")


@functools.cache
def tile(rows: int, columns: int, *, turns: bool = False, across: bool = False) -> Any:
    """quack's name for a tile of so many numbers.

    Args:
        rows: of the tile.
        columns: of the tile.
        turns: two groups of warps take turns on tiles, one writes while the other multiplies.
        across: the two tiles that share what they read lie side by side, not one under the other.
    """
    shape = {"tile_m": rows, "tile_n": columns, "cluster_m": 1 + (not across), "cluster_n": 1 + across}
    return quack("gemm_config").GemmConfig(**shape, pingpong=turns, is_dynamic_persistent=False)


def require_dtype(tensor: Tensor, what: str, whose: str, kernels: str, *possible: torch.dtype) -> None:
    """Raise ValueError unless the dtype of `tensor` is possible.

    Args:
        tensor: what the kernels would read.
        what: for the message, "fused products are".
        whose: for the message, "weights".
        kernels: for the message, "quack's".
        possible: the dtypes.
    """
    if tensor.dtype not in possible:
        wanted = " or ".join(str(dtype).removeprefix("torch.") for dtype in possible)
        raise ValueError(f"{what} not possible with {whose} in {tensor.dtype}: {kernels} want {wanted}")


def require_capability(tensor: Tensor, what: str, possible: Callable[[tuple[int, int]], bool], wanted: str) -> None:
    """Raise ValueError unless the compute capability of the GPU of `tensor` is possible.

    Args:
        tensor: on the GPU.
        what: for the message, "float8 products are".
        possible: of a capability.
        wanted: for the message, "torch's kernels need 8.9".
    """
    capability = torch.cuda.get_device_capability(tensor.device)
    if not possible(capability):
        raise ValueError(
            f"{what} not possible on {torch.cuda.get_device_name(tensor.device)}, which has compute capability "
            f"{'.'.join(map(str, capability))}: {wanted}"
        )


def require_quack(tensor: Tensor, what: str, whose: str, *dtypes: torch.dtype) -> None:
    """On a GPU, raise ValueError for a dtype or card that the kernels are not for, ImportError without quack.

    Args:
        tensor: what the kernels would read.
        what: for the message, "fused products are".
        whose: for the message, "weights".
        dtypes: the possible ones.
    """
    if not tensor.is_cuda:
        return
    require_dtype(tensor, what, whose, "quack's", *dtypes)
    wanted = f"quack's kernels are tuned for {CAPABILITY}.x (H100, H200)"
    require_capability(tensor, what, lambda capability: capability[0] == CAPABILITY, wanted)
    try:
        quack("gemm_interface")
    except ImportError as error:
        raise ImportError(f"{what} not possible without quack: pip install quack-kernels ({error})") from error
