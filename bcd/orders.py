"""Orders: which blocks each visit trains.

An order is a stream of *sets* of block indices, one set a visit. It owns its random generator, so changing
the order changes neither the data nor the initialisation, and its `state_dict` continues the stream exactly.
"""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from numbers import Real
from typing import Any, Protocol

import torch
from torch import Tensor

from bcd.checks import plain, require_flag, require_number, require_whole

__all__ = [
    "Balanced",
    "CostAware",
    "Cyclic",
    "Descending",
    "Fixed",
    "Greedy",
    "Order",
    "RandomReshuffle",
    "SlidingWindow",
    "Uniform",
    "Weighted",
]


class Order(Protocol):
    """The interface that `BlockCoordinateDescent` asks of an order.

    width: the most blocks that one visit trains; 1 where an order does not say.
    needs_gradients: True for an order that chooses by the gradients of all blocks, see `Greedy`.
    """

    def next_visit(self, num_blocks: int) -> tuple[int, ...]:
        """Indices, each in [0, num_blocks), of the blocks that the next visit trains."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue the stream; tensors, numbers and lists only."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue the stream that `state` was taken from."""
        ...


class _Shown:
    """An order that shows how it was made."""

    _made: Mapping[str, Any] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self._made.items())})"


class Cyclic(_Shown):
    """Ascending order: blocks 0, 1, ..., D-1, 0, 1, ... for ever.

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


class _Reshuffled(_Shown):
    """The visits of an epoch in a fresh uniformly random order each time."""

    def __init__(self, seed: int = 0) -> None:
        self._generator = _seeded(seed)
        self._left: list[int] = []
        self._made = {"seed": seed}

    def next_visit(self, num_blocks: int) -> tuple[int, ...]:
        if not self._left:
            blocks = self._epoch(num_blocks)
            self._left = [blocks[i] for i in torch.randperm(len(blocks), generator=self._generator).tolist()]
        return (self._left.pop(0),)

    def _epoch(self, num_blocks: int) -> list[int]:
        """What an epoch visits."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        return {"left": list(self._left), "generator": self._generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._left = list(state["left"])
        # A checkpoint loaded onto a GPU moves the state there, and a CPU generator takes CPU bytes only.
        self._generator.set_state(state["generator"].cpu())


class RandomReshuffle(_Reshuffled):
    """A fresh uniformly random permutation of the blocks for each block epoch (the order of BAdam).

    Args:
        seed: seed of the order's own generator; the global generator is never used.

    >>> order = RandomReshuffle(seed=0)
    >>> sorted(order.next_visit(3)[0] for _ in range(3))
    [0, 1, 2]
    """

    def _epoch(self, num_blocks: int) -> list[int]:
        return list(range(num_blocks))


class Balanced(_Reshuffled):
    """A random order of block 0, m times, and of every other block once, again and again.

    For an expansion that reaches the blocks above the active one (`bcd.Expansion`, reach="above"): block j of D, from
    the input of the network to its output, then moves in every visit of a block i <= j. Whatever the order, block j
    moves no more often than block j + 1, and the last block always. If each block is visited in n visits, those of
    the D - 1 - j blocks above block j leave it still, so that it moves in n - (D - 1 - j) of them at most. This order
    has n = m + D - 1 visits an epoch and attains that for all blocks at once:

        block j moves in m + j visits of m + D - 1,    the first block in a share of m / (m + D - 1)

    No order that visits each block in as many visits moves any of them more often. The D - 1 visits that the first
    block moves less than the last one cannot be evened; a larger m makes them a smaller part of all. It costs
    arithmetic: backward runs through a mean share of (m + (D - 1)/2) / (m + D - 1) of the blocks, just over 1/2 for
    m = 1 (`RandomReshuffle`) and 3/4 for m = D - 1.

    Args:
        share: of the visits, in which the first block is to move at least; above 0 and by a millionth below 1. m is
            the smallest whole number from 1 that gives it.
        seed: of the order's own generator.

    Raises:
        ValueError: for another share.

    >>> order = Balanced(share=0.5)
    >>> sorted(order.next_visit(4)[0] for _ in range(6))
    [0, 0, 0, 1, 2, 3]
    """

    def __init__(self, share: float = 0.5, seed: int = 0) -> None:
        require_number("share", share, above=0, below=1)
        super().__init__(seed)
        self._made = {"share": share, "seed": seed}
        self._share = Fraction(share).limit_denominator(10**6)
        if self._share == 1:
            raise ValueError(f"share={share!r} is not possible: it must be below 1 by a millionth at least")

    def _epoch(self, num_blocks: int) -> list[int]:
        others = num_blocks - 1
        return [0] * max(1, math.ceil(self._share * others / (1 - self._share))) + list(range(1, num_blocks))


