"""Frozen gated MLPs whose activation is computed inside the products, by kernels of the library quack.

    A = X Wg',  B = X Wu'              X (T, D): inputs of T tokens; Wg, Wu (F, D): gate_proj, up_proj
    H = silu(A) * B                    Y = H Wd'                          Wd (D, F): down_proj

    forward    one product with both weights; it applies silu and writes H, and A and B only if backward will ask
    backward   the product dY Wd reads A and B and writes dA and dB; one product with both weights makes
               dX = dA Wg + dB Wu

The mathematics is that of the plain module. What is saved is time: A and B are not written and read again for H, nor
dH for dA and dB, and dX is not the sum of two results. Rounding is finer by one step, since H comes from float32 sums
and not from A and B in the weights' dtype. A layer that trains is computed by torch.

One product with both weights wants one matrix: `fused_products` moves Wg and Wu one behind the other. They stay two
parameters with a storage each, for the optimizer, the state_dict and files. What parts them (weights assigned from a
checkpoint, a copied model) costs a copy of both in each product, and no more.

In compiled layers the sum with the residual is inside the product with Wd too, see `bcd.execution.passes`.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu

from bcd.execution.addresses import at_address
from bcd.execution.kernels import MULTIPLE, operator, quack, require_quack, tile
from bcd.partitions import find_layers

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


def _together(gate: Tensor, up: Tensor) -> bool:
    """Whether Wu lies right behind Wg in memory."""
    return gate.is_contiguous() and up.is_contiguous() and up.data_ptr() == gate.data_ptr() + gate.nbytes


def _both(gate: Tensor, up: Tensor) -> Tensor:
    """Wg and under it Wu, (2F, D), on a GPU: without a copy where they lie so."""
    if not _together(gate, up):
        return torch.cat([gate, up])
    return at_address(gate.data_ptr(), (2 * gate.shape[0], gate.shape[1]), gate)


@operator
def gated_product(x: Tensor, gate: Tensor, up: Tensor, keep: bool) -> tuple[Tensor, Tensor]:
    """H, (T, F), and with `keep` A and B with their columns in turn, (T, 2F); else nothing, (0,)."""
    if x.is_cuda:
        both = _both(gate, up)
        chosen = tile(256, _width(x.shape[0], both.shape[0], 256, _processors(x.device)), across=True)
        options = {"activation": "swiglu", "store_preact": keep, "concat_layout": ("B",), "config": chosen}
        kept, h = quack("gemm_interface").gemm_gated(x, both.t(), **options)
    else:
        a, b = linear(x, gate), linear(x, up)
        kept, h = torch.stack([a, b], -1).flatten(1), silu(a) * b
    return h, kept if keep else x.new_empty(0)


@torch.library.register_fake(gated_product)
def _(x: Tensor, gate: Tensor, up: Tensor, keep: bool) -> tuple[Tensor, Tensor]:
    tokens, inner = x.shape[0], gate.shape[0]
    return x.new_empty(tokens, inner), x.new_empty((tokens, 2 * inner) if keep else 0)


@operator
def gated_down(h: Tensor, kept: Tensor, down: Tensor) -> Tensor:
    """Y; its gradient goes to A and B, which stand for H."""
    return h @ down.t()


@torch.library.register_fake(gated_down)
def _(h: Tensor, kept: Tensor, down: Tensor) -> Tensor:
    return h.new_empty(h.shape[0], down.shape[0])


@operator
def gated_gradient(upstream: Tensor, kept: Tensor, down: Tensor) -> Tensor:
    """dA and dB with their columns in turn, (T, 2F), for the gradient dY of Y."""
    if upstream.is_cuda:
        chosen = tile(128, _width(upstream.shape[0], down.shape[1], 128, _processors(down.device)), turns=True)
        options = {"activation": "swiglu", "dynamic_scheduler": False, "config": chosen}
        return quack("gemm_interface").gemm_dgated(upstream, down, kept, **options)[0]
    a, b = kept.unflatten(1, (-1, 2)).unbind(-1)
    dh, slope = upstream @ down, torch.sigmoid(a)
    return torch.stack([dh * b * slope * (1 + a * (1 - slope)), dh * silu(a)], -1).flatten(1)


@torch.library.register_fake(gated_gradient)
def _(upstream: Tensor, kept: Tensor, down: Tensor) -> Tensor:
    return torch.empty_like(kept)


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


class FusedMLP(nn.Module):
    """Put before the class of a gated MLP.

    Its own forward is used in evaluation mode, under autocast, while a weight of it trains, and when a map is none of
    torch's own any more, as with adapters. Hooks on the three maps are not called otherwise.
    """

    gate_proj: nn.Linear
    up_proj: nn.Linear
    down_proj: nn.Linear

    def forward(self, x: Tensor) -> Tensor:
        maps = (self.gate_proj, self.up_proj, self.down_proj)
        frozen = [type(each) is nn.Linear and not each.weight.requires_grad for each in maps]
        if not self.training or torch.is_autocast_enabled(x.device.type) or not all(frozen):
            return super().forward(x)
        gate, up, down = (each.weight for each in maps)
        keep = torch.is_grad_enabled() and x.requires_grad
        h, kept = gated_product(x.reshape(-1, x.shape[-1]), gate, up, keep)
        y = gated_down(h, kept, down) if keep else linear(h, down)
        return y.reshape(*x.shape[:-1], y.shape[-1])

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        """What moves a model moves the weights one by one."""
        super()._apply(fn, recurse)
        _prepare(self)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """The class is made, not written, so that pickle does not find it by name."""
        return _blank, (type(self).__mro__[2],), self.__dict__


@functools.cache
def _fused(kind: type[nn.Module]) -> type[nn.Module]:
    """One class for all modules of a kind, so that compiled layers share graphs."""
    return type(f"Fused{kind.__name__}", (FusedMLP, kind), {})


def _blank(kind: type[nn.Module]) -> nn.Module:
    return object.__new__(_fused(kind))


def fused_products(model: nn.Module) -> Callable[[], None]:
    """Let the frozen gated MLPs in the layers of `model` compute their activation inside the products, in training.

        undo = fused_products(model)

    A gated MLP is a module with gate_proj, up_proj and down_proj (torch.nn.Linear without bias) that computes
    down_proj(silu(gate_proj(x)) * up_proj(x)), as those of Llama, Mistral, Qwen and SmolLM do: each is tried on random
    numbers. On a CPU the result is the same, without the gain. Second derivatives are refused.

    model: any module whose layers `bcd.partitions.find_layers` finds, on its device.

    Returns a function that undoes it; the weights stay where they were moved, which changes nothing. Raises ValueError
    for a model without such MLPs or layers, one with fused products already, and on a GPU for a compute capability
    other than 9 or weights that are not bfloat16 or float16; ImportError there without quack.
    """
    found: list[Any] = list(dict.fromkeys(m for layer in find_layers(model)[1] for m in layer.modules()))
    if any(isinstance(module, FusedMLP) for module in found):
        raise ValueError(f"{type(model).__name__} has fused products already; undo that first")
    chosen = [module for module in found if _possible(module)]
    if not chosen:
        raise ValueError(
            f"{type(model).__name__} has no MLP in its layers that computes down_proj(silu(gate_proj(x)) * "
            f"up_proj(x)) by torch.nn.Linear without bias, with sides that are multiples of {MULTIPLE}"
        )
    kinds = {module: type(module) for module in chosen}
    for module, kind in kinds.items():
        _prepare(module)
        module.__class__ = _fused(kind)

    def undo() -> None:
        for module, kind in kinds.items():
            module.__class__ = kind

    return undo


@torch.no_grad()
def _prepare(module: Any) -> None:
    """Move Wu behind Wg. Each has a storage of its own, or files would take one for a copy of the other."""
    gate, up = module.gate_proj.weight, module.up_proj.weight
    require_quack(gate, "fused products are", "weights", torch.bfloat16, torch.float16)
    if gate.is_meta or _together(gate, up):
        return
    both = torch.cat([gate, up]).untyped_storage()
    for weight, own in ((gate, both[: gate.nbytes]), (up, both[gate.nbytes :])):
        weight.data = weight.new_empty(0).set_(own, 0, weight.shape, (weight.shape[1], 1))


def _possible(module: Any) -> bool:
    maps = [getattr(module, name, None) for name in ("gate_proj", "up_proj", "down_proj")]
    if not all(type(each) is nn.Linear and each.bias is None for each in maps):
        return False
    gate, up, down = (each.weight.shape for each in maps if each is not None)
    fits = gate == up == down[::-1] and all(side % MULTIPLE == 0 for side in gate)
    return fits and _computes_it(module)


@torch.no_grad()
def _computes_it(module: Any) -> bool:
    """Whether the module is that formula, tried on four tokens; weights without values are not tried.

    The tokens are so large that A is of order 1, where activations differ.
    """
    gate, up, down = module.gate_proj.weight, module.up_proj.weight, module.down_proj.weight
    if gate.is_meta:
        return True
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, gate.shape[1], generator=generator).to(gate)
    x = x / linear(x, gate).float().std().clamp_min(1e-6).to(x)
    expected = linear(silu(linear(x, gate)) * linear(x, up), down).float()
    return bool((module(x).float() - expected).norm() < 0.01 * expected.norm())
