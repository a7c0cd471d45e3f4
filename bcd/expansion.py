"""Landscape expansion: inactive blocks are moved cheaply in the backward pass of the active one.

After BREAD (Luo, Yu, Li, Li: Accelerating Block Coordinate Descent for LLM Finetuning via Landscape Expansion, NeurIPS
2025, openreview.net/forum?id=DBybUx7ARy): frozen blocks that are far from optimal misguide the active one, and their
gradients cost little once backward passes through them. `Expansion` is an option of `BlockCoordinateDescent` beside
partition, order and rule.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from bcd.blocks import Part, Partition
from bcd.checks import require_choice, require_number, require_whole
from bcd.orders import Order
from bcd.processes import is_sharded
from bcd.rules.rule import Rule, State
from bcd.rules.sgd import SGD

Reach = Literal["all", "above"]
"""Which inactive blocks move: all, or those after the lowest active one in the partition, which backward passes anyway
where blocks are in the order of the network."""
When = Literal["step", "backward"]
"""When they move: in the optimizer's step, or inside backward, where each gradient is freed as soon as it is used."""


@dataclass(frozen=True)
class Expansion:
    """What an inactive block does while another one is active.

        rank=None   x <- rule(x, g, ratio lr)                              a rule without state, SGD's or sign
        rank=r      R <- rule(R, P'g, ratio lr),  x <- x + P (R - R_old)   P: (rows, r), orthonormal columns

    The second is training a low-rank factor R of x + P R, started at zero at each visit, with P random and fixed for
    the visit; only matrices with more than r rows move, and weight decay does nothing. Its gradient P'g, r x columns
    float32 numbers, is summed over the backward passes of a step while g itself is freed, so gradient accumulation is
    exact and costs little memory; P takes rows x r numbers more.

    Not to be used with a GradScaler where gradients are consumed in backward (rank, or when="backward"): they would
    still be scaled.

    Attributes:
        rule: SGD() by default; with rank any rule of bcd, for example Adam().
        ratio: step size, as a multiple of the block's own learning rate, so that schedules act on both.
        rank: r >= 1, None for the whole gradient.
        reach: see `Reach`.
        when: see `When`. With "step", whole gradients of all moving blocks exist until the step, as in full training;
            clipping all parameters together then counts them. With "backward" they do not, and neither clipping nor
            gradient accumulation is possible: a second backward before the step raises RuntimeError. Ignored with
            rank.
        max_norm: with rank, the global norm to which the projected gradients P'g are clipped together; None for none.
        seed: of P.

    Raises:
        ValueError: for an impossible value, or a rule with state where there is no rank.
    """

    rule: Rule = field(default_factory=SGD)
    ratio: float = 1.0
    rank: int | None = None
    reach: Reach = "all"
    when: When = "step"
    max_norm: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        require_number("ratio", self.ratio, least=0.0)
        require_whole("rank", self.rank, least=1, or_none=True)
        require_choice("reach", self.reach, get_args(Reach))
        require_choice("when", self.when, get_args(When))
        if self.rank is None and (self.rule.state_tensors or self.rule.counts_steps):
            raise ValueError(f"rule={self.rule!r} would keep state for inactive weights; give a rank, SGD() or Sign()")
        if self.max_norm is not None:
            require_number("max_norm", self.max_norm, least=0.0)
            if self.rank is None:
                raise ValueError(
                    f"max_norm={self.max_norm!r} clips projected gradients, and there is no rank; "
                    "clip the parameters' own gradients instead"
                )

    def require_possible(self, order: Order, partition: Partition, nonfinite: str) -> None:
        """Raise ValueError unless the expansion goes with these options of the optimizer."""
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

    @property
    def consumes(self) -> bool:
        """Whether gradients are used up inside backward."""
        return self.rank is not None or self.when == "backward"


