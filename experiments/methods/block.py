"""Block coordinate descent by `bcd`, as a method."""

import copy
import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from bcd import BlockCoordinateDescent, Fixed, Part, Partition
from bcd.memory import Bytes, Held, held, measured, measured_held, nbytes, scratch_bytes, update_bytes
from bcd.optimizer import require_inner_steps
from bcd.rules.rule import require
from bcd.update_kernel import supports
from experiments.methods.footprint import Footprint
from experiments.methods.interface import Method, Trainable


class BlockMethod(Method):
    """`bcd.BlockCoordinateDescent` on a partition of the model.

    It reports the visits started, skipped steps, backward passes through everything that a greedy order cost, and with
    track_unchanged the share of each block's weights that its last visit left bitwise as they were.

    Args:
        partition: makes the partition of a model.
        options: of `bcd.BlockCoordinateDescent`, all by name; rule, order, inner_steps and lr are needed.

    Raises:
        ValueError: for an impossible inner_steps or lr, and for an axis that is a name.
        TypeError: for an option that the optimizer does not have, and for a needed one that is missing.
    """

    def __init__(self, partition: Callable[[nn.Module], Partition], **options: Any) -> None:
        inspect.signature(BlockCoordinateDescent).bind(partition, **options)
        for axis, value in (("partition", partition), ("order", options["order"]), ("rule", options["rule"])):
            if isinstance(value, str):
                raise ValueError(f"method.{axis}={value} is no {axis}; choose one with {axis}={value}")
        require_inner_steps(options["inner_steps"])
        require("lr", options["lr"], least=0.0)
        self.partition, self.options = partition, options

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

        return Trainable(model, optimizer, visits, BlockFootprint(model, optimizer, visits), report)

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
        return replace(now, gradients=nbytes(self.differentiated(visit)), state=now.state + nbytes(self.beside))

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
        greedy = getattr(self.optimizer.order, "needs_gradients", False)  # it chooses the next blocks by all of them
        return [part.parameter for part in (self.parts if greedy else self.visits[visit])]

    def held_now(self) -> Held:
        now = measured_held(self.parameters, self.optimizer)
        return replace(now, state=now.state + nbytes(self.beside))

    def measured(self) -> Bytes:
        now = measured(self.parameters, self.optimizer)
        return replace(now, state=now.state + nbytes(self.beside))


def _place(part: Part) -> tuple[int, tuple[int, int] | None]:
    return id(part.parameter), part.rows
