"""What stands for `forward` of a decoder layer while options are on: wrappers around the layer, in a fixed order.

    layer.forward  ->  LayerCall  ->  the wrapper of lowest priority  ->  ...  ->  of highest priority  ->  the layer

An option puts one wrapper into the `LayerCall` of every layer and takes it out again. In which order options are
turned on and off does not matter: priorities say what is called first.

    recomputed    50   what the rest would keep for backward is dropped and computed again
    compiled     100   a graph stands for the layer itself, so nothing can be between them

A compiled layer that is recomputed is a graph of its own, which leaves out what backward does not need, for example
the last matrix product: `Rest.recomputed` asks the next wrapper for its own way before it wraps the rest up. What
brings weights to a layer and takes them away again belongs outside both.
"""

import inspect
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bcd.partitions import find_layers

Call = Callable[..., Any]
Args = tuple[Any, ...]
Kwargs = dict[str, Any]

INNERMOST = 100
"""Priority of `compiled`, the highest: nothing is between a graph and its layer."""

CACHES = ("past_key_values", "past_key_value", "layer_past", "cache_params")
"""Names under which Hugging Face layers take a cache; some take it without a name, see `is_cache`."""


class Wrapper(Protocol):
    """What an option puts around the call of a layer.

    One with a way of its own to keep nothing but the arguments for backward has a second method like `__call__`,
    `recomputed`.

    Attributes:
        name: the option's, as a participle ("compiled"); a layer has one wrapper of a name.
        priority: from 0 to `INNERMOST`; lower is further outside. A layer has one wrapper of a priority.
        in_evaluation: whether it is there in evaluation mode too.
    """

    name: str
    priority: int
    in_evaluation: bool

    def __call__(self, call: "LayerCall", args: Args, kwargs: Kwargs, rest: "Rest") -> Any:
        """The layer's result; `rest(args, kwargs)` runs the wrappers further inside, and the layer."""
        ...


class Rest:
    """The wrappers that are yet to be called, and the layer's own forward at the end.

    Args:
        call: of the layer.
        wrappers: from the outermost to the innermost.
    """

    def __init__(self, call: "LayerCall", wrappers: Sequence[Wrapper]) -> None:
        self.call = call
        self.wrappers = wrappers

    def __call__(self, args: Args, kwargs: Kwargs) -> Any:
        if not self.wrappers:
            return self.call.original(*args, **kwargs)
        return self.wrappers[0](self.call, args, kwargs, Rest(self.call, self.wrappers[1:]))

    def recomputed(self, args: Args, kwargs: Kwargs) -> Any:
        """The same result, of which backward finds the arguments alone and computes the rest again."""
        its_way = getattr(self.wrappers[0], "recomputed", None) if self.wrappers else None
        if its_way is not None:
            return its_way(self.call, args, kwargs, Rest(self.call, self.wrappers[1:]))
        return checkpoint(lambda *inputs: self(inputs, kwargs), *args, use_reentrant=False)