class Expanded:
    """The inactive parts of one visit, under an `Expansion`.

    Args:
        expansion: what they do.
        parts: what moves, with the index of its block.
        visit: number of the visit, which with the seed gives every P.
    """

    def __init__(self, expansion: Expansion, parts: Sequence[tuple[int, Part]], visit: int) -> None:
        self.expansion = expansion
        rank = expansion.rank
        self.parts = [
            (index, part)
            for index, part in parts
            if rank is None or (part.parameter.ndim == 2 and part.parameter.shape[0] > rank)
        ]
        self._of = {part.parameter: place for place, (_, part) in enumerate(self.parts)}
        self._visit = visit
        self._projected: dict[int, Tensor] = {}
        self._bases: dict[int, Tensor] = {}
        self._moved: set[int] = set()
        self.states: dict[int, State] = {}

    def consume(self, parameter: Tensor, lrs: Sequence[float]) -> None:
        """Use up the gradient of `parameter` inside backward.

        Args:
            parameter: of any block.
            lrs: current step size of every block.
        """
        place = self._of.get(parameter)
        if place is None or parameter.grad is None:
            return
        index, part = self.parts[place]
        gradient, parameter.grad = parameter.grad, None
        if self.expansion.rank is None:
            if place in self._moved:
                raise RuntimeError(
                    f"a second backward before step() reached {part.name}, which has moved already; "
                    'gradient accumulation needs when="step" or a rank'
                )
            self._moved.add(place)
            self._apply([parameter.detach()], [gradient], [{}], lrs[index])
        else:
            projected = self._basis(place).T @ gradient.float()
            self._projected[place] = self._projected[place] + projected if place in self._projected else projected

    def step(self, lrs: Sequence[float]) -> None:
        """Move every part whose gradient of this step is still to be used."""
        if self.expansion.consumes:
            for _, part in self.parts:  # in a copied optimizer, whose parameters have lost their hooks
                self.consume(part.parameter, lrs)
        if self.expansion.rank is not None:
            self._clip()
            for place, gradient in self._projected.items():
                index, part = self.parts[place]
                factor = torch.zeros_like(gradient)
                state = self.states.setdefault(place, {})
                self._apply([factor], [gradient], [state], lrs[index])
                part.parameter.add_((self._basis(place) @ factor).to(part.parameter.dtype))
        elif self.expansion.when == "step":
            for index, part in self.parts:
                if (gradient := part.parameter.grad) is not None:
                    self._apply([part.of(part.parameter.detach())], [part.of(gradient)], [{}], lrs[index])
        self.drop_gradients()

    def drop_gradients(self) -> None:
        """Forget what backward left: after a step, and instead of a skipped one."""
        self._projected.clear()
        self._moved.clear()

    def gradients(self) -> list[tuple[str, Tensor]]:
        """What the coming step will use, by parameter name."""
        projected = [(self.parts[place][1].name, gradient) for place, gradient in self._projected.items()]
        return projected or [(part.name, g) for _, part in self.parts if (g := part.parameter.grad) is not None]

    def _apply(self, weights: list[Tensor], gradients: list[Tensor], states: list[State], lr: float) -> None:
        rule = self.expansion.rule
        for i, state in enumerate(states):
            if not state:
                state.update(rule.init([weights[i]])[0])
        rule.update(weights, gradients, states, self.expansion.ratio * lr, rule.hyperparameters())

    def _clip(self) -> None:
        if self.expansion.max_norm is not None and self._projected:
            gradients = list(self._projected.values())
            norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients]))
            for gradient in gradients:
                gradient.mul_((self.expansion.max_norm / (norm + 1e-6)).clamp(max=1.0))

    def _basis(self, place: int) -> Tensor:
        """P of one part, the same whenever it is asked for in a visit, so that it need not be saved."""
        if place not in self._bases:
            parameter, rank = self.parts[place][1].parameter, self.expansion.rank
            seed = (self.expansion.seed * 1_000_003 + self._visit) * 1_000_003 + place
            generator = torch.Generator().manual_seed(seed % 2**63)
            normal = torch.randn(parameter.shape[0], rank or 0, generator=generator)
            self._bases[place] = torch.linalg.qr(normal)[0].to(parameter.device)
        return self._bases[place]

    def state_dict(self) -> dict[str, Any]:
        return {str(place): dict(state) for place, state in self.states.items()}

    def load_state_dict(self, states: Mapping[str, Any]) -> None:
        for place, state in states.items():
            device = self.parts[int(place)][1].parameter.device
            self.states[int(place)] = {n: v if n == "step" else v.to(device) for n, v in state.items()}
