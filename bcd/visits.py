"""The visits of an optimizer: which blocks are active, what is kept of the others, and who is told of a switch."""

import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from bcd.blocks import Part, Partition
from bcd.checks import plain, require_whole
from bcd.expansion import Expanded, Expansion
from bcd.orders import Order
from bcd.rules.rule import Rule, State
from bcd.update import Update

Lifetime = Literal["reset", "host", "device"]
"""What happens to a block's optimizer state at the end of a visit: dropped (BAdam), kept on the CPU, or left there."""
Master = Literal["off", "discard", "host"]
"""Exact float32 master of active bfloat16 weights: none; its remainder discarded at the end of a visit (as published);
or the remainder kept on the CPU between visits (2 bytes a weight)."""
VisitHook = Callable[[Any], object]
"""What `register_visit_hook` takes: a function of the optimizer, whose result is not used."""


def require_inner_steps(value: int) -> None:
    """Raise ValueError unless `value` can be K, the number of steps of a visit."""
    require_whole("inner_steps", value, least=1, why="a visit lasts a whole number K >= 1 of steps")


class Visits(torch.optim.Optimizer):
    """The part of `BlockCoordinateDescent` that starts and ends visits; its constructor sets what is named here.

    `_drawn` holds the indices of the blocks that the order draws from, `_always` those that are always active.
    """

    partition: Partition
    rule: Rule
    order: Order
    state_lifetime: Lifetime
    master: Master
    expansion: Expansion | None
    track_unchanged: bool
    active_blocks: tuple[int, ...]
    visits_started: int
    steps_in_visit: int
    full_backwards: int
    unchanged: dict[str, float]
    _apply: Update
    expansion_state: dict[str, State]
    _expanded: Expanded | None
    _always: tuple[int, ...]
    _drawn: tuple[int, ...]
    _choosing: bool
    _before: list[list[Tensor]]
    _reached: set[int]
    _warned: bool
    _visit_hooks: OrderedDict[int, dict[str, VisitHook | None]]

    @property
    def inner_steps(self) -> int:
        """K, optimizer steps of one visit; a visit that has as many steps or more ends with the next one."""
        return self._inner_steps

    @inner_steps.setter
    def inner_steps(self, value: int) -> None:
        require_inner_steps(value)
        self._inner_steps = plain(value)

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

        Args:
            start: called when a visit starts; None where only the end matters.
            end: called when a visit ends; None where only the start matters.

        Returns:
            A handle with `remove()`, which is also a context manager, for both.

        Raises:
            ValueError: for neither, or for what is no function.
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

    def _state_of(self, part: Part) -> State:
        """State of a whole parameter under torch's names; state of rows one level below, under "start:stop"."""
        of_parameter = self.state[part.parameter]
        return of_parameter if part.rows is None else of_parameter.setdefault("{}:{}".format(*part.rows), {})

    def _drop_gradients(self) -> None:
        for parameter in self.active_parameters:
            parameter.grad = None
        if self._expanded is not None:
            self._expanded.drop_gradients()
            for each in self._expanded.moving:
                each.part.parameter.grad = None

    def _choose(self) -> None:
        """Pick the blocks of a visit whose order asked for all gradients, and drop the gradients of the others."""
        blocks = [self.partition.blocks[i] for i in self._drawn]
        norms = [block.gradient_norm() for block in blocks]
        drawn = self.order.choose(norms, [block.numel for block in blocks])  # pyright: ignore[reportAttributeAccessIssue]
        self.full_backwards += 1
        self._start_visit(drawn)
        active = {id(p) for p in self.active_parameters}
        for block in blocks:
            for parameter in block.parameters.values():
                if id(parameter) not in active:
                    parameter.grad = None
        self._call_visit_hooks("start")

    def _end_visit(self) -> None:
        self._apply.end_visit()
        blocks = self.partition.blocks
        self._warn_of_blocks_without_gradient()
        if self.track_unchanged:
            for index, before in zip(self.active_blocks, self._before, strict=True):
                same = sum(
                    int(part.of(part.parameter).eq(old).sum())
                    for part, old in zip(blocks[index].parts, before, strict=True)
                )
                size = blocks[index].numel
                self.unchanged[blocks[index].name] = same / size if size else 1.0
        self._drop_gradients()
        self._expanded = None
        if self.expansion is not None and self.expansion.rank is not None:
            self.expansion_state.clear()  # that of factors, which start anew
        for index in self.active_blocks:
            if index in self._always:
                continue
            for part in blocks[index].parts:
                part.parameter.requires_grad_(False)
                self._leave(part)

    def _warn_of_blocks_without_gradient(self) -> None:
        """Say once that a visit moved nothing, since no backward reached its block."""
        still = [self.partition.blocks[i].name for i in self.active_blocks if i not in self._reached]
        if still and not self._warned:
            self._warned = True
            warnings.warn(
                f"the block {still[0]!r} met no gradient in the {self.inner_steps} steps of its visit, so nothing "
                "moved: the loss does not depend on it, or its parameters are no longer those of the model "
                "(fully_shard or another change of the model after the optimizer was made), or something else set "
                "requires_grad=False (a second optimizer)",
                stacklevel=4,
            )

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
        of_parameter = self.state[part.parameter]
        if part.rows is not None and not state:
            del of_parameter["{}:{}".format(*part.rows)]
        if not of_parameter:
            del self.state[part.parameter]

    def _next_visit(self) -> None:
        self.steps_in_visit = 0
        self._reached = set()
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

    def _expand_in_backward(self) -> None:
        """Let the expansion use gradients inside backward, for as long as this optimizer lives."""
        itself = weakref.ref(self)

        def consume(parameter: Tensor) -> None:
            if (optimizer := itself()) is not None and optimizer._expanded is not None:
                with torch.no_grad():
                    optimizer._expanded.consume(parameter, optimizer._step_size_while_inactive)

        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.requires_grad_(True).register_post_accumulate_grad_hook(consume)

    def _step_size_while_inactive(self, index: int) -> float:
        """Of a block under an expansion."""
        assert self.expansion is not None
        group = self.param_groups[index]
        return self.expansion.step_size(group["lr"], group.get("first_lr", group["lr"]))

    def _activate(self, blocks: tuple[int, ...]) -> None:
        self.active_blocks = blocks
        if self.expansion is not None:
            expanded = self.expansion.moving(self.partition, blocks)
            self._expanded = Expanded(self.expansion, expanded, self.expansion_state, self.visits_started)
        moving = {id(p) for p in self.active_parameters}
        moving |= {id(each.part.parameter) for each in self._expanded.moving} if self._expanded else set()
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
