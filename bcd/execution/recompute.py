"""Which layers keep their activations for backward, and which compute them again, by a budget in bytes.

Only layers from the active block upwards hold anything, so what is free depends on the active block. With n such
layers, c_i the bytes that layer i keeps, r the bytes of its input (all that a recomputed layer keeps) and budget B:

    layer i keeps its activations  <=>  n r + sum over kept layers j >= i of (c_j - r)  <=  B

Layers are kept from the top downwards: backward frees them first, so that a recomputed layer below finds their memory
free. c_i is measured once for each kind of layer and shape of input, by a trial call that is dropped. Layers may take
different arguments (masks, rotary tables, states of other layers), so a trial is with a layer's own ones, at its own
call; only for layers with parameters of the same shapes the lowest layer's are tried before. Until a layer is measured
it recomputes, for one pass.
"""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bcd.checks import require_whole
from bcd.execution.layers import Args, Kwargs, LayerCall, Rest, layer_calls, tensors, wrap, wrappers_of
from bcd.memory import held, nbytes
from bcd.memory.activations import SavedTensors
from bcd.optimizer import BlockCoordinateDescent

Budget = int | Literal["free"] | None
"""Bytes that the layers may hold for backward; 0: recompute all; None: keep all; "free": what the device has left."""

RESERVE = 10**9
"""Bytes that "free" leaves free: a chunk of logits, workspaces of the libraries, fragmentation."""


