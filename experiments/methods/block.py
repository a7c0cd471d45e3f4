"""Block coordinate descent by `bcd`, as a method."""

import copy
import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from bcd import BlockCoordinateDescent, Fixed, Part, Partition
from bcd.checks import require_choice
from bcd.memory import Bytes, Held, expansion_bytes, held, measured, measured_held, nbytes, scratch_bytes, update_bytes
from bcd.memory.activations import LivePeak
from bcd.optimizer import require_inner_steps
from bcd.rules.rule import require
from bcd.update_kernel import supports
from experiments.methods.fake_steps import Answers
from experiments.methods.footprint import Footprint
from experiments.methods.interface import Method, Trainable

Clip = Literal["all", "active"]


class BlockMethod(Method):
    """`bcd.BlockCoordinateDescent` on a partition of the model.

    It reports the visits started, skipped steps, backward passes through everything that a greedy order cost, and with
    track_unchanged the share of each block's weights that its last visit left bitwise as they were.

    Args:
        partition: makes the partition of a model.
        clip: which gradients count in the norm that is clipped, and are scaled by it. "all": every gradient that there
            is when backward returns, with an expansion whose `when` is "step" those of inactive blocks too, and of
            row blocks the inactive rows. "active": those of the active blocks alone.
        options: of `bcd.BlockCoordinateDescent`, all by name; rule, order, inner_steps and lr are needed.

    Raises:
        ValueError: for an impossible clip, inner_steps or lr, and for an axis that is a name.
        TypeError: for an option that the optimizer does not have, and for a needed one that is missing.
    """

    def __init__(self, partition: Callable[[nn.Module], Partition], *, clip: Clip = "all", **options: Any) -> None:
        inspect.signature(BlockCoordinateDescent).bind(partition, **options)
        for axis, value in (("partition", partition), ("order", options["order"]), ("rule", options["rule"])):
            if isinstance(value, str):
                raise ValueError(f"method.{axis}={value} is no {axis}; choose one with {axis}={value}")
        require_choice("clip", clip, get_args(Clip))
        require_inner_steps(options["inner_steps"])
        require("lr", options["lr"], least=0.0)
        self.partition, self.clip, self.options = partition, clip, options

    def __call__(self, model: nn.Module) -> Trainable:
        partition = self.partition(model)
        optimizer = self._optimizer(partition)
        always = [part for block in partition.blocks if block.name in optimizer.always_active for part in block.parts]
        drawn = [block for block in partition.blocks if block.name not in optimizer.always_active]
        # Where a visit trains several blocks, the largest ones together are the visit that needs most.
        largest = sorted(drawn, key=lambda block: block.numel, reverse=True)[: self._width]
        together = [*always, *(part for block in largest for part in block.parts)]
        visits = [together] if self._width > 1 else [[*always, *block.parts] for block in drawn]

        def report() -> dict[str, Any]:
            counted = ("visits_started", "skipped_steps", "full_backwards", "unchanged")
            return {name: getattr(optimizer, name) for name in counted}

        def active() -> list[str]:
            return [partition.blocks[index].name for index in optimizer.active_blocks]

        footprint = BlockFootprint(model, optimizer, visits)
        clip = optimizer.clip_grad_norm_ if self.clip == "active" else None
        return Trainable(model, optimizer, visits, footprint, report, clip=clip, active=active)

    @property
    def _width(self) -> int:
        """How many blocks the order draws for a visit."""
        return getattr(self.options["order"], "width", 1)

    def visiting(self, visits: Sequence[int], steps: int) -> "BlockMethod":
        """As `Method.visiting`; a visit of several drawn blocks takes the lowest ones, which need most."""
        method, order = copy.copy(self), Fixed([list(range(self._width))] if self._width > 1 else list(visits))
        method.options = self.options | {"order": order, "inner_steps": steps}
        return method

    def _optimizer(self, partition: Partition) -> BlockCoordinateDescent:
        return BlockCoordinateDescent(partition, **self.options)


