"""Block coordinate descent by `bcd`, as a method."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from bcd import BlockCoordinateDescent, Expansion, Order, Partition, Rule
from bcd.optimizer import Lifetime, Master, Nonfinite, require_inner_steps
from bcd.rules.rule import require
from experiments.methods.interface import Trainable


@dataclass(frozen=True)
class BlockMethod:
    """`bcd.BlockCoordinateDescent` on a partition of the model; arguments as there.

    It reports the visits started, skipped steps, backward passes through everything that a greedy order cost, and with
    track_unchanged the share of each block's weights that its last visit left bitwise as they were.

    Raises ValueError for an impossible inner_steps or lr.
    """

    partition: Callable[[nn.Module], Partition]
    order: Order
    rule: Rule
    inner_steps: int
    lr: float
    always_active: Sequence[str] = ()
    state: Lifetime = "reset"
    master: Master = "off"
    switch_warmup: int = 0
    nonfinite: Nonfinite = "ignore"
    track_unchanged: bool = False
    expansion: Expansion | None = None

    def __post_init__(self) -> None:
        for axis in ("partition", "order", "rule"):
            if isinstance(name := getattr(self, axis), str):
                raise ValueError(f"method.{axis}={name} is no {axis}; choose one with {axis}={name}")
        require_inner_steps(self.inner_steps)
        require("lr", self.lr, least=0.0)

    def __call__(self, model: nn.Module) -> Trainable:
        partition = self.partition(model)
        optimizer = self._optimizer(
            partition,
            rule=self.rule,
            order=self.order,
            inner_steps=self.inner_steps,
            lr=self.lr,
            always_active=self.always_active,
            state=self.state,
            master=self.master,
            switch_warmup=self.switch_warmup,
            nonfinite=self.nonfinite,
            track_unchanged=self.track_unchanged,
            expansion=self.expansion,
        )
        always = [part for block in partition.blocks if block.name in self.always_active for part in block.parts]
        drawn = [block for block in partition.blocks if block.name not in self.always_active]
        width = getattr(self.order, "width", 1)
        # Where a visit trains several blocks, the largest ones together are the visit that needs most.
        largest = sorted(drawn, key=lambda block: block.numel, reverse=True)[:width]
        together = [*always, *(part for block in largest for part in block.parts)]
        visits = [together] if width > 1 else [[*always, *block.parts] for block in drawn]

        def report() -> dict[str, Any]:
            counted = ("visits_started", "skipped_steps", "full_backwards", "unchanged")
            return {name: getattr(optimizer, name) for name in counted}

        return Trainable(model, optimizer, visits, self.rule.state_tensors, self.rule.counts_steps, report)

    def _optimizer(self, partition: Partition, **options: Any) -> BlockCoordinateDescent:
        return BlockCoordinateDescent(partition, **options)