class Recompute:
    """Wrapper that decides for every layer of one forward pass, when the lowest one that needs a gradient is called.

    Attributes:
        kept: indices of the layers that kept their activations in the last forward pass.
        cost: (kind of layer, layout of its arguments, shape, dtype) -> bytes that it keeps.
        available: what the budget "free" asks, see the function; a prediction for another device sets its own.
    """

    name = "recomputed"
    priority = 50
    in_evaluation = False

    def __init__(
        self,
        model: nn.Module,
        calls: list[LayerCall],
        budget: Budget,
        reserve: int,
        optimizer: torch.optim.Optimizer | None,
    ) -> None:
        self.model = model
        self.calls = calls
        self.budget: Budget = budget
        self.reserve = reserve
        self.available = available
        # No more than a reference: a copied model must not copy the optimizer's state with it.
        self._optimizer = (lambda: None) if optimizer is None else weakref.ref(optimizer)
        self.kept: frozenset[int] = frozenset()
        self.cost: dict[Any, int] = {}
        self._plans: dict[Any, frozenset[int]] = {}
        self._layouts: dict[int, Any] = {}  # index of a layer -> layout of the arguments of its last call
        self._measures = False  # whether the plan of the present pass asks what layers cost

    def forget_plans(self) -> None:
        """Plan anew at the next forward pass: a visit starts, which makes other state than the one before."""
        self._plans = {}

    def __call__(self, call: LayerCall, args: Args, kwargs: Kwargs, rest: Rest) -> Any:
        if call.needs_grad(args, kwargs) and not self.keeps(call, args, kwargs):
            return rest.recomputed(args, kwargs)
        return rest(args, kwargs)

    def keeps(self, call: LayerCall, args: Args, kwargs: Kwargs) -> bool:
        """Whether the layer keeps its activations; the lowest one that is asked in a pass makes the plan for all."""
        hidden = next(iter(tensors((args, kwargs))))
        lowest = call.index == 0 or not hidden.requires_grad
        if lowest:
            self._check_start(call, hidden)
        if self.budget is None or self.budget == 0:
            if lowest:
                self.kept = frozenset(each.index for each in self.calls[call.index :] if self.budget is None)
        else:
            self._layouts[call.index] = _layout((args, kwargs))
            if lowest:
                self.kept = self._plan(call, hidden, args, kwargs)
            elif self._measures:
                self._cost_of(call, hidden, args, kwargs, lowest=False)
        return call.index in self.kept

    def _check_start(self, layer: LayerCall, hidden: Tensor) -> None:
        """Raise RuntimeError if something makes the embedding's output require a gradient for nothing."""
        hooked = getattr(self.model, "_require_grads_hook", None) is not None
        if layer.index == 0 and hidden.requires_grad and hooked:
            raise RuntimeError(
                "the model's input embeddings are told to require a gradient (enable_input_require_grads, which "
                "transformers' own activation checkpointing calls), so backward would run through all frozen layers; "
                "call model.disable_input_require_grads() and leave the library's checkpointing off"
            )

    def _plan(self, first: LayerCall, hidden: Tensor, args: Args, kwargs: Kwargs) -> frozenset[int]:
        above = self.calls[first.index :]

        def key_of() -> tuple[int, tuple[Any, ...]]:
            layouts = [self._layouts.get(call.index) for call in above]
            kinds = [self._kind(c, hidden, w, lowest=c is first) for c, w in zip(above, layouts, strict=True)]
            return first.index, tuple(kinds)

        optimizer, key = self._optimizer(), key_of()
        self._measures = False  # where there is a plan all is known
        if key not in self._plans:
            budget = self.available(self.model, optimizer) if self.budget == "free" else self.budget
            self._measures = budget is not None
            if budget is None:
                return frozenset(call.index for call in above)
            costs: list[int | None] = [self._cost_of(first, hidden, args, kwargs, lowest=True)]
            for call, kind in zip(above[1:], key[1][1:], strict=True):
                known = kind in self.cost
                costs.append(self.cost[kind] if known else self._guess(call, first, hidden, args, kwargs))
            if self.budget == "free":  # backward through one layer needs about as much as it keeps
                budget -= self.reserve + max(cost for cost in costs if cost is not None)
            plan = _choose(above, costs, nbytes([hidden]), budget)
            key = key_of()
            if any(kind not in self.cost for kind in key[1]):
                return plan  # the next pass knows better
            self._plans = {key: plan}
        return self._plans[key]

    def _cost_of(self, call: LayerCall, hidden: Tensor, args: Args, kwargs: Kwargs, *, lowest: bool) -> int:
        """Cost of a layer with its own arguments, measured if it is not known."""
        kind = self._kind(call, hidden, self._layouts[call.index], lowest=lowest)
        if kind not in self.cost:
            self.cost[kind] = self._measure(call, args, kwargs, lowest=lowest)
        return self.cost[kind]

    def _guess(self, call: LayerCall, first: LayerCall, hidden: Tensor, args: Args, kwargs: Kwargs) -> int | None:
        """Cost of a layer that has not been called yet, with the lowest layer's arguments; None if that says nothing.

        Layers of one shape may still differ in what they need of their arguments, and then anything may be raised.
        """
        if _shapes(call.layer) != _shapes(first.layer):
            return None
        kind = self._kind(call, hidden, self._layouts[first.index], lowest=False)
        if kind not in self.cost:
            try:
                self.cost[kind] = self._measure(call, args, kwargs, lowest=False)
            except torch.OutOfMemoryError:
                raise
            except Exception:
                return None
        self._layouts[call.index] = self._layouts[first.index]  # until it is called with others
        return self.cost[kind]

    @staticmethod
    def _kind(call: LayerCall, hidden: Tensor, layout: Any, *, lowest: bool) -> Any:
        trains = tuple(p.requires_grad for p in call.layer.parameters())
        return _shapes(call.layer), trains, lowest and not hidden.requires_grad, layout, hidden.shape, hidden.dtype

    def _measure(self, call: LayerCall, args: Args, kwargs: Kwargs, *, lowest: bool) -> int:
        """Bytes that the layer keeps for backward, its input included, without what is there anyway."""
        hidden = next(iter(tensors((args, kwargs))))
        fresh = hidden.detach().requires_grad_(hidden.requires_grad or not lowest)
        replace = {id(hidden): fresh}
        args = tuple(replace.get(id(a), a) for a in args)
        kwargs = {name: replace.get(id(a), a) for name, a in kwargs.items()}
        shared = [t for t in tensors((args, kwargs)) if t is not fresh]
        size = 0

        def trial(call: LayerCall, args: Args, kwargs: Kwargs, rest: Rest) -> Any:
            """In the place of this wrapper, where those outside have done what they do to the weights."""
            nonlocal size
            with SavedTensors() as saved:
                result = rest(args, kwargs)
                size = saved.nbytes([*call.layer.parameters(), *call.layer.buffers(), *shared])
            return result

        wrappers: list[Any] = [trial if wrapper is self else wrapper for wrapper in call.wrappers]
        with _same_random_numbers(hidden), torch.enable_grad():
            Rest(call, wrappers)(args, kwargs)
        return size


def _shapes(layer: nn.Module) -> Any:
    return type(layer), tuple((p.shape, p.dtype) for p in layer.parameters())


def _layout(tree: Any) -> Any:
    """What arguments are without their sizes and values, which change from batch to batch."""
    if isinstance(tree, Tensor):
        return tree.ndim, tree.dtype
    if isinstance(tree, dict):
        return tuple((name, _layout(value)) for name, value in tree.items())
    if isinstance(tree, list | tuple):
        return tuple(map(_layout, tree))
    return type(tree)


def _choose(above: list[LayerCall], costs: list[int | None], carried: int, budget: int) -> frozenset[int]:
    """Indices of the layers that keep their activations, by the rule of the module's docstring; carried is r.

    A layer whose cost is not known is recomputed.
    """
    budget -= len(above) * carried
    kept = set()
    for call, cost in zip(reversed(above), reversed(costs), strict=True):
        if cost is None:
            continue
        budget -= max(0, cost - carried)
        if budget < 0:
            break
        kept.add(call.index)
    return frozenset(kept)


@contextmanager
def _same_random_numbers(hidden: Tensor) -> Iterator[None]:
    devices = [hidden.device] if hidden.is_cuda else []
    with torch.random.fork_rng(devices):
        yield


