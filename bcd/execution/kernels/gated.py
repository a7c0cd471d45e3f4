"""Frozen gated MLPs whose activation is computed inside the products, by kernels of the library quack.

    A = X Wg',  B = X Wu'              X (T, D): inputs of T tokens; Wg, Wu (F, D): gate_proj, up_proj
    H = silu(A) * B                    Y = H Wd'                          Wd (D, F): down_proj

    forward    one product with both weights; it applies silu and writes H, and A and B only if backward will ask
    backward   the product dY Wd reads A and B and writes dA and dB; one product with both weights makes
               dX = dA Wg + dB Wu

The mathematics is that of the plain module. What is saved is time: A and B are not written and read again for H, nor
dH for dA and dB, and dX is not the sum of two results. Rounding is finer by one step, since H comes from float32 sums
and not from A and B in the weights' dtype.

One product with both weights wants one matrix: where Wu does not lie right behind Wg in memory, each product copies
both. `bcd.execution.fused_products` moves them there.

In compiled layers the sum with the residual is inside the product with Wd too, see `bcd.execution.kernels.passes`.
"""

import functools
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear, silu

from bcd.execution.kernels.addresses import at_address
from bcd.execution.kernels.operators import operator, quack, tile

WIDTHS = (192, 160)
"""Columns of a tile, the first of which gets through its numbers sooner by `WIDER`, if there are enough of them."""
WIDER = 1.04


def _width(tokens: int, columns: int, rows: int, processors: int) -> int:
    """Of `WIDTHS`, the one with which (tokens, columns) numbers are soonest done by processors with a tile each."""

    def time(width: int) -> float:
        rounds = -(-(-(-tokens // rows) * -(-columns // width)) // processors)
        return rounds * width * (1.0 if width == WIDTHS[0] else WIDER)

    return min(WIDTHS, key=time)


@functools.cache
def _processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count


def are_adjacent(gate: Tensor, up: Tensor) -> bool:
    """Whether Wu lies right behind Wg in memory."""
    return gate.is_contiguous() and up.is_contiguous() and up.data_ptr() == gate.data_ptr() + gate.nbytes


def _both(gate: Tensor, up: Tensor) -> Tensor:
    """Wg and under it Wu, (2F, D), on a GPU: without a copy where they lie so."""
    if not are_adjacent(gate, up):
        return torch.cat([gate, up])
    return at_address(gate.data_ptr(), (2 * gate.shape[0], gate.shape[1]), gate)


@operator
def gated_product(x: Tensor, gate: Tensor, up: Tensor, keep: bool) -> tuple[Tensor, Tensor]:
    """H, (T, F), and with `keep` A and B with their columns in turn, (T, 2F); else nothing, (0,)."""
    if x.is_cuda:
        both = _both(gate, up)
        chosen = tile(256, _width(x.shape[0], both.shape[0], 256, _processors(x.device)), across=True)
        options = {"activation": "swiglu", "store_preact": keep, "concat_layout": ("B",), "config": chosen}
        ab, h = quack("gemm_interface").gemm_gated(x, both.t(), **options)
    else:
        a, b = linear(x, gate), linear(x, up)
        ab, h = torch.stack([a, b], -1).flatten(1), silu(a) * b
    return h, ab if keep else x.new_empty(0)


@torch.library.register_fake(gated_product)
def _(x: Tensor, gate: Tensor, up: Tensor, keep: bool) -> tuple[Tensor, Tensor]:
    tokens, inner = x.shape[0], gate.shape[0]
    return x.new_empty(tokens, inner), x.new_empty((tokens, 2 * inner) if keep else 0)


@operator
def gated_down(h: Tensor, ab: Tensor, down: Tensor) -> Tensor:
    """Y; its gradient goes to A and B, which stand for H."""
    return h @ down.t()


@torch.library.register_fake(gated_down)
def _(h: Tensor, ab: Tensor, down: Tensor) -> Tensor:
    return h.new_empty(h.shape[0], down.shape[0])


@operator
def gated_gradient(upstream: Tensor, ab: Tensor, down: Tensor) -> Tensor:
    """dA and dB with their columns in turn, (T, 2F), for the gradient dY of Y."""
    if upstream.is_cuda:
        chosen = tile(128, _width(upstream.shape[0], down.shape[1], 128, _processors(down.device)), turns=True)
        options = {"activation": "swiglu", "dynamic_scheduler": False, "config": chosen}
        return quack("gemm_interface").gemm_dgated(upstream, down, ab, **options)[0]
    a, b = ab.unflatten(1, (-1, 2)).unbind(-1)
    dh, slope = upstream @ down, torch.sigmoid(a)
    return torch.stack([dh * b * slope * (1 + a * (1 - slope)), dh * silu(a)], -1).flatten(1)


@torch.library.register_fake(gated_gradient)
def _(upstream: Tensor, ab: Tensor, down: Tensor) -> Tensor:
    return torch.empty_like(ab)


@operator
def gated_input(gradient: Tensor, gate: Tensor, up: Tensor) -> Tensor:
    """dX for dA and dB with their columns in turn."""
    if gradient.is_cuda:
        result = gradient.new_empty(gradient.shape[0], gate.shape[1])
        options = {"concat_layout": ("B",), "config": tile(128, 256)}
        quack("gemm_interface").gemm_tuned.fn(gradient, _both(gate, up), result, **options)
        return result
    da, db = gradient.unflatten(1, (-1, 2)).unbind(-1)
    return da @ gate + db @ up


@torch.library.register_fake(gated_input)
def _(gradient: Tensor, gate: Tensor, up: Tensor) -> Tensor:
    return gradient.new_empty(gradient.shape[0], gate.shape[1])


def _save_for_product(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(inputs[1], inputs[2])
    ctx.set_materialize_grads(False)  # H has no gradient of its own


def _backward_of_product(ctx: Any, _: None, gradient: Tensor) -> Any:
    return gated_input(gradient, *ctx.saved_tensors), None, None, None


def _save_for_down(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(inputs[1], inputs[2])


def _backward_of_down(ctx: Any, upstream: Tensor) -> Any:
    return None, gated_gradient(upstream.contiguous(), *ctx.saved_tensors), None


def _only_once(ctx: Any, upstream: Tensor) -> None:
    raise RuntimeError("fused products have no second derivative; undo them to differentiate twice")


torch.library.register_autograd(gated_product, _backward_of_product, setup_context=_save_for_product)
torch.library.register_autograd(gated_down, _backward_of_down, setup_context=_save_for_down)
torch.library.register_autograd(gated_gradient, _only_once)
torch.library.register_autograd(gated_input, _only_once)
