"""Block coordinate descent as a torch optimizer (BAdam, arXiv 2404.02827, Algorithm 1, and its relatives).

Symbols of the theorems and of the paper, mapped once:

    D  number of blocks          `num_blocks`
    K  steps of one visit        `inner_steps`
    t  block epoch               D visits when the order is a permutation of the blocks
    i  active block              `active_blocks`
    alpha  step size             `param_groups[i]["lr"]`, one group for each block
"""

import copy
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, get_args, overload

import torch
from torch import Tensor
from torch._compile import _disable_dynamo  # torch.compiler.disable would load the compiler on import
from torch.utils.hooks import RemovableHandle

from bcd.blocks import Part, Partition
from bcd.checks import require_choice, require_flag, require_number, require_whole
from bcd.expansion import Expanded, Expansion
from bcd.orders import Order
from bcd.resume import require_complete, require_equal, require_saved, setting
from bcd.rules.rule import Rule, State
from bcd.update import Update

Lifetime = Literal["reset", "host", "device"]
"""What happens to a block's optimizer state at the end of a visit: dropped (BAdam), kept on the CPU, or left there."""
Master = Literal["off", "discard", "host"]
"""Exact float32 master of active bfloat16 weights: none; its remainder discarded at the end of a visit (as published);
or the remainder kept on the CPU between visits (2 bytes a weight)."""
Nonfinite = Literal["ignore", "skip", "raise"]
"""What a step does with a gradient that is not finite: use it as torch does, skip the step, or raise."""


VisitHook = Callable[[Any], object]
"""What `register_visit_hook` takes: a function of the optimizer, whose result is not used."""


def require_inner_steps(value: int) -> None:
    """Raise ValueError unless `value` can be K, the number of steps of a visit."""
    require_whole("inner_steps", value, least=1, why="a visit lasts a whole number K >= 1 of steps")


def require_axes(partition: object, rule: object, order: object) -> None:
    """Raise ValueError unless partition, rule and order are what their names say, and no classes."""
    if not isinstance(partition, Partition):
        given = type(partition).__name__
        raise ValueError(f"partition={given} is not possible: make a Partition, such as by_layer(model)")
    for name, value, methods, example in (
        ("rule", rule, ("hyperparameters", "init", "update"), "Adam()"),
        ("order", order, ("next_visit", "state_dict", "load_state_dict"), "RandomReshuffle(seed=0)"),
    ):
        if isinstance(value, type) or not all(hasattr(value, method) for method in methods):
            raise ValueError(f"{name}={value!r} is not possible: make one, such as {example}")