def available(model: nn.Module, optimizer: torch.optim.Optimizer | None) -> int | None:
    """Bytes of the model's device that a step may still use for activations; None where that is not known (a CPU).

    available = free on the device, within the process's memory fraction + free inside the allocator
                - gradients, remainders and state that the visit is yet to make
    """
    device = next(model.parameters()).device
    if device.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(device)
    reserved = torch.cuda.memory_reserved(device)
    limit = int(torch.cuda.get_per_process_memory_fraction(device) * total)
    return min(free, limit - reserved) + reserved - torch.cuda.memory_allocated(device) - pending(model, optimizer)


def pending(model: nn.Module, optimizer: torch.optim.Optimizer | None) -> int:
    """Bytes that the first step of a visit is yet to allocate: gradients, and for a BCD optimizer remainder, state.

    Of an expansion gradients that stay until the step count too; its state, if any, is small and left out.
    """
    if not isinstance(optimizer, BlockCoordinateDescent):
        return nbytes(p for p in model.parameters() if p.requires_grad and p.grad is None)
    parts = [part for i in optimizer.active_blocks for part in optimizer.partition.blocks[i].parts]
    rule = optimizer.rule
    wanted = held(
        [],
        parts,
        state_tensors=rule.state_tensors,
        counts_steps=False,
        state_shapes=getattr(rule, "state_shapes", None),
        master=optimizer.master,
    ).device
    active = {id(part.parameter): part.parameter for part in parts}
    beside = {id(p): p for p in _inactive_with_gradient(optimizer) if id(p) not in active}
    wanted += nbytes(beside.values())
    there = [t for p in active.values() for t in tensors(dict(optimizer.state.get(p, {})))]
    there += [p.grad for p in (active | beside).values() if p.grad is not None]
    return max(0, wanted - nbytes(there))


def _inactive_with_gradient(optimizer: BlockCoordinateDescent) -> list[Tensor]:
    """The parameters of inactive blocks whose gradients an expansion keeps until the step."""
    expansion = optimizer.expansion
    if expansion is None or expansion.consumes:
        return []
    return [each.part.parameter for each in expansion.moving(optimizer.partition, optimizer.active_blocks)]


def recompute_layers(
    model: nn.Module,
    budget: Budget = 0,
    *,
    reserve: int = RESERVE,
    optimizer: torch.optim.Optimizer | None = None,
) -> Callable[[], None]:
    """Let layers compute their activations again in backward (non-reentrant checkpointing), as far as `budget` asks.

        undo = recompute_layers(model)                               # every layer
        undo = recompute_layers(model, 3 * 10**9)                    # what 3 GB do not hold
        undo = recompute_layers(model, "free", optimizer=optimizer)  # what the GPU does not hold

    Layers below the active block hold nothing and are computed once. Gradients are bitwise those without it.

    A forward pass raises RuntimeError when something makes the embedding's output require a gradient, because backward
    would then run through all frozen layers.

    Args:
        model: any module whose layers `bcd.partitions.find_layers` finds, in training mode.
        budget: see `Budget`; on a CPU "free" keeps everything.
        reserve: bytes that "free" leaves free.
        optimizer: for "free", so that state which a visit is yet to make is counted.

    Returns:
        A function that undoes it.

    Raises:
        ValueError: for a negative budget or reserve, a model without layers, or one that recomputes already.
    """
    if budget is not None and budget != "free":
        require_whole("budget", budget, least=0, why='give bytes, 0 to recompute all, None to keep all, or "free"')
    require_whole("reserve", reserve, least=0, why="give bytes")
    calls = layer_calls(model)
    keeps = Recompute(model, calls, budget, reserve, optimizer)
    unwrap = wrap(model, calls, keeps)
    if not isinstance(optimizer, BlockCoordinateDescent):
        return unwrap
    handle = optimizer.register_visit_hook(start=lambda _: keeps.forget_plans())

    def undo() -> None:
        handle.remove()
        unwrap()

    return undo


def checkpoint_active_layers(model: nn.Module) -> None:
    """Turn activation checkpointing on, with a backward pass that stops at the active block.

    transformers makes the embedding's output require gradients together with its own checkpointing, for adapters; with
    frozen lower layers, backward would then recompute and run through all of them. This is `recompute_layers` with the
    budget 0 and leaves the embedding alone; a budget in bytes recomputes less, see `bcd.execution`.

    Args:
        model: any module with layers. For transformers.Trainer and trl.SFTTrainer call this before training and leave
            their own argument off (``activation_checkpointing=False``, which is not trl's default).

    Raises:
        ValueError: for a model without layers, or one that recomputes already.
    """
    recompute_layers(model, 0)


def recomputed_layers(model: nn.Module) -> Recompute | None:
    """What decides over the activations of `model` at present, to look at `kept`; None if nothing does."""
    return next((each for each in wrappers_of(model) if isinstance(each, Recompute)), None)
