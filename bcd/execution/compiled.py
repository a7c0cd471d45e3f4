"""Each decoder layer compiled by itself: one graph for all layers that do the same, and none more at a switch.

What a layer has to compute depends on what needs a gradient: nothing (below the active block), its input (above it),
its weights (the active block), both. The parameters are inputs of a graph, so layers of equal shapes share it, and a
switch calls the graphs that are there with other parameters:

    frozen, below the active block:  1 graph          frozen, above it:  1          active:  1 for each kind of block

and once more each of the last two for layers that are recomputed in backward, if there are any. Compiling the whole
model would make a new graph for every block.
"""

import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from bcd.checks import require_flag
from bcd.execution.frozen_products import Float8Linear
from bcd.execution.kernels.passes import KeepWhatIsUsed, SumsInProducts
from bcd.execution.kernels.versions import FUNCTIONS_ARE_RECOMPUTED
from bcd.execution.layers import (
    INNERMOST,
    Args,
    Call,
    Kwargs,
    LayerCall,
    Rest,
    layer_calls,
    tensors,
    wrap,
    wrappers_of,
)
from bcd.toolchain import name_libraries_plainly

_kept: dict[Any, dict[Any, Call]] | None = None


@contextmanager
def keep_graphs() -> Iterator[None]:
    """What `compile_layers` compiles inside the block serves every model that is compiled inside it.

    For a process that trains one model after another: the second run of a method compiles nothing.
    """
    global _kept
    before, _kept = _kept, {} if _kept is None else _kept
    try:
        yield
    finally:
        _kept = before


class CompiledLayers:
    """Wrapper with one compiled function for each class of layers and each pattern of gradients; see `compile_layers`.

    Attributes:
        graphs: (class, recomputed or not, what needs a gradient: the arguments' tensors and the parameters) ->
            compiled function.
    """

    name = "compiled"
    priority = INNERMOST
    in_evaluation = False

    def __init__(self, backend: str | Callable[..., Any], mode: str | None, dynamic: bool | None) -> None:
        self.backend = backend
        self.mode = mode
        self.dynamic = dynamic
        self.graphs: dict[Any, Call] = {} if _kept is None else _kept.setdefault((backend, mode, dynamic), {})

    def __call__(self, call: LayerCall, args: Args, kwargs: Kwargs, rest: Rest) -> Any:
        return self._run(call.layer, args, kwargs, recompute=False)

    def recomputed(self, call: LayerCall, args: Args, kwargs: Kwargs, rest: Rest) -> Any:
        """By graphs of their own, which leave out what backward does not need."""
        layer = call.layer
        if not FUNCTIONS_ARE_RECOMPUTED and any(isinstance(m, Float8Linear) for m in layer.modules()):
            # The kept graph, with everything that it saves forgotten: its last product is computed again for nothing.
            return checkpoint(lambda *inputs: self(call, inputs, kwargs, rest), *args, use_reentrant=False)
        return self._run(layer, args, kwargs, recompute=True)

    def _run(self, layer: nn.Module, args: Args, kwargs: Kwargs, *, recompute: bool) -> Any:
        grad = torch.is_grad_enabled()
        inputs = tuple(grad and t.requires_grad for t in tensors((args, kwargs)))
        weights = tuple(grad and p.requires_grad for p in layer.parameters())
        key = (type(layer), recompute, inputs, weights)
        if key not in self.graphs:
            self.graphs[key] = self._compile(_recomputed if recompute else _forward)
        if any(inputs) or any(weights):
            return self.graphs[key](layer, args, kwargs)
        with torch.no_grad():  # the same graph, whether or not gradients are enabled
            return self.graphs[key](layer, args, kwargs)

    def _compile(self, call: Any) -> Call:
        # The compiler keeps its graphs with the code of a function and looks through them one by one: a copy of the
        # code for each pattern finds its graph at once, and never meets the limit of graphs.
        function = types.FunctionType(call.__code__.replace(), call.__globals__, call.__name__)
        name_libraries_plainly()
        if self.backend != "inductor":  # others have no place for passes
            return torch.compile(function, backend=self.backend, mode=self.mode, dynamic=self.dynamic)
        options = {} if self.mode is None else torch._inductor.list_mode_options(self.mode)
        options |= {"joint_custom_post_pass": SumsInProducts(), "post_grad_custom_pre_pass": KeepWhatIsUsed()}
        return torch.compile(function, options=options, dynamic=self.dynamic)


def _forward(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return type(layer).forward(layer, *args, **kwargs)


def _recomputed(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    def forward(*inputs: Any) -> Any:
        return type(layer).forward(layer, *inputs, **kwargs)

    return checkpoint(forward, *args, use_reentrant=False)


def compile_layers(
    model: nn.Module,
    *,
    backend: str | Callable[..., Any] = "inductor",
    mode: str | None = None,
    dynamic: bool | None = None,
) -> Callable[[], None]:
    """Compile each layer of `model` for training; evaluation and generation run the layers as they are.

        undo = compile_layers(model)

    Batches of a few different lengths are welcome: the second length makes graphs for any length, once. Results differ
    from eager ones by rounding.

    Args:
        model: any module whose layers `bcd.partitions.find_layers` finds.
        backend: of torch.compile. With "inductor" `bcd.execution.kernels.passes` change the graphs, in place of the
            passes that torch._inductor.config has at these two places.
        mode: of torch.compile.
        dynamic: of torch.compile.

    Returns:
        A function that undoes it.

    Raises:
        ValueError: for a model without layers, one whose layers are compiled already, or layers whose forward
            something else has replaced.
    """
    require_flag("dynamic", dynamic, None)
    calls = layer_calls(model)
    if replaced := [call.index for call in calls if call.before is not None]:
        raise ValueError(f"the forward of the layers {replaced} is something else's already, which cannot be compiled")
    return wrap(model, calls, CompiledLayers(backend, mode, dynamic))


def compiled_layers(model: nn.Module) -> CompiledLayers | None:
    """What compiles the layers of `model` at present, to look at its graphs; None if nothing does."""
    return next((each for each in wrappers_of(model) if isinstance(each, CompiledLayers)), None)
