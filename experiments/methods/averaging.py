"""Averages of the weights along the path of block coordinate descent, which are evaluated in their place."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from bcd import BlockCoordinateDescent, Partition
from experiments.methods.block import BlockFootprint, BlockMethod
from experiments.methods.interface import Trainable

Every = Literal["step", "visit"]


class AveragedBlockMethod(BlockMethod):
    """`BlockMethod`, evaluated and exported at an exponential moving average of its weights.

        average <- decay * average + (1 - decay) * weights,     the first time: average <- weights

    after every step, or at the end of every visit: there each block has settled, and the average is one over visits.
    Training itself is not changed by it. The average takes the bytes of the weights that are ever trained, in their
    dtype, and is part of checkpoints; after a resumption it goes on exactly.

    Args:
        partition: as for the parent.
        decay: in (0, 1). The update is torch.optim.swa_utils'.
        every: "step" or "visit".
        options: as for the parent.

    Raises:
        ValueError: for an impossible decay or every.
    """

    def __init__(
        self,
        partition: Callable[[nn.Module], Partition],
        *,
        decay: float = 0.99,
        every: Every = "step",
        **options: Any,
    ) -> None:
        super().__init__(partition, **options)
        if isinstance(decay, bool) or not isinstance(decay, int | float) or not 0 < decay < 1:
            raise ValueError(f"decay={decay} is not possible: it must be above 0 and below 1")
        if every not in ("step", "visit"):
            raise ValueError(f"every={every!r} is not one of step, visit")
        self.decay = decay
        self.every: Every = every

    def __call__(self, model: Any) -> Trainable:
        trainable = super().__call__(model)
        optimizer = trainable.optimizer
        assert isinstance(optimizer, AveragedDescent)

        @contextmanager
        def evaluating() -> Iterator[None]:
            before = [weight.detach().clone() for weight in optimizer.averaged_weights]
            optimizer.put_average()
            try:
                yield
            finally:
                with torch.no_grad():
                    for weight, trained in zip(optimizer.averaged_weights, before, strict=True):
                        weight.copy_(trained)

        footprint = BlockFootprint(model, optimizer, trainable.visits, beside=optimizer.average)
        return replace(trainable, evaluating=evaluating, footprint=footprint)

    def _optimizer(self, partition: Partition) -> BlockCoordinateDescent:
        return AveragedDescent(partition, decay=self.decay, every=self.every, **self.options)


class AveragedDescent(BlockCoordinateDescent):
    """`bcd.BlockCoordinateDescent` with the average of `AveragedBlockMethod`.

    Args:
        partition: as for the parent.
        decay: of the average.
        every: "step" or "visit".
        options: those of the parent.
    """

    def __init__(self, partition: Partition, *, decay: float, every: Every, **options: Any) -> None:
        super().__init__(partition, **options)
        weights = {id(p): p for block in partition.blocks for p in block.parameters.values()}
        self.averaged_weights = list(weights.values())
        self.average = [weight.detach().clone() for weight in self.averaged_weights]
        self.averaged = 0  # how often
        self._every, self._average_update = every, get_ema_multi_avg_fn(decay)
        self._register()

    def _register(self) -> None:
        if self._every == "visit":
            self.register_visit_hook(end=AveragedDescent._update_average)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A copy registers a hook of its own: hooks of visits are not copied."""
        super().__setstate__(state)
        if "_every" in state:  # torch sets only a part of the state when it loads one
            self._register()

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore
        """A step of the parent, after which the average over steps is updated."""
        loss = super().step(closure)  # pyright: ignore[reportArgumentType]
        if self._every == "step":
            self._update_average()
        return loss

    @torch.no_grad()
    def _update_average(self) -> None:
        weights: Any = self.averaged_weights
        if self.averaged == 0:
            for average, weight in zip(self.average, weights, strict=True):
                average.copy_(weight)
        else:
            self._average_update(self.average, weights, self.averaged)
        self.averaged += 1

    @torch.no_grad()
    def put_average(self) -> None:
        """Overwrite the weights with their average, when there is one."""
        for weight, average in zip(self.averaged_weights, self.average, strict=True):
            weight.copy_(average if self.averaged else weight)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"average": list(self.average), "averaged": self.averaged}

    def load_state_dict(self, state_dict: Mapping[str, Any], *, other_inner_steps: bool = False) -> None:
        """As the parent's, with the average.

        Raises:
            ValueError: for a state without a fitting one.
        """
        average: list[Tensor] | None = state_dict.get("average")
        shapes = [tuple(weight.shape) for weight in self.averaged_weights]
        if average is None or [tuple(tensor.shape) for tensor in average] != shapes:
            raise ValueError("the state_dict has no average of these weights: it comes from another method")
        super().load_state_dict(state_dict, other_inner_steps=other_inner_steps)
        for mine, saved in zip(self.average, average, strict=True):
            mine.copy_(saved)
        self.averaged = state_dict["averaged"]
