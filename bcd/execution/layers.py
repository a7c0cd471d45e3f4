"""What stands for `forward` of a decoder layer while it is trained: compiled, recomputed in backward, both or neither.

`bcd.execution.compiled` and `bcd.execution.recompute` each set one attribute of the `LayerCall` of every layer, so
that they may be turned on in any order. A compiled layer that is recomputed is a graph of its own, which leaves out
what backward does not need, for example the last matrix product.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bcd.partitions import find_layers

Call = Callable[..., Any]

WITHOUT_CACHE = {"past_key_values": None, "past_key_value": None, "layer_past": None, "use_cache": False}
"""Keyword arguments of Hugging Face layers that would cache keys and values, and what turns that off."""


class Keeps(Protocol):
    """Decides whether a layer keeps its activations."""

    def __call__(self, layer: "LayerCall", args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool: ...


class LayerCall:
    """Callable in place of `layer.forward`, which it is in evaluation mode.

    In training, keys and values are not cached: a cache would keep them for the whole pass, and a recomputation would
    store them twice.

    index: position among the layers.     original: the layer's own forward.
    compiled: takes the layer, its arguments and whether to recompute; None for the original.
    keeps: see `Keeps`; None to keep the activations of every layer.
    """

    def __init__(self, layer: nn.Module, index: int) -> None:
        self.layer = layer
        self.index = index
        self.original: Call = layer.forward
        self.before: Any = vars(layer).get("forward")
        self.compiled: Call | None = None
        self.keeps: Keeps | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self.layer.training:
            return self.original(*args, **kwargs)
        for name, without in WITHOUT_CACHE.items():
            if name in kwargs:
                kwargs[name] = without
        if self.keeps is not None and self.needs_grad(args, kwargs) and not self.keeps(self, args, kwargs):
            if self.compiled is not None:
                return self.compiled(self.layer, args, kwargs, recompute=True)
            return checkpoint(functools.partial(self.original, **kwargs), *args, use_reentrant=False)
        return self.run(*args, **kwargs)

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """The layer with its activations kept, compiled if it is."""
        return self.original(*args, **kwargs) if self.compiled is None else self.compiled(self.layer, args, kwargs)

    def needs_grad(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether backward will run through this call."""
        if not torch.is_grad_enabled():
            return False
        return any(t.requires_grad for t in tensors((args, kwargs))) or self.trains

    @property
    def trains(self) -> bool:
        """Whether a parameter of the layer is trained at present."""
        return any(p.requires_grad for p in self.layer.parameters())


def tensors(tree: Any) -> Iterable[Tensor]:
    """The tensors in nested tuples, lists and dicts."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, dict):
        for value in tree.values():
            yield from tensors(value)
    elif isinstance(tree, list | tuple):
        for value in tree:
            yield from tensors(value)


def install(model: nn.Module) -> list[LayerCall]:
    """The `LayerCall` of every layer that `find_layers` finds; made and put in place where there is none.

    Raises ValueError for a model without layers.
    """
    calls = []
    for index, layer in enumerate(find_layers(model)[1]):
        call = vars(layer).get("forward")
        if not isinstance(call, LayerCall):
            call = LayerCall(layer, index)
            layer.forward = call
        calls.append(call)
    return calls


def remove(calls: Iterable[LayerCall]) -> None:
    """Give the layers their own forward back, where nothing uses the `LayerCall` any more."""
    for call in calls:
        unused = call.compiled is None and call.keeps is None
        if unused and vars(call.layer).get("forward") is call:
            if call.before is None:
                del call.layer.forward
            else:
                call.layer.forward = call.before