class Fixed(_Shown):
    """The given sets of blocks, one a visit, again from the start after the last.

    Args:
        visits: block indices, or lists of block indices that are active together; not empty.

    >>> order = Fixed([2, [0, 1]])
    >>> [order.next_visit(3) for _ in range(3)]
    [(2,), (0, 1), (2,)]
    """

    def __init__(self, visits: Sequence[int | Sequence[int]]) -> None:
        if not isinstance(visits, Sequence) or not visits:
            raise ValueError(f"visits={visits!r} is not possible: a list with at least one visit is needed")
        self._visits = [tuple(visit) if isinstance(visit, Sequence) else (visit,) for visit in visits]
        for visit in self._visits:
            for index in visit:
                require_whole("visits", index, least=0, why="a visit is a block index from 0, or a list of them")
            if not visit or len(set(visit)) != len(visit):
                raise ValueError(f"visits={visit} is not possible: the blocks of a visit are distinct, at least one")
        self._visits = [plain(visit) for visit in self._visits]
        self.width = max(map(len, self._visits))
        self._next = 0
        self._made = {"visits": [visit if len(visit) > 1 else visit[0] for visit in self._visits]}

    def next_visit(self, num_blocks: int) -> tuple[int, ...]:
        if (largest := max(max(visit) for visit in self._visits)) >= num_blocks:
            raise ValueError(
                f"visits={largest} is not possible: {num_blocks} blocks have the indices 0 to {num_blocks - 1}"
            )
        visit = self._visits[self._next]
        self._next = (self._next + 1) % len(self._visits)
        return visit

    def state_dict(self) -> dict[str, Any]:
        return {"next": self._next}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._next = state["next"]


class SlidingWindow(_Shown):
    """`width` neighbouring blocks a visit; the window moves on by `stride` and wraps around.

    Args:
        width: blocks a visit.
        stride: blocks from the start of one window to that of the next.

    >>> order = SlidingWindow(width=2, stride=1)
    >>> [order.next_visit(3) for _ in range(4)]
    [(0, 1), (1, 2), (2, 0), (0, 1)]
    """

    def __init__(self, width: int, stride: int = 1) -> None:
        for name, value in (("width", width), ("stride", stride)):
            require_whole(name, value, least=1)
        self.width = plain(width)
        self._stride = plain(stride)
        self._first = 0
        self._made = {"width": self.width, "stride": self._stride}

    def next_visit(self, num_blocks: int) -> tuple[int, ...]:
        if self.width > num_blocks:
            raise ValueError(f"width={self.width} exceeds the number of blocks, {num_blocks}")
        visit = tuple((self._first + i) % num_blocks for i in range(self.width))
        self._first = (self._first + self._stride) % num_blocks
        return visit

    def state_dict(self) -> dict[str, Any]:
        return {"first": self._first}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._first = state["first"]


