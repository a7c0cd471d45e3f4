"""An exact float32 master of bfloat16 weights, stored as the weight and a 16-bit remainder: 4 bytes, no third copy.

The high half of the float32 bits, rounded half up, is the bfloat16 weight; what rounding took away is the remainder:

    high      = (bits + 0x8000) >> 16           (bits as a 32-bit integer; the weight's bits)
    remainder = bits - (high << 16)             in [-0x8000, 0x7fff], a 16-bit integer
    bits      = (high << 16) + remainder        exactly

Rounding to nearest even, the usual conversion, cannot be undone from 16 bits: at ties it sends two neighbours to the
same weight from both sides, and the remainder 0x8000 has no place beside -0x8000. Rounding half up differs from it at
half of the ties only. Halves are rounded away from zero on both sides, since the sign is a bit of its own. What is
beyond bfloat16's range is an infinite weight with a finite master, and every NaN becomes the same NaN.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

CHUNK = {"cpu": 2**20, "cuda": 2**26}
"""Weights that are float32 at the same time during a step with a master, 8 bytes each for master and gradient: what
stays in a CPU's cache, and enough to fill a GPU."""


def limit(weight: Tensor) -> int:
    """`CHUNK` on the device of `weight`."""
    return CHUNK.get(weight.device.type, CHUNK["cuda"])


def chunks(weights: Sequence[Tensor]) -> list[list[int]]:
    """Indices of the weights in lists of at most `CHUNK` elements together (one tensor at least)."""
    chunks: list[list[int]] = []
    size = most = limit(weights[0])
    for i, weight in enumerate(weights):
        size += weight.numel()
        if size > most:
            chunks.append([])
            size = weight.numel()
        chunks[-1].append(i)
    return chunks


class Scratch:
    """Two float32 buffers, used again for every chunk: fresh memory would cost more page faults than arithmetic.

    Args:
        weights: the buffers hold any chunk of any of them.
    """

    def __init__(self, weights: Sequence[Tensor]) -> None:
        sizes = [weight.numel() for weight in weights]
        size = max(*sizes, min(limit(weights[0]), sum(sizes)))
        self._master, self._gradient = weights[0].new_empty((2, size), dtype=torch.float32)

    def unpack(
        self, weights: Sequence[Tensor], remainders: Sequence[Tensor], gradients: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The float32 masters and gradients of one chunk; valid until the next call."""
        sizes = [w.numel() for w in weights]
        buffers = [buffer[: sum(sizes)].split(sizes) for buffer in (self._master, self._gradient)]
        masters, copies = [[t.view(w.shape) for t, w in zip(ts, weights, strict=True)] for ts in buffers]
        for master, weight, remainder, copy, gradient in zip(
            masters, weights, remainders, copies, gradients, strict=True
        ):
            join(weight, remainder, out=master)
            copy.copy_(gradient)
        return masters, copies


def split(master: Tensor, weight: Tensor, remainder: Tensor) -> None:
    """Write the two halves of `master` (float32, overwritten) to `weight` (bfloat16) and `remainder` (int16).

    All have one shape.
    """
    # Rounding would make zeros of NaNs whose bits are all ones (what a GPU computes) and infinities of others.
    master.nan_to_num_(nan=math.nan, posinf=math.inf, neginf=-math.inf)
    bits = master.view(torch.int32)
    remainder.copy_(bits)  # the low 16 bits, read as a signed number: exactly what rounding half up takes away
    bits.add_(0x8000).bitwise_right_shift_(16)
    weight.view(torch.int16).copy_(bits)


def join(weight: Tensor, remainder: Tensor, out: Tensor | None = None) -> Tensor:
    """The float32 master of `weight` (bfloat16) and `remainder` (int16), in `out` if given."""
    master = weight.float() if out is None else out.copy_(weight)
    master.view(torch.int32).add_(remainder)
    return master