class BlockFootprint(Footprint):
    """Of `bcd.BlockCoordinateDescent`, whose rules tell their state.

    Args:
        model: the model that it trains.
        optimizer: what moves it.
        visits: the parts that are active together, one list for each visit.
        beside: tensors that are kept beside the optimizer's state and count as state.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: BlockCoordinateDescent,
        visits: Sequence[Sequence[Part]],
        beside: Sequence[Tensor] = (),
    ) -> None:
        self.parameters = list(model.parameters())  # collecting them takes milliseconds, and steps are measured
        self.optimizer, self.visits, self.beside = optimizer, visits, beside
        self.parts = [part for block in optimizer.partition.blocks for part in block.parts]
        if optimizer.expansion is not None and optimizer.expansion.rank is None:
            self.consumed = self._consumed

    def held(self, visit: int) -> Held:
        active, optimizer = self.visits[visit], self.optimizer
        places = set(map(_place, active))
        now = held(
            self.parameters,
            active,
            [part for part in self.parts if _place(part) not in places],
            state_tensors=optimizer.rule.state_tensors,
            counts_steps=optimizer.rule.counts_steps,
            state_shapes=getattr(optimizer.rule, "state_shapes", None),
            state=optimizer.state_lifetime,
            master=optimizer.master,
        )
        used_up = set(map(id, self.used_up(visit)))
        gradients = nbytes(p for p in self.differentiated(visit) if id(p) not in used_up)
        return replace(now, gradients=gradients, state=now.state + self._expansion(visit) + nbytes(self.beside))

    def update(self, visit: int) -> int:
        optimizer, places = self.optimizer, set(map(_place, self.visits[visit]))
        blocks = [block.parts for block in optimizer.partition.blocks]
        return update_bytes(
            [parts for parts in blocks if set(map(_place, parts)) <= places],
            state_tensors=optimizer.rule.state_tensors,
            fused=bool(getattr(optimizer.rule, "fused", False)),
            master=optimizer.master,
            compiled=self._compiled,
        )

    def scratch(self, visit: int) -> int:
        return scratch_bytes(self.visits[visit], master=self.optimizer.master, compiled=self._compiled)

    @property
    def _compiled(self) -> bool:
        """Whether one compiled kernel does the update on a GPU."""
        chosen = self.optimizer.compiled
        return supports(self.optimizer.rule) if chosen is None else chosen

    def differentiated(self, visit: int) -> list[Tensor]:
        if getattr(self.optimizer.order, "needs_gradients", False):  # it chooses the next blocks by all of them
            return [part.parameter for part in self.parts]
        active = [part.parameter for part in self.visits[visit]]
        return list({id(p): p for p in [*active, *self._moving(visit)]}.values())

    def used_up(self, visit: int) -> list[Tensor]:
        expansion = self.optimizer.expansion
        return self._moving(visit) if expansion is not None and expansion.consumes else []

    def _consumed(self, parameter: Tensor) -> None:
        """The expansion's own step inside backward, on a fresh state, which is part of `held`."""
        rule = self.optimizer.expansion.rule  # pyright: ignore[reportOptionalMemberAccess]
        weight, gradient, parameter.grad = parameter.detach(), parameter.grad, None
        assert gradient is not None
        with torch.no_grad(), Answers():
            with LivePeak.unseen():
                states = rule.init([weight])
            rule.update([weight], [gradient], states, 1.0, rule.hyperparameters())

    def _moving(self, visit: int) -> list[Tensor]:
        """What an expansion moves during a visit."""
        expansion, partition = self.optimizer.expansion, self.optimizer.partition
        moving = [] if expansion is None else expansion.moving(partition, self._active(visit))
        return [each.part.parameter for each in moving]

    def _active(self, visit: int) -> list[int]:
        """Indices of the blocks that are active during a visit."""
        places = set(map(_place, self.visits[visit]))
        return [i for i, block in enumerate(self.optimizer.partition.blocks) if _place(block.parts[0]) in places]

    def _expansion(self, visit: int) -> int:
        """Bytes of an expansion's state during a visit, once each block has been inactive above another if it can."""
        optimizer = self.optimizer
        if optimizer.expansion is None:
            return 0
        blocks, width = optimizer.partition.blocks, getattr(optimizer.order, "width", 1)
        always = [i for i, block in enumerate(blocks) if block.name in optimizer.always_active]
        drawn = [i for i in range(len(blocks)) if i not in always]
        # The lowest visit without a block is the one that has it within reach if any has.
        without = [[i for i in drawn if i != block][:width] for block in drawn]
        others = [[*always, *visit] for visit in without if len(visit) == width]
        return expansion_bytes(optimizer.expansion, optimizer.partition, self._active(visit), others)

    def held_now(self) -> Held:
        now = measured_held(self.parameters, self.optimizer)
        return replace(now, state=now.state + nbytes(self.beside))

    def measured(self) -> Bytes:
        now = measured(self.parameters, self.optimizer)
        return replace(now, state=now.state + nbytes(self.beside))


def _place(part: Part) -> tuple[int, tuple[int, int] | None]:
    return id(part.parameter), part.rows