class Weighted(_Shown):
    """`count` different blocks a visit, drawn independently of all earlier visits with the given weights.

    Args:
        weights: one positive number a block, for example its Lipschitz constant L_i or the inverse of its cost.
        count: blocks a visit; drawn one after another without replacement.
        seed: of the order's own generator.
    """

    def __init__(self, weights: Sequence[float], count: int = 1, seed: int = 0) -> None:
        possible = isinstance(weights, Sequence) and not isinstance(weights, str) and len(weights) > 0
        if not possible or not all(isinstance(w, Real) and 0 < w < float("inf") for w in weights):
            raise ValueError(f"weights={weights!r} is not possible: every weight must be positive and finite")
        self._weights = torch.tensor(list(weights), dtype=torch.float64)
        self.width = _count(count)
        self._generator = _seeded(seed)
        self._made = {"weights": list(weights), "count": self.width, "seed": seed}

    def _probabilities(self, num_blocks: int) -> Tensor:
        if len(self._weights) != num_blocks:
            raise ValueError(f"got {len(self._weights)} weights for {num_blocks} blocks; give one a block")
        return self._weights

    def next_visit(self, num_blocks: int) -> tuple[int, ...]:
        if self.width > num_blocks:
            raise ValueError(f"count={self.width} exceeds the number of blocks, {num_blocks}")
        weights = self._probabilities(num_blocks)
        return tuple(torch.multinomial(weights, self.width, generator=self._generator).tolist())

    def state_dict(self) -> dict[str, Any]:
        return {"generator": self._generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._generator.set_state(state["generator"].cpu())


class Uniform(Weighted):
    """`count` different blocks a visit, uniformly and independently of all earlier visits (LISA draws two).

    Args:
        count: blocks a visit.
        seed: of the order's own generator.
    """

    def __init__(self, count: int = 1, seed: int = 0) -> None:
        super().__init__([1.0], count, seed)
        self._made = {"count": self.width, "seed": seed}

    def _probabilities(self, num_blocks: int) -> Tensor:
        return torch.ones(num_blocks, dtype=torch.float64)


class CostAware(Weighted):
    """`count` different blocks a visit, drawn with probabilities inverse to what a training step on the block costs.

        p_i proportional to 1 / (1 + 1/D + (D - i)/D),    i = 0, ..., D - 1

    A step on block i of D equal blocks, from the input of the network to its output, runs forward through all of them,
    takes weight gradients of one, and input gradients from the output down to it; each of the three costs the same a
    block. The last block is drawn up to twice as often as the first.

    Args:
        count: blocks a visit.
        seed: of the order's own generator.
    """

    def __init__(self, count: int = 1, seed: int = 0) -> None:
        super().__init__([1.0], count, seed)
        self._made = {"count": self.width, "seed": seed}

    def _probabilities(self, num_blocks: int) -> Tensor:
        above = torch.arange(num_blocks, 0, -1, dtype=torch.float64)
        return num_blocks / (num_blocks + 1 + above)


class Greedy(_Shown):
    """The `count` blocks with the largest gradient norm (Gauss-Southwell).

    The norms cost one backward through everything at the first step of each visit: the optimizer lets all blocks
    have a gradient there, asks `choose`, and takes the first step of the visit with the gradients of the chosen
    blocks. `BlockCoordinateDescent.full_backwards` counts these steps.

    Args:
        count: blocks a visit.
        per_weight: compare norms divided by the square root of the block's size, so that large blocks do not always
            win.

    >>> Greedy(count=2).choose([0.1, 3.0, 2.0], [1, 1, 1])
    (1, 2)
    """

    needs_gradients = True

    def __init__(self, count: int = 1, *, per_weight: bool = False) -> None:
        self.width = _count(count)
        require_flag("per_weight", per_weight)
        self._per_weight = per_weight
        self._made = {"count": self.width, "per_weight": per_weight}

    def choose(self, norms: Sequence[float], sizes: Sequence[int]) -> tuple[int, ...]:
        """Indices of the visit, from the gradient norm and the number of weights of every block."""
        if self.width > len(norms):
            raise ValueError(f"count={self.width} exceeds the number of blocks, {len(norms)}")
        scores = [n / d**0.5 if self._per_weight else n for n, d in zip(norms, sizes, strict=True)]
        return tuple(sorted(range(len(scores)), key=lambda i: (-scores[i], i))[: self.width])

    def next_visit(self, num_blocks: int) -> tuple[int, ...]:
        raise RuntimeError("a greedy order has no next visit without gradients; the optimizer asks choose()")

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


def _count(value: int) -> int:
    require_whole("count", value, least=1, why="a visit trains a whole number of blocks, at least one")
    return plain(value)


def _seeded(seed: int) -> torch.Generator:
    require_whole("seed", seed, least=0, why="a seed is a whole number, at least 0")
    return torch.Generator().manual_seed(plain(seed))
