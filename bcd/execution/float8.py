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

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from bcd.execution.cards import require_capability, require_dtype
from bcd.partitions import find_layers

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


class _Product(torch.autograd.Function):
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


class Float8Linear(nn.Linear):
    """A linear map whose product is that of the module's docstring in training while its weight is frozen.

    It is nn.Linear in evaluation mode and while the weight trains; `float8_products` changes the class of modules.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # nn.Linear's own name
        if not self.training or self.weight.requires_grad:
            return super().forward(input)
        result = _Product.apply(input.reshape(-1, self.in_features), self.weight)
        result = result.reshape(*input.shape[:-1], self.out_features)
        return result if self.bias is None else result + self.bias


def float8_products(model: nn.Module) -> Callable[[], None]:
    """Let the frozen linear maps in the layers of `model` multiply in e4m3, in training mode.

        undo = float8_products(model)

    Which maps, and which stay as they are: `float8_linears(model)`. Embedding, head and what trains are as before, as
    are parameters and state_dict. On a CPU the result is the same and slow.

    model: any module whose layers `bcd.partitions.find_layers` finds, on its device.

    Returns a function that undoes it. Raises ValueError for a model without such maps or layers, one with float8
    products already, and on a GPU for a compute capability below 8.9 or weights that are not bfloat16.
    """
    maps = list(_linear(model))
    if any(isinstance(module, Float8Linear) for _, module in maps):
        raise ValueError(f"{type(model).__name__} has float8 products already; undo that first")
    chosen = [module for _, module in maps if _possible(module)]
    if not chosen:
        raise ValueError(
            f"{type(model).__name__} has no torch.nn.Linear in its layers with both sides a multiple of {MULTIPLE}"
        )
    for module in chosen:
        _require_device(module.weight)
    for module in chosen:
        module.__class__ = Float8Linear

    def undo() -> None:
        for module in chosen:
            module.__class__ = nn.Linear

    return undo


def float8_linears(model: nn.Module) -> tuple[list[str], list[str]]:
    """Names of the linear maps in the layers of `model` with float8 products, and of those without."""
    maps = list(_linear(model))
    chosen = [name for name, module in maps if isinstance(module, Float8Linear)]
    return chosen, [name for name, module in maps if not isinstance(module, Float8Linear)]


def _linear(model: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    inside = {id(module) for layer in find_layers(model)[1] for module in layer.modules()}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and id(module) in inside:
            yield name, module


def _possible(module: nn.Linear) -> bool:
    """Not for subclasses of nn.Linear, which may compute something else."""
    return type(module) is nn.Linear and all(side % MULTIPLE == 0 for side in module.weight.shape)


def _require_device(weight: Tensor) -> None:
    if not weight.is_cuda:
        return
    what, wanted = "float8 products are", f"torch's kernels need {'.'.join(map(str, CAPABILITY))}"
    require_dtype(weight, what, "weights", "torch's", torch.bfloat16)
    require_capability(weight, what, lambda found: found >= CAPABILITY, wanted)
