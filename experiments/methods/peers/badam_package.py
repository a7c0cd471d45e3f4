"""The reference implementation of BAdam, PyPI badam 1.4, as its readme uses it."""

import contextlib
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from bcd import Part, by_layer
from bcd.memory import FLOAT32_BYTES, STEP_BYTES, Bytes, Held, held, measured, nbytes
from bcd.rules.rule import require
from experiments.methods.footprint import Footprint
from experiments.methods.interface import Method, Trainable
from experiments.methods.peers.optional import NoStep, package

NEVER = 10**9


@dataclass(frozen=True)
class BadamPackage(Method):
    """badam.BlockOptimizer around torch.optim.AdamW: one layer at a time, in float32 copies of its weights.

    A visit lasts until `Trainable.start_visit` begins the next one.

    Args:
        lr: of AdamW.

    Raises:
        ValueError: for an impossible lr.
    """

    lr: float

    def __post_init__(self) -> None:
        require("lr", self.lr, least=0.0)

    def __call__(self, model: Any) -> Trainable:
        layers = by_layer(model, embedding="freeze", final_norm="freeze", head="freeze")
        named = list(model.named_parameters())
        for _, parameter in named:
            parameter.requires_grad_(True)
        visits = [block.parts for block in layers.blocks]
        if named[0][1].is_meta:
            optimizer = NoStep(model)
            return Trainable(model, optimizer, visits, BadamFootprint(model, optimizer, visits))
        badam = package("badam", "badam==1.4")
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # it warns of every float32 weight, and prints every switch
            optimizer = badam.BlockOptimizer(
                base_optimizer=torch.optim.AdamW([parameter for _, parameter in named], lr=self.lr),
                named_parameters_list=named,
                switch_block_every=NEVER,
                start_block=0,
                switch_mode="ascending",
                verbose=0,
            )

        def start_visit(index: int) -> None:
            optimizer.current_block_idx = index
            with contextlib.redirect_stdout(io.StringIO()):
                optimizer.switch_trainable_params()

        footprint = BadamFootprint(model, optimizer, visits)
        return Trainable(model, optimizer, visits, footprint, start_visit=start_visit)


class BadamFootprint(Footprint):
    """Of the package: float32 copies of the active weights, of which AdamW keeps the state.

    The copies are told here and not found out, because predictions need no package.

    Args:
        model: the model that it trains.
        optimizer: badam.BlockOptimizer; for a prediction any.
        visits: the parts of each layer.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, visits: Sequence[Sequence[Part]]) -> None:
        self.parameters = list(model.parameters())
        self.optimizer, self.visits = optimizer, visits

    def held(self, visit: int) -> Held:
        now = held(self.parameters, self.visits[visit], state_tensors=0, counts_steps=False)
        copies = self._copies(visit)
        return replace(now, master=copies, state=2 * copies + STEP_BYTES * len(self.visits[visit]))

    def update(self, visit: int) -> int:
        """Float32 gradients in place of the others, and the root of all second moments at once."""
        return 2 * self._copies(visit) - nbytes(self.differentiated(visit))

    def differentiated(self, visit: int) -> list[Tensor]:
        return [part.parameter for part in self.visits[visit]]

    def held_now(self) -> Held:
        optimizer: Any = self.optimizer
        now = measured(self.parameters, optimizer.base_optimizer)
        host = nbytes(self.parameters) - now.weights
        return Held(now.weights, nbytes(optimizer.param_idx2hp.values()), now.gradients, now.state, host)

    def measured(self) -> Bytes:
        now = self.held_now()
        return Bytes(now.weights, now.gradients, now.master + now.state)

    def _copies(self, visit: int) -> int:
        return FLOAT32_BYTES * sum(part.numel for part in self.visits[visit])