class LayerCall:
    """Callable in place of `layer.forward`: the layer inside its wrappers.

    In training, keys and values are not cached: a cache would keep them for the whole pass, and a recomputation would
    store them twice. In evaluation mode it is the layer's own forward, but for wrappers that are there too; and so it
    is for a call with a cache where gradients are disabled, such as `generate` of a model in training mode.

    Attributes:
        layer: whose forward it stands for.
        index: position among the layers.
        original: the layer's own forward.
        before: what was set on the layer in its place, usually nothing.
        wrappers: from the outermost to the innermost; `add` and `remove` change them.
    """

    def __init__(self, layer: nn.Module, index: int) -> None:
        self.layer = layer
        self.index = index
        self.original: Call = layer.forward
        self.before: Any = vars(layer).get("forward")
        self.wrappers: tuple[Wrapper, ...] = ()
        parameters = inspect.signature(layer.forward).parameters.values()
        self._names = tuple(each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The layer's result.

        Raises:
            ValueError: for a cache that holds tokens already where gradients are enabled in training mode.
        """
        given = dict(zip(self._names, args, strict=False)) | kwargs
        caches = [*filter(is_cache, args), *(given[name] for name in CACHES if given.get(name) is not None)]
        # Some layers keep states by themselves if they are told to.
        generates = not torch.is_grad_enabled() and (bool(caches) or given.get("use_cache") is True)
        if not self.layer.training or generates:
            return Rest(self, [wrapper for wrapper in self.wrappers if wrapper.in_evaluation])(args, kwargs)
        if self.index == 0 and any(holds_tokens(cache, self.layer) for cache in caches):
            raise ValueError(
                "the model is given a cache with the keys and values of earlier tokens, which backward would not "
                "reach: in training mode give whole sequences (use_cache=False), or call it under torch.no_grad()"
            )
        named = zip(itertools.chain(self._names, itertools.repeat("")), args, strict=False)
        args = tuple(
            False if name == "use_cache" else None if name in CACHES or is_cache(value) else value
            for name, value in named
        )
        kwargs |= {name: None for name in CACHES if name in kwargs}
        if "use_cache" in kwargs:
            kwargs["use_cache"] = False
        return Rest(self, self.wrappers)(args, kwargs)

    def add(self, wrapper: Wrapper) -> None:
        """Put a wrapper where its priority says.

        Raises:
            ValueError: for a priority that is not possible or taken, or a name that is taken.
        """
        if not 0 <= wrapper.priority <= INNERMOST:
            raise ValueError(f"priority={wrapper.priority!r} is not possible: give one from 0 to {INNERMOST}")
        for other in self.wrappers:
            if other.name == wrapper.name:
                raise ValueError(f"the layer {self.index} is {wrapper.name} already; undo that first")
            if other.priority == wrapper.priority:
                raise ValueError(
                    f"priority={wrapper.priority} is not possible: {other.name} has it, and one must be outside"
                )
        self.wrappers = tuple(sorted((*self.wrappers, wrapper), key=lambda each: each.priority))

    def remove(self, wrapper: Wrapper) -> None:
        """Take a wrapper out, if it is there; without any, the layer gets its own forward back."""
        self.wrappers = tuple(each for each in self.wrappers if each is not wrapper)
        if not self.wrappers and vars(self.layer).get("forward") is self:
            if self.before is None:
                del self.layer.forward
            else:
                self.layer.forward = self.before

    def needs_grad(self, args: Args, kwargs: Kwargs) -> bool:
        """Whether backward will run through this call."""
        if not torch.is_grad_enabled():
            return False
        return any(t.requires_grad for t in tensors((args, kwargs))) or self.trains

    @property
    def trains(self) -> bool:
        """Whether a parameter of the layer is trained at present."""
        return any(p.requires_grad for p in self.layer.parameters())


def is_cache(value: Any) -> bool:
    """Whether an argument of a layer is a cache of transformers."""
    return callable(getattr(value, "get_seq_length", None))


def holds_tokens(cache: Any, layer: nn.Module) -> bool:
    """Whether a layer's place in a cache was filled by an earlier call: one of transformers, or a tuple of tensors.

    Other places say nothing: layers in another list of the model may have filled them in the same call.
    """
    if not is_cache(cache):
        return any(True for _ in tensors(cache))
    place = next((m.layer_idx for m in layer.modules() if isinstance(getattr(m, "layer_idx", None), int)), 0)
    try:
        return bool(cache.get_seq_length(place) > 0)
    except ValueError:  # of a place without keys and values, for recurrent layers
        return bool(cache.has_previous_state(place))


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


def layer_calls(model: nn.Module) -> list[LayerCall]:
    """The `LayerCall` of every layer that `find_layers` finds: the one that is in place, or a new one that is not yet.

    Raises:
        ValueError: for a model without layers.
    """
    calls = []
    for index, layer in enumerate(find_layers(model)[1]):
        call = vars(layer).get("forward")
        calls.append(call if isinstance(call, LayerCall) else LayerCall(layer, index))
    return calls


def wrap(model: nn.Module, calls: Iterable[LayerCall], wrapper: Wrapper) -> Callable[[], None]:
    """Put the wrapper into the calls of all layers, and the calls in place.

    Args:
        model: for the message.
        calls: of its layers, from `layer_calls`.
        wrapper: one for all layers.

    Returns:
        A function that takes it out again.

    Raises:
        ValueError: if the layers have a wrapper of its name already.
    """
    calls = list(calls)
    if any(other.name == wrapper.name for call in calls for other in call.wrappers):
        raise ValueError(f"the layers of {type(model).__name__} are {wrapper.name} already; undo that first")
    for call in calls:
        call.add(wrapper)
        call.layer.forward = call

    def undo() -> None:
        for call in calls:
            call.remove(wrapper)

    return undo


def wrappers_of(model: nn.Module) -> list[Wrapper]:
    """The wrappers of the model's layers at present."""
    calls = [call for module in model.modules() if isinstance(call := vars(module).get("forward"), LayerCall)]
    return list({id(wrapper): wrapper for call in calls for wrapper in call.wrappers}.values())
