"""Orders: which blocks each visit trains.

An order is a stream of *sets* of block indices, one set a visit. It owns its random generator, so changing
the order changes neither the data nor the initialisation, and its `state_dict` continues the stream exactly.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import torch


class Order(Protocol):
    """The interface that `BlockCoordinateDescent` asks of an order."""

    def next_visit(self, num_blocks: int) -> tuple[int, ...]:
        """Indices, each in [0, num_blocks), of the blocks that the next visit trains."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue the stream; tensors, numbers and lists only."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue the stream that `state` was taken from."""
        ...


class Cyclic:
    """Blocks 0, 1, ..., D-1, 0, 1, ... for ever.

    >>> order = Cyclic()
    >>> [order.next_visit(3) for _ in range(4)]
    [(0,), (1,), (2,), (0,)]
    """

    def __init__(self) -> None:
        self._visits = 0

    def next_visit(self, num_blocks: int) -> tuple[int, ...]:
        index = self._visits % num_blocks
        self._visits += 1
        return (index,)

    def state_dict(self) -> dict[str, Any]:
        return {"visits": self._visits}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._visits = state["visits"]


class Descending(Cyclic):
    """Blocks D-1, ..., 1, 0, D-1, ...: from the head of the network to its input.

    >>> order = Descending()
    >>> [order.next_visit(3) for _ in range(4)]
    [(2,), (1,), (0,), (2,)]
    """

    def next_visit(self, num_blocks: int) -> tuple[int, ...]:
        (index,) = super().next_visit(num_blocks)
        return (num_blocks - 1 - index,)


class RandomReshuffle:
    """A fresh uniformly random permutation of the blocks for each block epoch (the order of BAdam).

    seed: seed of the order's own generator; the global generator is never used.

    >>> order = RandomReshuffle(seed=0)
    >>> sorted(order.next_visit(3)[0] for _ in range(3))
    [0, 1, 2]
    """

    def __init__(self, seed: int = 0) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._left: list[int] = []

    def next_visit(self, num_blocks: int) -> tuple[int, ...]:
        if not self._left:
            self._left = torch.randperm(num_blocks, generator=self._generator).tolist()
        return (self._left.pop(0),)

    def state_dict(self) -> dict[str, Any]:
        return {"left": list(self._left), "generator": self._generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._left = list(state["left"])
        # A checkpoint loaded onto a GPU moves the state there, and a CPU generator takes CPU bytes only.
        self._generator.set_state(state["generator"].cpu())