class BlockCoordinateDescent(torch.optim.Optimizer):
    """Trains one set of blocks at a time: K steps of a rule on the active blocks, then the next visit.

        repeat for each visit:
            A <- next set of block indices from the order, and the blocks that are always active
            state <- init(A)                              (fresh state at every visit, as BAdam; see `state`)
            repeat K times:
                g <- gradient of the loss with respect to the parameters of A only
                x_A, state <- update(x_A, g, state, lr)   (the rule)

    Parameters outside A have ``requires_grad=False`` during the visit, so they get no gradient, and autograd
    stops at the lowest active layer. Every visit lasts K steps, the first included; K counts optimizer steps, so
    gradient accumulation needs nothing. The full objective by `closure` and minibatches (deterministic and stochastic
    use) run the same code.

    `used_lr` is the step size that the last step used, by block name: that of the block's parameter group (what a
    scheduler shows) times the factor of the warm-up after a switch. torch.compile leaves `step` as it is.

    The optimizer owns ``requires_grad`` of every parameter of the partition, whatever it was before.

    partition: what is trained; one parameter group is made for each block, named by the block, so learning rate
        schedulers and per-block hyperparameters work as with any torch optimizer. A parameter of which several blocks
        hold rows is listed in the first of their groups.
    rule: update of the active blocks, for example ``Adam()`` or ``SGD()``.
    order: which blocks each visit trains, for example ``RandomReshuffle(seed=0)``.
    inner_steps: K >= 1, optimizer steps of one visit.
    lr: step size, a number for all blocks or one number for each block in the partition's order.
    always_active: names of blocks that every visit trains besides those of the order, whose indices then count the
        other blocks; their state is never reset. LISA is ``Uniform(count=2)``, embedding and head always active.
    state: lifetime of the optimizer state, see `Lifetime`.
    master: exact float32 master for bfloat16 weights, see `Master` and `bcd.precision`; other weights need none.
    switch_warmup: the first steps of a visit use lr k / switch_warmup, k = 1, 2, ...; 0 for none.
    nonfinite: see `Nonfinite`. A skipped step counts in `skipped_steps` and not in K.
    track_unchanged: keep a copy of the active weights and note in `unchanged`, block name -> share of its weights that
        the last visit left bitwise as they were.
    compiled: whether one kernel of torch.compile does the whole update, see `bcd.update_kernel`; it needs a rule that
        names no kernel variant. None: for exact masters on CUDA, where the separate conversions would cost more than
        the rule. On the CPU it needs a C++ compiler. Results differ from torch's own variants by rounding.
    expansion: what inactive blocks do meanwhile (landscape expansion), see `bcd.Expansion`; None: nothing.

    Raises ValueError for K < 1, a negative or non-finite learning rate or the wrong number of them, an unknown block
    name or option, or float16 weights: their updates underflow; train float32 weights under float16 autocast.

    >>> from torch import nn
    >>> from bcd import RandomReshuffle, SGD, by_layer
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
    >>> optimizer = BlockCoordinateDescent(
    ...     by_layer(model), rule=SGD(), order=RandomReshuffle(seed=0), inner_steps=5, lr=0.1)
    >>> for _ in range(10):
    ...     loss = model(torch.ones(4, 2)).square().mean()
    ...     loss.backward()
    ...     optimizer.step()
    ...     optimizer.zero_grad()
    >>> optimizer.visits_started
    3
    """

    def __init__(
        self,
        partition: Partition,
        *,
        rule: Rule,
        order: Order,
        inner_steps: int,
        lr: float | Sequence[float],
        always_active: Sequence[str] = (),
        state: Lifetime = "reset",
        master: Master = "off",
        switch_warmup: int = 0,
        nonfinite: Nonfinite = "ignore",
        track_unchanged: bool = False,
        compiled: bool | None = None,
        expansion: Expansion | None = None,
    ) -> None:
        require_axes(partition, rule, order)
        require_inner_steps(inner_steps)
        if isinstance(lr, str | Tensor | Mapping):  # iterable, but no list of numbers
            raise ValueError(f"lr={lr!r} is not possible: give one number, or a list with one a block")
        lrs = list(lr) if isinstance(lr, Iterable) else [lr] * len(partition)
        if len(lrs) != len(partition):
            raise ValueError(
                f"got {len(lrs)} learning rates for {len(partition)} blocks; pass one number or one a block"
            )
        for value in lrs:
            require_number("lr", value, least=0.0)
        require_whole("switch_warmup", switch_warmup, least=0, why="it must be a whole number of steps, 0 for none")
        require_flag("track_unchanged", track_unchanged)
        require_flag("compiled", compiled, None)
        require_choice("state", state, get_args(Lifetime))
        require_choice("master", master, get_args(Master))
        require_choice("nonfinite", nonfinite, get_args(Nonfinite))
        indices = {block.name: i for i, block in enumerate(partition.blocks)}
        if isinstance(always_active, str) or len(set(always_active)) != len(always_active):
            raise ValueError(f"always_active={always_active!r} is not possible: give a list of different block names")
        if unknown := [name for name in always_active if name not in indices]:
            raise ValueError(f"always_active={unknown} names no block; there are {', '.join(indices)}")
        half = [n for block in partition.blocks for n, p in block.parameters.items() if p.dtype == torch.float16]
        if half:
            raise ValueError(
                f"{half[0]} is float16, in which updates and Adam's eps underflow; keep float32 weights under "
                'autocast with a GradScaler, or bfloat16 weights with master="discard"'
            )
        self.partition = partition
        self.rule = rule
        self.order = order
        self.inner_steps = inner_steps
        self.state_lifetime: Lifetime = state
        self.master: Master = master
        self.switch_warmup = switch_warmup
        self.nonfinite: Nonfinite = nonfinite
        self.track_unchanged = track_unchanged
        self.compiled = compiled
        self._apply = Update(rule, compiled)
        self.expansion = expansion
        self._check_expansion()
        self._expanded: Expanded | None = None
        self.visits_started = 0
        self.steps_in_visit = 0
        self.skipped_steps = 0
        self.full_backwards = 0
        self.unchanged: dict[str, float] = {}
        self.used_lr: dict[str, float] = {}
        self._using_lr: dict[str, float] = {}
        self.active_blocks: tuple[int, ...] = ()
        self.always_active = tuple(always_active)
        self._always = tuple(indices[name] for name in always_active)
        self._drawn = tuple(i for i in range(len(partition)) if i not in self._always)
        if not self._drawn:
            raise ValueError("always_active names every block, so the order has none to draw; use single() instead")
        self._choosing = False
        self._before: list[list[Tensor]] = []
        self._visit_hooks: OrderedDict[int, dict[str, VisitHook | None]] = OrderedDict()
        listed: set[int] = set()
        groups = []
        for block, value in zip(partition.blocks, lrs, strict=True):
            own = [p for p in block.parameters.values() if id(p) not in listed]
            listed.update(map(id, own))
            groups.append({"params": own, "lr": value, "name": block.name})
        super().__init__(groups, {"lr": lrs[0], **rule.hyperparameters()})
        for parameter in partition.frozen.values():
            parameter.requires_grad_(False)
        # A gradient from before would be clipped and counted with the active ones, and never cleared.
        for parameter in (
            *partition.frozen.values(),
            *(p for block in partition.blocks for p in block.parameters.values()),
        ):
            parameter.grad = None
        if expansion is not None and expansion.consumes:
            self._register_hooks()
        self._next_visit()

    def _check_expansion(self) -> None:
        """Raise ValueError for an expansion that does not go with the other options."""
        if self.expansion is None:
            return
        if getattr(self.order, "needs_gradients", False):
            raise ValueError("an expansion is not possible with a greedy order, whose choice uses up all gradients")
        if self.expansion.consumes and any(block.rows for block in self.partition.blocks):
            raise ValueError(
                "a partition by rows has active and inactive rows in one gradient, which backward must not free; "
                'give the expansion when="step" and no rank'
            )
        if self.expansion.consumes and self.expansion.rank is None and self.nonfinite != "ignore":
            raise ValueError(
                f"nonfinite={self.nonfinite!r} cannot take back what backward has moved; use "
                'when="step" or a rank in the expansion, or nonfinite="ignore"'
            )

    def _register_hooks(self) -> None:
        """Let the expansion use gradients inside backward, for as long as this optimizer lives."""
        itself = weakref.ref(self)

        def consume(parameter: Tensor) -> None:
            if (optimizer := itself()) is not None and optimizer._expanded is not None:
                with torch.no_grad():
                    optimizer._expanded.consume(parameter, [group["lr"] for group in optimizer.param_groups])

        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.requires_grad_(True).register_post_accumulate_grad_hook(consume)

    def __getstate__(self) -> dict[str, Any]:
        """torch would keep three attributes only, and a copied or unpickled optimizer would have lost its blocks.

        Hooks of visits stay with the optimizer that they were registered with.
        """
        return {**self.__dict__, "_visit_hooks": OrderedDict()}

    @property
    def num_blocks(self) -> int:
        """D, the number of blocks."""
        return len(self.partition)

    @property
    def active_parameters(self) -> list[Tensor]:
        """The parameters that the current visit trains, each once."""
        return list(
            {id(p): p for i in self.active_blocks for p in self.partition.blocks[i].parameters.values()}.values()
        )

    @property
    def choosing(self) -> bool:
        """Whether the coming step draws the blocks of its visit, as a greedy order does; until then all are active."""
        return self._choosing

    def register_visit_hook(self, *, start: VisitHook | None = None, end: VisitHook | None = None) -> RemovableHandle:
        """Call `start` when a visit starts and `end` when it ends, with the optimizer, until the handle is removed.

            handle = optimizer.register_visit_hook(start=lambda optimizer: print(optimizer.active_blocks))
            handle.remove()

        `start` is called whenever what is active has been set, and finds it in force: `active_blocks` and
        `active_parameters`, ``requires_grad``, kept state on its device, `visits_started` with this visit counted.
        With an expansion, inactive parameters require a gradient too. The occasions are

        - a switch: in the `step` that was the K-th of the visit before, after its `end`. `steps_in_visit` is 0.
        - a greedy order: at the switch all blocks are active and `choosing` is True; the first step of the visit
          draws the blocks and calls `start` once more, for them, before it moves anything, with their gradients there.
        - every `load_state_dict` that is not refused, once all is loaded. `steps_in_visit` may be above 0, and there
          is no `end` of the visit that was left for it.

        The first visit starts in the constructor, when there is no hook yet: call `start(optimizer)` for it. (A greedy
        order's first step calls it for the blocks that it draws.)

        `end` is called once for each visit, in its K-th step, after the weights have moved: `active_blocks` are still
        those of the visit, with their gradients, state and ``requires_grad``, and `steps_in_visit` is K. Steps that
        are skipped (`nonfinite`) call nothing.

        Hooks are called in the order of registration, without autograd (torch.no_grad), and must leave blocks and
        ``requires_grad`` to the optimizer. A hook may remove itself or others, which are then not called any more, and
        register new ones, which the next event calls. What a hook raises is raised by the step, and the hooks behind
        it are not called; what `end` raises does not stop the switch. copy.deepcopy and pickle leave all hooks behind.

        start, end: at least one of them.

        Returns a handle with `remove()`, which is also a context manager, for both. Raises ValueError for no function.
        """
        if (start is None and end is None) or not all(hook is None or callable(hook) for hook in (start, end)):
            raise ValueError(f"start={start!r} with end={end!r} is not possible: give a function of the optimizer")
        handle = RemovableHandle(self._visit_hooks)
        self._visit_hooks[handle.id] = {"start": start, "end": end}
        return handle

    @torch.no_grad()
    def _call_visit_hooks(self, event: Literal["start", "end"]) -> None:
        for key, hooks in list(self._visit_hooks.items()):
            if key in self._visit_hooks and (hook := hooks[event]) is not None:
                hook(self)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Only the constructor adds groups: a group is a block, and blocks are the partition's business.

        Raises ValueError after construction.
        """
        if len(self.param_groups) >= len(self.partition):
            raise ValueError("a parameter group is a block here; build a new Partition instead of adding a group")
        super().add_param_group(param_group)

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    # A compiled step would lose the visit: its counters and requires_grad are Python's, not the graph's.
    @_disable_dynamo
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step of the rule on the active blocks; after the K-th step of a visit the next visit starts.

        closure: clears the gradients, computes the loss, calls backward and returns the loss.
        Returns the closure's loss, None without a closure. Active parameters without a gradient are skipped, and so is
        a step without closure whose learning rates and gradients are all zero: torch's checkpoint getter makes one.
        Raises FloatingPointError for a gradient that is not finite when nonfinite="raise".
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        elif self._is_probe():
            return None
        if self.nonfinite != "ignore" and self._meets_nonfinite():
            return loss
        if self._choosing:
            self._choose()
        for index in self.active_blocks:
            self._update(index)
        self.used_lr, self._using_lr = self._using_lr, {}
        if self._expanded is not None:
            self._expanded.step([group["lr"] for group in self.param_groups])
        self._apply.drop_freed()
        self.steps_in_visit += 1
        if self.steps_in_visit == self.inner_steps:
            try:
                self._call_visit_hooks("end")
            finally:
                self._end_visit()
                self._next_visit()
            self._call_visit_hooks("start")
        return loss

    def _is_probe(self) -> bool:
        """Whether this is no step of training but torch's way to make state (`get_optimizer_state_dict`).

        It must not count in K, nor choose a block by gradients that are all zero.
        """
        if any(float(group["lr"]) != 0.0 for group in self.param_groups):
            return False
        gradients = [p.grad for p in self.active_parameters if p.grad is not None]
        return bool(gradients) and not any(bool(g.any()) for g in gradients)

    def _meets_nonfinite(self) -> bool:
        """Whether the step must be skipped: then the gradients are dropped and the step is counted."""
        blocks = [self.partition.blocks[i] for i in self.active_blocks]
        found = [(f"{n} in block {b.name!r}", p.grad) for b in blocks for n, p in b.parameters.items()]
        found += [(f"{n} in an inactive block", g) for n, g in self._expanded.gradients()] if self._expanded else []
        for place, gradient in found:
            if gradient is not None and not torch.isfinite(gradient).all():
                if self.nonfinite == "raise":
                    raise FloatingPointError(f"the gradient of {place} is not finite")
                self.skipped_steps += 1
                self._drop_gradients()
                return True
        return False

    def _drop_gradients(self) -> None:
        for parameter in self.active_parameters:
            parameter.grad = None
        if self._expanded is not None:
            self._expanded.drop_gradients()
            for _, part in self._expanded.parts:
                part.parameter.grad = None

    @_disable_dynamo
    @torch.no_grad()
    def step_on(self, parameter: Tensor) -> None:
        """The part of the coming `step` that belongs to one parameter: move it by its gradient, which is freed.

        `bcd.execution.step_in_backward` calls it; `step` then moves what has a gradient left and counts the step.
        """
        for index in self.active_blocks:
            self._update(index, parameter)
        parameter.grad = None

    def _update(self, index: int, only: Tensor | None = None) -> None:
        """Move the parameters of a block that have a gradient, or only one of them."""
        group = self.param_groups[index]
        parts = [part for part in self.partition.blocks[index].parts if part.parameter.grad is not None]
        if only is not None:
            parts = [part for part in parts if part.parameter is only]
        if not parts:
            return
        factor = min(1.0, (self.steps_in_visit + 1) / self.switch_warmup) if self.switch_warmup else 1.0
        weights = [part.of(part.parameter) for part in parts]
        gradients = [part.of(part.parameter.grad) for part in parts]  # pyright: ignore[reportArgumentType]
        states = [self._state_of(part) for part in parts]
        lr = group["lr"] * factor if factor != 1.0 else group["lr"]
        self._using_lr[group["name"]] = float(lr)
        active = [part.of(part.parameter) for i in self.active_blocks for part in self.partition.blocks[i].parts]
        self._apply.step(weights, gradients, states, lr, group, master=self.master != "off", active=active)

    def _state_of(self, part: Part) -> State:
        """State of a whole parameter under torch's names; state of rows one level below, under "start:stop"."""
        held = self.state[part.parameter]
        return held if part.rows is None else held.setdefault("{}:{}".format(*part.rows), {})

    def _choose(self) -> None:
        """Pick the blocks of a visit whose order asked for all gradients, and drop the gradients of the others."""
        blocks = [self.partition.blocks[i] for i in self._drawn]
        norms = [block.gradient_norm() for block in blocks]
        chosen = self.order.choose(norms, [block.numel for block in blocks])  # pyright: ignore[reportAttributeAccessIssue]
        self.full_backwards += 1
        self._start_visit(chosen)
        active = {id(p) for p in self.active_parameters}
        for block in blocks:
            for parameter in block.parameters.values():
                if id(parameter) not in active:
                    parameter.grad = None
        self._call_visit_hooks("start")

    def _end_visit(self) -> None:
        self._apply.end_visit()
        blocks = self.partition.blocks
        if self.track_unchanged:
            for index, before in zip(self.active_blocks, self._before, strict=True):
                same = sum(
                    int(part.of(part.parameter).eq(old).sum())
                    for part, old in zip(blocks[index].parts, before, strict=True)
                )
                self.unchanged[blocks[index].name] = same / blocks[index].numel
        self._drop_gradients()
        self._expanded = None
        for index in self.active_blocks:
            if index in self._always:
                continue
            for part in blocks[index].parts:
                part.parameter.requires_grad_(False)
                self._leave(part)

    def _leave(self, part: Part) -> None:
        """Drop, move or keep the state of a part whose visit ends."""
        state = self._state_of(part)
        if self.state_lifetime == "reset":
            self._apply.free(part.of(part.parameter), state)
        elif self.state_lifetime == "host":
            state.update({name: value.cpu() for name, value in state.items()})
        if self.master == "host" and "remainder" in state:
            state["remainder"] = state["remainder"].cpu()
        else:
            state.pop("remainder", None)
        held = self.state[part.parameter]
        if part.rows is not None and not state:
            del held["{}:{}".format(*part.rows)]
        if not held:
            del self.state[part.parameter]

    def _next_visit(self) -> None:
        self.steps_in_visit = 0
        self.visits_started += 1
        if getattr(self.order, "needs_gradients", False):
            self._choosing = True
            self._activate(tuple(range(self.num_blocks)))
        else:
            self._start_visit(self.order.next_visit(len(self._drawn)))

    def _start_visit(self, drawn: tuple[int, ...]) -> None:
        count = len(self._drawn)
        if not drawn or any(not 0 <= i < count for i in drawn) or len(set(drawn)) != len(drawn):
            raise ValueError(f"the order gave the visit {drawn}; wanted distinct indices in [0, {count})")
        self._choosing = False
        self._activate((*self._always, *(self._drawn[i] for i in drawn)))
        self._bring()

    def _activate(self, blocks: tuple[int, ...]) -> None:
        self.active_blocks = blocks
        if self.expansion is not None:
            first = min(blocks) if self.expansion.reach == "above" else 0
            inactive = [i for i in range(first, self.num_blocks) if i not in blocks]
            parts = [(i, part) for i in inactive for part in self.partition.blocks[i].parts]
            self._expanded = Expanded(self.expansion, parts, self.visits_started)
        moving = {id(p) for p in self.active_parameters}
        moving |= {id(part.parameter) for _, part in self._expanded.parts} if self._expanded else set()
        for block in self.partition.blocks:
            for parameter in block.parameters.values():
                parameter.requires_grad_(id(parameter) in moving)

    def _bring(self) -> None:
        """Move what was kept of the active blocks to their device, and copy the weights if they are tracked."""
        blocks = [self.partition.blocks[i] for i in self.active_blocks]
        for part in (part for block in blocks for part in block.parts):
            if part.parameter in self.state:
                state = self._state_of(part)
                for name, value in state.items():
                    # torch's kernels want the step counter on the CPU, except the fused ones.
                    if name != "step" or getattr(self.rule, "fused", False):
                        state[name] = value.to(part.parameter.device)
        if self.track_unchanged:
            self._before = [[part.of(part.parameter).detach().clone() for part in block.parts] for block in blocks]

    def state_dict(self) -> dict[str, Any]:
        """torch's state_dict and, under ``"visit"``, the block, the position in the visit and the order's state.

        All of it is needed to continue. Of torch.distributed.checkpoint, `get_optimizer_state_dict` drops the visit,
        and `load` into the state_dict of a new optimizer, which has no moments yet, reads none; both are refused here.
        Save this state_dict with `save` and read it back with `dcp_to_torch_save` and torch.load.
        """
        state = super().state_dict()
        state["visit"] = {
            "active_blocks": list(self.active_blocks),
            "choosing": self._choosing,
            "visits_started": self.visits_started,
            "steps_in_visit": self.steps_in_visit,
            "skipped_steps": self.skipped_steps,
            "full_backwards": self.full_backwards,
            "setting": self._setting(),
            "order": self.order.state_dict(),
            "held": sorted(state["state"]),
            "expansion": self._expanded.state_dict() if self._expanded else {},
        }
        return state

    def _setting(self) -> dict[str, Any]:
        """What must be equal for a state to be continued."""
        return setting(
            self.partition,
            inner_steps=self.inner_steps,
            rule=type(self.rule).__name__,
            order=type(self.order).__name__,
            state=self.state_lifetime,
            master=self.master,
            always_active=list(self.always_active),
            expansion=repr(self.expansion),
        )

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue exactly where `state_dict` was taken, also in the middle of a visit.

        Raises ValueError, naming the difference, when it comes from another partition, rule, order, K or option, or
        from no BlockCoordinateDescent; nothing is changed in that case.
        """
        require_saved(state_dict)
        visit = state_dict["visit"]
        require_equal(visit["setting"], self._setting())
        # torch.distributed.checkpoint makes strings of integer keys and leaves empty dicts out.
        state = {int(index): values for index, values in state_dict.get("state", {}).items()}
        require_complete(visit["held"], state)
        order = visit.get("order", {})
        try:  # on a copy: an order that cannot read its state should say so before anything changes
            copy.deepcopy(self.order).load_state_dict(order)
        except KeyError as error:
            raise ValueError(
                f"the state_dict's order lacks {error}, which {type(self.order).__name__} needs"
            ) from error
        # torch would cast float32 moments and integer remainders to the dtype of bfloat16 weights, so it gets none.
        groups = copy.deepcopy(list(state_dict["param_groups"]))
        super().load_state_dict({"state": {}, "param_groups": groups})
        parameters = [p for group in self.param_groups for p in group["params"]]
        for index, values in state.items():
            self.state[parameters[index]] = copy.deepcopy(values)
        for parameter in parameters:
            parameter.grad = None
        self.order.load_state_dict(order)
        self._choosing = visit["choosing"]
        for name in ("visits_started", "steps_in_visit", "skipped_steps", "full_backwards"):
            setattr(self, name, visit[name])
        self._apply.drop_freed()
        self._apply.end_visit()
        self._activate(tuple(visit["active_blocks"]))
        if not self._choosing:
            self._bring()
        if self._expanded is not None:
            self._expanded.load_state_dict(copy.deepcopy(visit.get("expansion", {})))
        self._call_visit_hooks("start")
