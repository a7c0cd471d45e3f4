"""Landscape expansion: inactive blocks are moved cheaply in the backward pass of the active one.

After BREAD (Luo, Yu, Li, Li: Accelerating Block Coordinate Descent for LLM Finetuning via Landscape Expansion, NeurIPS
2025, openreview.net/forum?id=DBybUx7ARy): frozen blocks that are far from optimal misguide the active one, and their
gradients cost little once backward passes through them. `Expansion` is an option of `BlockCoordinateDescent` beside
partition, order and rule.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from bcd.blocks import Part, Partition
from bcd.checks import require_choice, require_number, require_whole
from bcd.orders import Order
from bcd.processes import is_sharded
from bcd.rules.rule import Rule, State, as_tensorwise
from bcd.rules.sgd import SGD
from bcd.update import require_whole_tensors

Reach = Literal["all", "above"]
"""Which inactive blocks move: all, or those after the lowest active one in the partition, which backward passes anyway
where blocks are in the order of the network."""
When = Literal["step", "backward"]
"""When they move: in the optimizer's step, or inside backward, where each gradient is freed as soon as it is used."""


@dataclass(frozen=True)
class Expansion:
    """What an inactive block does while another one is active.

        rank=None   x <- rule(x, g, step size)        a rule without state, or with a small one that it declares
        rank=r      R <- rule(R, P'g, step size),  x <- x + P (R - R_old)     P: (rows, r), orthonormal columns

    The second is training a low-rank factor R of x + P R, started at zero at each visit, with P random and fixed for
    the visit; only matrices with more than r rows move, and weight decay does nothing. Its gradient P'g, r x columns
    float32 numbers, is summed over the backward passes of a step while g itself is freed, so gradient accumulation is
    exact and costs little memory; P takes rows x r numbers more.

    A small state (`Factored`) is kept for the whole run, also while its block is active, but not updated then: that
    would cost one more pass over the gradients of the active block, which moves by its own rule, and an average over
    many steps is little older after a visit. Its counter counts the steps of the expansion alone.

    An inactive bfloat16 weight has no exact master: each of its steps is rounded, and lost below about 1/256 of it.

    Not to be used with a GradScaler where gradients are consumed in backward (rank, or when="backward"): they would
    still be scaled.

    Attributes:
        rule: SGD() by default. Without a rank one without state, or whose state is small, `bcd.rules.rule.Tensorwise`;
            with a rank any rule of bcd, for example Adam().
        ratio: step size, as a multiple of the block's own learning rate, so that schedules act on both. 1.0 where
            neither it nor lr is given.
        rank: r >= 1, None for the whole gradient.
        reach: see `Reach`.
        when: see `When`. With "step", whole gradients of all moving blocks exist until the step, as in full training;
            ``clip_grad_norm_(model.parameters(), ...)`` then counts and scales them together with the active ones,
            ``clip_grad_norm_(optimizer.active_parameters, ...)`` leaves them as they are. With "backward" they are
            gone when backward returns: clipping reaches the active ones only, and gradient accumulation is not
            possible: a second backward before the step raises RuntimeError. Ignored with rank.
        max_norm: with rank, the global norm to which the projected gradients P'g are clipped together; None for none.
        seed: of P.
        lr: step size in place of ratio. Schedules act on it too: it is multiplied by the block's learning rate over
            that with which the optimizer was made.

    Raises:
        ValueError: for an impossible value, ratio together with lr, or a rule with state that is not small where there
            is no rank.
    """

    rule: Rule = field(default_factory=SGD)
    ratio: float | None = None
    rank: int | None = None
    reach: Reach = "all"
    when: When = "step"
    max_norm: float | None = None
    seed: int = 0
    lr: float | None = None

    def __post_init__(self) -> None:
        require_number("ratio", self.ratio, least=0.0, or_none=True)
        require_number("lr", self.lr, least=0.0, or_none=True)
        if self.ratio is not None and self.lr is not None:
            raise ValueError(f"ratio={self.ratio!r} with lr={self.lr!r} is not possible: give one step size")
        require_whole("rank", self.rank, least=1, or_none=True)
        require_choice("reach", self.reach, get_args(Reach))
        require_choice("when", self.when, get_args(When))
        small = as_tensorwise(self.rule) is not None
        if self.rank is None and (self.rule.state_tensors or (self.rule.counts_steps and not small)):
            raise ValueError(
                f"rule={self.rule!r} would keep state for inactive weights; give a rank, or a rule with less: SGD(), "
                "Sign(), RowNormalised() or Factored()"
            )
        if self.max_norm is not None:
            require_number("max_norm", self.max_norm, least=0.0)
            if self.rank is None:
                raise ValueError(
                    f"max_norm={self.max_norm!r} clips projected gradients, and there is no rank; "
                    "clip the parameters' own gradients instead"
                )

    def require_possible(self, order: Order, partition: Partition, nonfinite: str, lrs: Sequence[float]) -> None:
        """Raise ValueError unless the expansion goes with these options of the optimizer; lrs has one a block."""
        if getattr(order, "needs_gradients", False):
            raise ValueError("an expansion is not possible with a greedy order, whose choice uses up all gradients")
        if self.consumes and any(is_sharded(p) for block in partition.blocks for p in block.parameters.values()):
            raise ValueError(
                "an expansion that uses gradients inside backward is not possible with DTensors (fully_shard), whose "
                'gradients come after it; give the expansion when="step" and no rank'
            )
        if self.consumes and any(block.rows for block in partition.blocks):
            raise ValueError(
                "a partition by rows has active and inactive rows in one gradient, which backward must not free; "
                'give the expansion when="step" and no rank'
            )
        if self.consumes and self.rank is None and nonfinite != "ignore":
            raise ValueError(
                f"nonfinite={nonfinite!r} cannot take back what backward has moved; use "
                'when="step" or a rank in the expansion, or nonfinite="ignore"'
            )
        if self.rank is None:
            require_whole_tensors(self.rule, partition)
        still = [block.name for block, lr in zip(partition.blocks, lrs, strict=True) if lr == 0]
        if self.lr is not None and still:
            raise ValueError(
                f"lr={self.lr!r} of the expansion follows the schedule of the block's own learning rate, which is 0 "
                f"for {still[0]!r}; give a ratio, or the block a learning rate"
            )

    @property
    def consumes(self) -> bool:
        """Whether gradients are used up inside backward."""
        return self.rank is not None or self.when == "backward"

    def step_size(self, lr: float, first: float) -> float:
        """Of an inactive block whose own learning rate is `lr` now and was `first` when the optimizer was made."""
        if self.lr is not None:
            return self.lr * (lr / first)
        return lr if self.ratio is None else self.ratio * lr

    def moving(self, partition: Partition, active: Collection[int]) -> "list[Moving]":
        """What moves while these blocks are active: of each inactive block within reach, what the rank lets move."""
        first = min(active) if self.reach == "above" else 0
        return [
            Moving(index, f"{index}.{place}", part)
            for index in range(first, len(partition))
            if index not in active
            for place, part in enumerate(partition.blocks[index].parts)
            if self.rank is None or (part.parameter.ndim == 2 and part.parameter.shape[0] > self.rank)
        ]


