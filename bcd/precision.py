"""An exact float32 master of bfloat16 weights, stored as the weight and a 16-bit remainder: 4 bytes, no third copy.

The high half of the float32 bits, rounded half up, is the bfloat16 weight; what rounding took away is the remainder:

    high      = (bits + 0x8000) >> 16           (bits as a 32-bit integer; the weight's bits)
    remainder = bits - (high << 16)             in [-0x8000, 0x7fff], a 16-bit integer
    bits      = (high << 16) + remainder        exactly

Rounding to nearest even, the usual conversion, cannot be undone from 16 bits: at ties it sends two neighbours to the
same weight from both sides, and the remainder 0x8000 has no place beside -0x8000. Rounding half up differs from it at
half of the ties only.
"""

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

CHUNK = 2**26
"""Weights that are float32 at the same time during a step with a master: 8 bytes each, for master and gradient."""


def chunks(indices: Sequence[int], sizes: Sequence[int]) -> list[list[int]]:
    """Indices in lists of at most `CHUNK` weights together (one tensor at least)."""
    chunks: list[list[int]] = []
    held = CHUNK
    for i in indices:
        held += sizes[i]
        if held > CHUNK:
            chunks.append([])
            held = sizes[i]
        chunks[-1].append(i)
    return chunks


def split(master: Tensor, weight: Tensor, remainder: Tensor) -> None:
    """Write the two halves of `master` (float32) to `weight` (bfloat16) and `remainder` (int16), all of one shape."""
    bits = master.view(torch.int32)
    high = (bits + 0x8000) >> 16  # wraps around for a NaN only, which stays a NaN
    remainder.copy_(bits - (high << 16))
    weight.copy_(high.to(torch.int16).view(torch.bfloat16))


def join(weight: Tensor, remainder: Tensor) -> Tensor:
    """The float32 master of `weight` (bfloat16) and `remainder` (int16)."""
    bits = (weight.contiguous().view(torch.int16).to(torch.int32) << 16) + remainder
    return bits.view(torch.float32)


def unpack(
    weights: Sequence[Tensor], remainders: Sequence[Tensor], gradients: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """The float32 masters and gradients of one step; `pack` writes the masters back."""
    if _worth_compiling(*weights, *remainders, *gradients):
        return _compiled(_unpack)(_detached(weights), list(remainders), _detached(gradients))
    return _unpack(weights, remainders, gradients)


def pack(masters: Sequence[Tensor], weights: Sequence[Tensor], remainders: Sequence[Tensor]) -> None:
    """Write each master to its weight and remainder, as `split` does."""
    if _worth_compiling(*masters, *weights, *remainders):
        _compiled(_pack)(list(masters), _detached(weights), list(remainders))
    else:
        _pack(masters, weights, remainders)


def _unpack(
    weights: Sequence[Tensor], remainders: Sequence[Tensor], gradients: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    return [join(w, r) for w, r in zip(weights, remainders, strict=True)], [g.float() for g in gradients]


def _pack(masters: Sequence[Tensor], weights: Sequence[Tensor], remainders: Sequence[Tensor]) -> None:
    for master, weight, remainder in zip(masters, weights, remainders, strict=True):
        split(master, weight, remainder)


def _detached(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.detach() for tensor in tensors]


def _worth_compiling(*tensors: Tensor) -> bool:
    """One operation after another, the conversions move five times the bytes of one kernel on a GPU.

    They are integer arithmetic and one exact conversion, so the compiled result is bitwise the same. On the CPU,
    compiling costs more than it saves.
    """
    return all(tensor.is_cuda and tensor.is_contiguous() for tensor in tensors)


@functools.cache
def _compiled(function: Callable) -> Callable:
    return torch.compile(function, fullgraph=True)


def round_half_up(master: Tensor) -> Tensor:
    """The bfloat16 weight that `split` stores for `master`."""
    weight = torch.empty_like(master, dtype=torch.bfloat16)
    split(master, weight, torch.empty_like(master, dtype=torch.int16))
    return weight


def ties(master: Tensor) -> int:
    """How many elements of `master` lie exactly between two bfloat16 numbers."""
    return int((master.view(torch.int32) & 0xFFFF).eq(0x8000).sum())
