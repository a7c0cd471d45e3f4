"""Matrix products of frozen weights in 8-bit floating point (e4m3); what trains stays in its own precision.

A frozen linear map has a weight W (N, K) and an input X (T, K). Each row r of a matrix A has a scale of its own:

    s(A)_r = max_c |A_rc| / 448          448: the largest number of e4m3
    q(A)   = A / s(A), rounded to e4m3   2^-4 relative at most, rows keep their largest entry

    Y  = (q(X) q(W)') * s(X) * s(W)'  + b        products of e4m3 numbers, summed in float32 or nearly
    dX = (q(dY * s(W)') q(W)) * s(dY * s(W)')    the same quantised W as in the forward pass

There are no gradients of W and b, which are frozen. Nothing is kept between two calls: weights are quantised where
they are used, so that an optimizer, a switch of blocks or a loaded checkpoint cannot leave an old copy behind. A
compiled layer does it in the kernels that read the tensors anyway.

Scaling by rows: Micikevicius et al., FP8 formats for deep learning, arXiv 2209.05433, section 3, for tensors; by rows
and in both passes in arXiv 2412.19437, section 3.3.
"""

from typing import Any

import torch
from torch import Tensor

from bcd.execution.kernels.operators import require_capability, require_dtype

LARGEST = 448.0
"""Largest finite number of torch.float8_e4m3fn."""
TINY = 2.0**-100
"""Least largest entry of a row, so that a row of zeros has a scale; far below any gradient in bfloat16."""
MULTIPLE = 16
"""The hardware wants both sides of a weight to be multiples of this."""
CAPABILITY = (8, 9)
"""First compute capability with products of e4m3."""


def quantised(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """q(A) in torch.float8_e4m3fn and s(A) in float32, (rows, 1), for a matrix A of any float dtype."""
    wide = matrix.float()
    scale = wide.abs().amax(-1, keepdim=True).clamp_min(TINY) / LARGEST
    return (wide / scale).to(torch.float8_e4m3fn), scale


@torch.library.custom_op("bcd::float8_product", mutates_args=())
def float8_product(a: Tensor, b: Tensor, rows: Tensor, columns: Tensor, dtype: torch.dtype) -> Tensor:
    """(a b') * rows * columns', in `dtype`: a (T, K) and b (N, K) in e4m3, contiguous; rows (T, 1), columns (N, 1).

    On CUDA in bfloat16 before `dtype`, elsewhere in float32, where it is as slow as it is exact.
    """
    if a.is_cuda:
        product: Any = torch._scaled_mm  # pyright: ignore[reportPrivateImportUsage]
        result = product(a, b.t(), rows, columns.t(), out_dtype=torch.bfloat16, use_fast_accum=True)
    else:
        result = (a.float() @ b.float().t()) * rows * columns.t()
    return result.to(dtype)


@float8_product.register_fake
def _(a: Tensor, b: Tensor, rows: Tensor, columns: Tensor, dtype: torch.dtype) -> Tensor:
    return a.new_empty((a.shape[0], b.shape[0]), dtype=dtype)


class Float8Product(torch.autograd.Function):
    """Y of the module's docstring without b, for X (T, K)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        (a, rows), (b, columns) = quantised(x), quantised(weight)
        ctx.save_for_backward(weight, columns)
        return float8_product(a, b, rows, columns, x.dtype)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        weight, columns = ctx.saved_tensors
        a, rows = quantised(upstream * columns.t())
        b = (weight.float() / columns).to(torch.float8_e4m3fn).t().contiguous()
        ones = torch.ones_like(b[:, :1], dtype=torch.float32)
        return float8_product(a, b, rows, ones, upstream.dtype), None


def require_float8(weight: Tensor) -> None:
    """On a GPU, raise ValueError for weights or a card that the kernels of e4m3 are not for."""
    if not weight.is_cuda:
        return
    what, wanted = "float8 products are", f"torch's kernels need {'.'.join(map(str, CAPABILITY))}"
    require_dtype(weight, what, "weights", "torch's", torch.bfloat16)
    require_capability(weight, what, lambda capability: capability >= CAPABILITY, wanted)