class Moving(NamedTuple):
    """A part of an inactive block that an expansion moves.

    Attributes:
        block: index of the block.
        key: of the part's state, index of the block and place in it: names change with what wraps the model.
        part: the part.
    """

    block: int
    key: str
    part: Part


class Expanded:
    """The inactive parts of one visit, under an `Expansion`.

    Args:
        expansion: what they do.
        moving: `Expansion.moving` of the visit.
        states: of what moves, by its key; missing ones are made here.
        visit: number of the visit, which with the seed gives every P.
    """

    def __init__(self, expansion: Expansion, moving: Sequence[Moving], states: dict[str, State], visit: int) -> None:
        self.expansion = expansion
        self.moving = moving
        self._states = states
        self._of = {each.part.parameter: place for place, each in enumerate(moving)}
        self._visit = visit
        self._projected: dict[int, Tensor] = {}
        self._bases: dict[int, Tensor] = {}
        self._moved: set[int] = set()

    def consume(self, parameter: Tensor, step_size: Callable[[int], float]) -> None:
        """Use up the gradient of `parameter` inside backward.

        Args:
            parameter: of any block.
            step_size: of an inactive block at present, by its index.
        """
        place = self._of.get(parameter)
        if place is None or parameter.grad is None:
            return
        index, key, part = self.moving[place]
        gradient, parameter.grad = parameter.grad, None
        if self.expansion.rank is None:
            if place in self._moved:
                raise RuntimeError(
                    f"a second backward before step() reached {part.name}, which has moved already; "
                    'gradient accumulation needs when="step" or a rank'
                )
            self._moved.add(place)
            self._apply(parameter.detach(), gradient, key, step_size(index))
        else:
            projected = self._basis(place).T @ gradient.float()
            self._projected[place] = self._projected[place] + projected if place in self._projected else projected

    def step(self, step_size: Callable[[int], float]) -> None:
        """Move every part whose gradient of this step is still to be used."""
        if self.expansion.consumes:
            for each in self.moving:  # in a copied optimizer, whose parameters have lost their hooks
                self.consume(each.part.parameter, step_size)
        if self.expansion.rank is not None:
            self._clip()
            for place, gradient in self._projected.items():
                index, key, part = self.moving[place]
                factor = torch.zeros_like(gradient)
                self._apply(factor, gradient, key, step_size(index))
                part.parameter.add_((self._basis(place) @ factor).to(part.parameter.dtype))
        elif self.expansion.when == "step":
            for index, key, part in self.moving:
                if (gradient := part.parameter.grad) is not None:
                    self._apply(part.of(part.parameter.detach()), part.of(gradient), key, step_size(index))
        self.drop_gradients()

    def drop_gradients(self) -> None:
        """Forget what backward left: after a step, and instead of a skipped one."""
        self._projected.clear()
        self._moved.clear()

    def gradients(self) -> list[tuple[str, Tensor]]:
        """What the coming step will use, by parameter name."""
        projected = [(self.moving[place].part.name, gradient) for place, gradient in self._projected.items()]
        parts = [each.part for each in self.moving]
        return projected or [(part.name, g) for part in parts if (g := part.parameter.grad) is not None]

    def _apply(self, weight: Tensor, gradient: Tensor, key: str, lr: float) -> None:
        rule = self.expansion.rule
        if gradient.layout != torch.strided and as_tensorwise(rule) is not None:
            name = next(each.part.name for each in self.moving if each.key == key)
            raise ValueError(
                f"the gradient of {name} is sparse, which {type(rule).__name__} in the expansion cannot use: make the "
                "table without sparse=True, or give the expansion SGD() or Sign()"
            )
        state = self._states.get(key) or rule.init([weight])[0]
        if state:
            self._states[key] = state
        rule.update([weight], [gradient], [state], lr, rule.hyperparameters())

    def _clip(self) -> None:
        if self.expansion.max_norm is not None and self._projected:
            gradients = list(self._projected.values())
            norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients]))
            for gradient in gradients:
                gradient.mul_((self.expansion.max_norm / (norm + 1e-6)).clamp(max=1.0))

    def _basis(self, place: int) -> Tensor:
        """P of one part, the same whenever it is asked for in a visit, so that it need not be saved."""
        if place not in self._bases:
            parameter, rank = self.moving[place].part.parameter, self.expansion.rank
            seed = (self.expansion.seed * 1_000_003 + self._visit) * 1_000_003 + place
            generator = torch.Generator().manual_seed(seed % 2**63)
            normal = torch.randn(parameter.shape[0], rank or 0, generator=generator)
            self._bases[place] = torch.linalg.qr(normal)[0].to(parameter.device)
        return self._bases[place]
