"""An exact float32 master of bfloat16 weights, stored as the weight and a 16-bit remainder: 4 bytes, no third copy.

The high half of the float32 bits, rounded half up, is the bfloat16 weight; what rounding took away is the remainder:

    high      = (bits + 0x8000) >> 16           (bits as a 32-bit integer; the weight's bits)
    remainder = bits - (high << 16)             in [-0x8000, 0x7fff], a 16-bit integer
    bits      = (high << 16) + remainder        exactly

Rounding to nearest even, the usual conversion, cannot be undone from 16 bits: at ties it sends two neighbours to the
same weight from both sides, and the remainder 0x8000 has no place beside -0x8000. Rounding half up differs from it at
half of the ties only.
"""

import torch
from torch import Tensor


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


def round_half_up(master: Tensor) -> Tensor:
    """The bfloat16 weight that `split` stores for `master`."""
    weight = torch.empty_like(master, dtype=torch.bfloat16)
    split(master, weight, torch.empty_like(master, dtype=torch.int16))
    return weight


def ties(master: Tensor) -> int:
    """How many elements of `master` lie exactly between two bfloat16 numbers."""
    return int((master.view(torch.int32) & 0xFFFF).eq(0x8000).sum())
