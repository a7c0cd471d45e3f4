"""Block coordinate descent as a torch optimizer (BAdam, arXiv 2404.02827, Algorithm 1, and its relatives).

Symbols of the theorems and of the paper, mapped once:

    D  number of blocks          `num_blocks`
    K  steps of one visit        `inner_steps`
    t  block epoch               D visits when the order is a permutation of the blocks
    i  active block              `active_blocks`
    alpha  step size             `param_groups[i]["lr"]`, one group for each block
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, get_args, overload

import torch
from torch import Tensor
from torch._compile import _disable_dynamo  # torch.compiler.disable would load the compiler on import

from bcd.blocks import Part, Partition, entries, manage
from bcd.checks import plain, require_choice, require_flag, require_number, require_whole
from bcd.expansion import Expansion
from bcd.orders import Order
from bcd.processes import Averaging, ProcessGroup
from bcd.resume import Resumable
from bcd.rules.rule import Rule, as_tensorwise
from bcd.update import Update, require_whole_tensors
from bcd.visits import Lifetime, Master, require_inner_steps

Nonfinite = Literal["ignore", "skip", "raise"]
"""What a step does with a gradient that is not finite: use it as torch does, skip the step, or raise."""


def require_axes(partition: object, rule: object, order: object) -> None:
    """Raise ValueError unless partition, rule and order are what their names say, and no classes."""
    if not isinstance(partition, Partition):
        kind = type(partition).__name__
        raise ValueError(f"partition={kind} is not possible: make a Partition, such as by_layer(model)")
    for name, value, methods, example in (
        ("rule", rule, ("hyperparameters", "init", "update"), "Adam()"),
        ("order", order, ("next_visit", "state_dict", "load_state_dict"), "RandomReshuffle(seed=0)"),
    ):
        if isinstance(value, type) or not all(hasattr(value, method) for method in methods):
            raise ValueError(f"{name}={value!r} is not possible: make one, such as {example}")


class BlockCoordinateDescent(Resumable):
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
    scheduler shows) times the factor of the warm-up after a switch. `expansion_state` is what an expansion keeps for
    inactive blocks, by block and place in it. torch.compile leaves `step` as it is.

    The optimizer owns ``requires_grad`` of every parameter of the partition, whatever it was before.

    In several processes (torchrun) it averages the gradients of the active blocks over them, see `bcd.processes`.

    Args:
        partition: what is trained; one parameter group is made for each block, named by the block, so learning rate
            schedulers and per-block hyperparameters work as with any torch optimizer. A parameter of which several
            blocks hold rows is listed in the first of their groups.
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
        track_unchanged: keep a copy of the active weights and note in `unchanged`, block name -> share of its weights
            that the last visit left bitwise as they were.
        compiled: whether one kernel of torch.compile does the whole update, see `bcd.update_kernel`; it needs a rule
            that names no kernel variant. None: for exact masters on CUDA, where the separate conversions would cost
            more than the rule. On the CPU it needs a C++ compiler. Results differ from torch's own variants by
            rounding.
        expansion: what inactive blocks do meanwhile (landscape expansion), see `bcd.Expansion`; None: nothing.
        decay_vectors: whether weight decay of the rule also acts on tensors of fewer than two dimensions, norms and
            biases, as in torch; False spares them, as trainers of transformers do. Of an expansion it is no matter.
        process_group: the processes over which gradients are averaged: None for torch's default group, if one is up;
            a group; False for none, if processes train different models or another tool averages.

    Raises:
        ValueError: for K < 1, a negative or non-finite learning rate or the wrong number of them, an unknown block
            name or option, a rule that needs whole tensors with parts of them (rows, DTensors), or float16 weights:
            their updates underflow; train float32 weights under float16 autocast.

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
        decay_vectors: bool = True,
        process_group: ProcessGroup = None,
    ) -> None:
        require_axes(partition, rule, order)
        require_whole_tensors(rule, partition)
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
        lrs = list(map(plain, lrs))
        require_whole("switch_warmup", switch_warmup, least=0, why="it must be a whole number of steps, 0 for none")
        require_flag("track_unchanged", track_unchanged)
        require_flag("compiled", compiled, None)
        require_flag("decay_vectors", decay_vectors)
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
        self.state_lifetime = state
        self.master = master
        self.switch_warmup = plain(switch_warmup)
        self.nonfinite: Nonfinite = nonfinite
        self.track_unchanged = track_unchanged
        self.compiled = compiled
        self._apply = Update(rule, compiled)
        self.decay_vectors = decay_vectors
        if not decay_vectors and "weight_decay" not in rule.hyperparameters():
            raise ValueError(f"decay_vectors=False is not possible: rule={rule!r} has no weight decay")
        self.expansion = expansion
        if expansion is not None:
            expansion.require_possible(order, partition, nonfinite, lrs)
        self._averaging = Averaging(process_group)
        self._averaging.require_possible(expansion)
        self._expanded = None
        self.expansion_state = {}
        self.visits_started = 0
        self.steps_in_visit = 0
        self.skipped_steps = 0
        self.full_backwards = 0
        self.unchanged = {}
        self.used_lr: dict[str, float] = {}
        self._using_lr: dict[str, float] = {}
        self.active_blocks = ()
        self.always_active = tuple(always_active)
        self._always = tuple(indices[name] for name in always_active)
        self._drawn = tuple(i for i in range(len(partition)) if i not in self._always)
        if not self._drawn:
            raise ValueError("always_active names every block, so the order has none to draw; use single() instead")
        self._choosing = False
        self._before = []
        self._reached = set()
        self._warned = False
        self._visit_hooks = OrderedDict()
        listed: set[int] = set()
        groups = []
        for block, value in zip(partition.blocks, lrs, strict=True):
            parameters = [p for p in block.parameters.values() if id(p) not in listed]
            listed.update(map(id, parameters))
            groups.append({"params": parameters, "lr": value, "name": block.name})
            if expansion is not None and expansion.lr is not None:
                groups[-1]["first_lr"] = value
        super().__init__(groups, {"lr": lrs[0], **{name: plain(v) for name, v in rule.hyperparameters().items()}})
        manage(partition)
        for parameter in partition.frozen.values():
            parameter.requires_grad_(False)
        # A gradient from before would be clipped and counted with the active ones, and never cleared.
        for parameter in (
            *partition.frozen.values(),
            *(p for block in partition.blocks for p in block.parameters.values()),
        ):
            parameter.grad = None
        self._averaging.hook(self)
        if expansion is not None and expansion.consumes:
            self._expand_in_backward()
        self._next_visit()

    def __repr__(self) -> str:
        """What it trains and how, and what is active now; the groups, one a block, would be pages."""
        weights = sum(block.numel for block in self.partition.blocks)
        lrs = list(dict.fromkeys(float(group["lr"]) for group in self.param_groups))
        lr = f"lr={lrs[0]:g}" if len(lrs) == 1 else f"lr={min(lrs):g} to {max(lrs):g}"
        what = f"{len(self.partition)} blocks, {weights} weights, {self.rule!r}, {self.order!r}"
        names = ", ".join(self.partition.blocks[i].name for i in self.active_blocks)
        active = "all blocks, of which the step chooses" if self.choosing else names
        place = f"step {self.steps_in_visit} of {self.inner_steps} of visit {self.visits_started}"
        return f"{type(self).__name__}({what}, inner_steps={self.inner_steps}, {lr})\n  active: {active}, {place}"

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Only the constructor adds groups: a group is a block, and blocks are the partition's business.

        Raises:
            ValueError: after construction.
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

        Active parameters without a gradient are skipped, and so is a step without closure whose learning rates and
        gradients are all zero: torch's checkpoint getter makes one.

        Args:
            closure: clears the gradients, computes the loss, calls backward and returns the loss.

        Returns:
            The closure's loss, None without a closure.

        Raises:
            FloatingPointError: for a gradient that is not finite when nonfinite="raise".
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        elif self._is_probe():
            return None
        if not self._averaging.done:  # no hook of this optimizer was called in backward
            self._averaging.average(self)
        self._averaging.done = False
        if self.nonfinite != "ignore" and self._meets_nonfinite():
            return loss
        if self._choosing:
            self._choose()
        for index in self.active_blocks:
            self._update(index)
        self.used_lr, self._using_lr = self._using_lr, {}
        if self._expanded is not None:
            self._expanded.step(self._step_size_while_inactive)
        self._apply.drop_freed()
        self.steps_in_visit += 1
        if self.steps_in_visit >= self.inner_steps:
            try:
                self._call_visit_hooks("end")
            finally:  # or what a hook raises would leave a visit that no step ends
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
        return bool(gradients) and not any(bool(entries(g).any()) for g in gradients)

    def _meets_nonfinite(self) -> bool:
        """Whether the step must be skipped: then the gradients are dropped and the step is counted."""
        blocks = [self.partition.blocks[i] for i in self.active_blocks]
        gradients = [(f"{n} in block {b.name!r}", p.grad) for b in blocks for n, p in b.parameters.items()]
        gradients += (
            [(f"{n} in an inactive block", g) for n, g in self._expanded.gradients()] if self._expanded else []
        )
        for place, gradient in gradients:
            if gradient is not None and not torch.isfinite(entries(gradient)).all():
                if self.nonfinite == "raise":
                    raise FloatingPointError(f"the gradient of {place} is not finite")
                self.skipped_steps += 1
                self._drop_gradients()
                return True
        return False

    @torch.no_grad()
    def clip_grad_norm_(self, max_norm: float) -> Tensor:
        """Clip the gradients of the active blocks together, and no others, as torch's clip_grad_norm_ does.

        Of row blocks the active rows alone count in the norm and are scaled, and of an expansion nothing. Gradients of
        nn.Embedding(sparse=True), of which torch knows no norm, are clipped too.

        Args:
            max_norm: of all of them; infinity to clip nothing.

        Returns:
            The norm before.
        """
        if max_norm != math.inf:
            require_number("max_norm", max_norm, least=0.0)
        parts = [part for i in self.active_blocks for part in self.partition.blocks[i].parts]
        for part in parts:  # a row that a sparse gradient has twice counts by its sum
            if (g := part.parameter.grad) is not None and g.layout != torch.strided:
                part.parameter.grad = g.coalesce()
        gradients = [part.of(g) for part in parts if (g := part.parameter.grad) is not None]
        gradients = [g if g.layout == torch.strided else g.values() for g in gradients]
        norm = torch.nn.utils.get_total_norm(gradients)
        if max_norm < math.inf:
            scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
            for gradient in gradients:
                gradient.mul_(scale.to(gradient.device))
        return norm

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
        self._reached.add(index)
        factor = min(1.0, (self.steps_in_visit + 1) / self.switch_warmup) if self.switch_warmup else 1.0
        self._require_dense(parts)
        lr = group["lr"] * factor if factor != 1.0 else group["lr"]
        self._using_lr[group["name"]] = float(lr)
        if self.decay_vectors:
            self._move(parts, lr, group)
        else:
            spared = {**group, "weight_decay": 0.0}
            for some, options in (
                ([part for part in parts if part.parameter.ndim > 1], group),
                ([part for part in parts if part.parameter.ndim < 2], spared),
            ):
                if some:
                    self._move(some, lr, options)

    def _move(self, parts: Sequence[Part], lr: float | Tensor, hyperparameters: Mapping[str, Any]) -> None:
        """One step of the rule on parts that have a gradient."""
        weights = [part.of(part.parameter) for part in parts]
        gradients = [part.of(part.parameter.grad) for part in parts]  # pyright: ignore[reportArgumentType]
        states = [self._state_of(part) for part in parts]
        active = [part.of(part.parameter) for i in self.active_blocks for part in self.partition.blocks[i].parts]
        self._apply.step(weights, gradients, states, lr, hyperparameters, master=self.master != "off", active=active)

    def _require_dense(self, parts: Sequence[Part]) -> None:
        """Raise ValueError for a sparse gradient where there is no arithmetic for it."""
        for part in parts:
            gradient = part.parameter.grad
            if gradient is None or gradient.layout == torch.strided or (part.rows and part.is_sliced(gradient)):
                continue
            master = self.master != "off" and part.parameter.dtype == torch.bfloat16
            whole = self.rule.state_tensors > 1 or as_tensorwise(self.rule) is not None
            if part.rows is not None or whole or self.compiled or master:
                raise ValueError(
                    f"the gradient of {part.name} is sparse, which {type(self.rule).__name__} so cannot "
                    "use: make the table without sparse=True, or train it with SGD() and no master"
                )
