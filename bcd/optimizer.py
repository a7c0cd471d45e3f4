"""Block coordinate descent as a torch optimizer (BAdam, arXiv 2404.02827, Algorithm 1, and its relatives).

Symbols of the theorems and of the paper, mapped once:

    D  number of blocks          `num_blocks`
    K  steps of one visit        `inner_steps`
    t  block epoch               D visits when the order is a permutation of the blocks
    i  active block              `active_blocks`
    alpha  step size             `param_groups[i]["lr"]`, one group for each block
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, overload

import torch
from torch import Tensor

from bcd.blocks import Partition
from bcd.orders import Order
from bcd.rules.rule import Rule, require


def require_inner_steps(value: int) -> None:
    """Raise ValueError unless `value` can be K, the number of steps of a visit."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"inner_steps={value!r} is not possible: a visit lasts a whole number K >= 1 of steps")


class BlockCoordinateDescent(torch.optim.Optimizer):
    """Trains one set of blocks at a time: K steps of a rule on the active blocks, then the next visit.

        repeat for each visit:
            A <- next set of block indices from the order
            state <- init(A)                              (fresh state at every visit, as BAdam)
            repeat K times:
                g <- gradient of the loss with respect to the parameters of A only
                x_A, state <- update(x_A, g, state, lr)   (the rule)

    Parameters outside A have ``requires_grad=False`` during the visit, so they get no gradient, and autograd
    stops at the lowest active layer. Every visit lasts K steps, the first included. The full objective by
    `closure` (deterministic use) and minibatches (stochastic use) run the same code.

    partition: what is trained; one parameter group is made for each block, named by the block, so learning rate
        schedulers and per-block hyperparameters work as with any torch optimizer.
    rule: update of the active blocks, for example ``Adam()`` or ``SGD()``.
    order: which blocks each visit trains, for example ``RandomReshuffle(seed=0)``.
    inner_steps: K >= 1, optimizer steps of one visit.
    lr: step size, a number for all blocks or one number for each block in the partition's order.

    Raises ValueError for K < 1, a negative or non-finite learning rate, or the wrong number of them.

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
    ) -> None:
        require_inner_steps(inner_steps)
        lrs = list(lr) if isinstance(lr, Iterable) else [lr] * len(partition)
        if len(lrs) != len(partition):
            raise ValueError(
                f"got {len(lrs)} learning rates for {len(partition)} blocks; pass one number or one a block"
            )
        for value in lrs:
            require("lr", value, least=0.0)
        self.partition = partition
        self.rule = rule
        self.order = order
        self.inner_steps = inner_steps
        self.visits_started = 0
        self.steps_in_visit = 0
        self.active_blocks: tuple[int, ...] = ()
        groups = [
            {"params": list(block.parameters.values()), "lr": value, "name": block.name}
            for block, value in zip(partition.blocks, lrs, strict=True)
        ]
        super().__init__(groups, {"lr": lrs[0], **rule.hyperparameters()})
        for parameter in partition.frozen.values():
            parameter.requires_grad_(False)
        self._start_visit(order.next_visit(len(partition)))

    @property
    def num_blocks(self) -> int:
        """D, the number of blocks."""
        return len(self.partition)

    @property
    def active_parameters(self) -> list[Tensor]:
        """The parameters that the current visit trains."""
        return [p for i in self.active_blocks for p in self.partition.blocks[i].parameters.values()]

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
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step of the rule on the active blocks; after the K-th step of a visit the next visit starts.

        closure: clears the gradients, computes the loss, calls backward and returns the loss.
        Returns the closure's loss, None without a closure. Active parameters without a gradient are skipped.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for index in self.active_blocks:
            self._update(self.param_groups[index])
        self.steps_in_visit += 1
        if self.steps_in_visit == self.inner_steps:
            self._end_visit()
            self._start_visit(self.order.next_visit(self.num_blocks))
        return loss

    def _update(self, group: dict[str, Any]) -> None:
        parameters = [p for p in group["params"] if p.grad is not None]
        if not parameters:
            return
        fresh = [p for p in parameters if p not in self.state]
        for parameter, state in zip(fresh, self.rule.init(fresh), strict=True):
            self.state[parameter] = state
        states = [self.state[p] for p in parameters]
        self.rule.update(parameters, [p.grad for p in parameters], states, group["lr"], group)

    def _end_visit(self) -> None:
        for parameter in self.active_parameters:
            parameter.grad = None
            parameter.requires_grad_(False)
            self.state.pop(parameter, None)

    def _start_visit(self, blocks: tuple[int, ...]) -> None:
        if not blocks or any(not 0 <= i < self.num_blocks for i in blocks) or len(set(blocks)) != len(blocks):
            raise ValueError(f"the order gave the visit {blocks}; wanted distinct indices in [0, {self.num_blocks})")
        self.active_blocks = tuple(blocks)
        self.visits_started += 1
        self.steps_in_visit = 0
        active = {id(p) for p in self.active_parameters}
        for block in self.partition.blocks:
            for parameter in block.parameters.values():
                parameter.requires_grad_(id(parameter) in active)

    def state_dict(self) -> dict[str, Any]:
        """torch's state_dict and, under ``"visit"``, the block, the position in the visit and the order's state."""
        state = super().state_dict()
        state["visit"] = {
            "active_blocks": list(self.active_blocks),
            "visits_started": self.visits_started,
            "steps_in_visit": self.steps_in_visit,
            "inner_steps": self.inner_steps,
            "order": self.order.state_dict(),
        }
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue exactly where `state_dict` was taken, also in the middle of a visit.

        Raises ValueError when it comes from another partition, another K or from no BlockCoordinateDescent;
        nothing is changed in that case.
        """
        visit = state_dict.get("visit")
        if visit is None:
            raise ValueError("this state_dict has no 'visit' entry; it was not saved by BlockCoordinateDescent")
        saved = [(group["name"], len(group["params"])) for group in state_dict["param_groups"]]
        own = [(group["name"], len(group["params"])) for group in self.param_groups]
        if saved != own:
            gone = [name for name, _ in set(saved) - set(own)]
            new = [name for name, _ in set(own) - set(saved)]
            raise ValueError(
                "the state_dict is of another partition: "
                + (f"it has the blocks {sorted(gone)}, here are {sorted(new)}" if gone or new else "other block order")
            )
        if visit["inner_steps"] != self.inner_steps:
            raise ValueError(f"the state_dict has inner_steps={visit['inner_steps']}, here it is {self.inner_steps}")
        super().load_state_dict({key: value for key, value in state_dict.items() if key != "visit"})
        for parameter in self.active_parameters:
            parameter.grad = None
        self.order.load_state_dict(visit["order"])
        self._start_visit(tuple(visit["active_blocks"]))
        self.visits_started = visit["visits_started"]
        self.steps_in_visit = visit["steps_in_visit"]
