"""Products of frozen weights, by kernels of our own in place of torch's: with the activation inside, or in 8 bits.

`fused_products` is the mathematics of the plain module, see `bcd.execution.kernels.gated`; `float8_products` is not,
see `bcd.execution.kernels.float8`. Both change the class of modules, and what trains is computed by torch.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu

from bcd.execution.kernels import float8
from bcd.execution.kernels.gated import are_adjacent, gated_down, gated_product
from bcd.execution.kernels.operators import MULTIPLE, require_quack
from bcd.partitions import find_layers


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
        h, ab = gated_product(x.reshape(-1, x.shape[-1]), gate, up, keep)
        y = gated_down(h, ab, down) if keep else linear(h, down)
        return y.reshape(*x.shape[:-1], y.shape[-1])

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        """What moves a model moves the weights one by one."""
        super()._apply(fn, recurse)
        _move_together(self)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """The class is made, not written, so that pickle does not find it by name."""
        return _blank, (type(self).__mro__[2],), self.__dict__


@functools.cache
def _fused_class(kind: type[nn.Module]) -> type[nn.Module]:
    """One class for all modules of a kind, so that compiled layers share graphs."""
    return type(f"Fused{kind.__name__}", (FusedMLP, kind), {})


def _blank(kind: type[nn.Module]) -> nn.Module:
    return object.__new__(_fused_class(kind))


def fused_products(model: nn.Module) -> Callable[[], None]:
    """Let the frozen gated MLPs in the layers of `model` compute their activation inside the products, in training.

        undo = fused_products(model)

    A gated MLP is a module with gate_proj, up_proj and down_proj (torch.nn.Linear without bias) that computes
    down_proj(silu(gate_proj(x)) * up_proj(x)), as those of Llama, Mistral, Qwen and SmolLM do: each is tried on random
    numbers. On a CPU the result is the same, without the gain. Second derivatives are refused.

    Args:
        model: any module whose layers `bcd.partitions.find_layers` finds, on its device.

    Returns:
        A function that undoes it; the weights stay where they were moved, which changes nothing.

    Raises:
        ValueError: for a model without such MLPs or layers, one with fused products already, and on a GPU for a
            compute capability other than 9 or weights that are not bfloat16 or float16.
        ImportError: on a GPU without quack.
    """
    modules: list[Any] = list(dict.fromkeys(m for layer in find_layers(model)[1] for m in layer.modules()))
    if any(isinstance(module, FusedMLP) for module in modules):
        raise ValueError(f"{type(model).__name__} has fused products already; undo that first")
    mlps = [module for module in modules if _is_gated_mlp(module)]
    if not mlps:
        raise ValueError(
            f"{type(model).__name__} has no MLP in its layers that computes down_proj(silu(gate_proj(x)) * "
            f"up_proj(x)) by torch.nn.Linear without bias, with sides that are multiples of {MULTIPLE}"
        )
    kinds = {module: type(module) for module in mlps}
    for module, kind in kinds.items():
        _move_together(module)
        module.__class__ = _fused_class(kind)

    def undo() -> None:
        for module, kind in kinds.items():
            module.__class__ = kind

    return undo


@torch.no_grad()
def _move_together(module: Any) -> None:
    """Move Wu behind Wg. Each has a storage of its own, or files would take one for a copy of the other."""
    gate, up = module.gate_proj.weight, module.up_proj.weight
    require_quack(gate, "fused products are", "weights", torch.bfloat16, torch.float16)
    if gate.is_meta or are_adjacent(gate, up):
        return
    both = torch.cat([gate, up]).untyped_storage()
    for weight, storage in ((gate, both[: gate.nbytes]), (up, both[gate.nbytes :])):
        weight.data = weight.new_empty(0).set_(storage, 0, weight.shape, (weight.shape[1], 1))


def _is_gated_mlp(module: Any) -> bool:
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


class Float8Linear(nn.Linear):
    """A linear map whose product is that of `bcd.execution.kernels.float8` in training while its weight is frozen.

    It is nn.Linear in evaluation mode and while the weight trains; `float8_products` changes the class of modules.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # nn.Linear's own name
        if not self.training or self.weight.requires_grad:
            return super().forward(input)
        result = float8.Float8Product.apply(input.reshape(-1, self.in_features), self.weight)
        result = result.reshape(*input.shape[:-1], self.out_features)
        return result if self.bias is None else result + self.bias


def float8_products(model: nn.Module) -> Callable[[], None]:
    """Let the frozen linear maps in the layers of `model` multiply in e4m3, in training mode.

        undo = float8_products(model)

    Which maps, and which stay as they are: `float8_linears(model)`. Embedding, head and what trains are as before, as
    are parameters and state_dict. On a CPU the result is the same and slow.

    Args:
        model: any module whose layers `bcd.partitions.find_layers` finds, on its device.

    Returns:
        A function that undoes it.

    Raises:
        ValueError: for a model without such maps or layers, one with float8 products already, and on a GPU for a
            compute capability below 8.9 or weights that are not bfloat16.
    """
    maps = list(_linear(model))
    if any(isinstance(module, Float8Linear) for _, module in maps):
        raise ValueError(f"{type(model).__name__} has float8 products already; undo that first")
    modules = [module for _, module in maps if _fits_float8(module)]
    if not modules:
        raise ValueError(
            f"{type(model).__name__} has no torch.nn.Linear in its layers with both sides a multiple of "
            f"{float8.MULTIPLE}"
        )
    for module in modules:
        float8.require_float8(module.weight)
    for module in modules:
        module.__class__ = Float8Linear

    def undo() -> None:
        for module in modules:
            module.__class__ = nn.Linear

    return undo


def float8_linears(model: nn.Module) -> tuple[list[str], list[str]]:
    """Names of the linear maps in the layers of `model` with float8 products, and of those without."""
    maps = list(_linear(model))
    in_8_bits = [name for name, module in maps if isinstance(module, Float8Linear)]
    return in_8_bits, [name for name, module in maps if not isinstance(module, Float8Linear)]


def _linear(model: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    inside = {id(module) for layer in find_layers(model)[1] for module in layer.modules()}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and id(module) in inside:
            yield name, module


def _fits_float8(module: nn.Linear) -> bool:
    """Not for subclasses of nn.Linear, which may compute something else."""
    return type(module) is nn.Linear and all(side % float8.MULTIPLE == 0 for side in module.weight.shape)
