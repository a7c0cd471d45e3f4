"""The reference implementation of BAdam, PyPI badam 1.4, as its readme uses it."""

import contextlib
import io
import warnings
from dataclasses import dataclass
from typing import Any

import torch

from bcd import Part, by_layer
from bcd.memory import FLOAT32_BYTES, Held, nbytes
from bcd.rules.rule import require
from experiments.methods.interface import Foreign, Trainable
from experiments.methods.peers.optional import NoStep, package

NEVER = 10**9


@dataclass(frozen=True)
class BadamPackage:
    """badam.BlockOptimizer around torch.optim.AdamW: one layer at a time, in float32 copies of its weights.

    lr: of AdamW.     A visit lasts until `Trainable.start_visit` begins the next one.

    Raises ValueError for an impossible lr.
    """

    lr: float

    def __post_init__(self) -> None:
        require("lr", self.lr, least=0.0)

    def __call__(self, model: Any) -> Trainable:
        layers = by_layer(model, embedding="freeze", final_norm="freeze", head="freeze")
        named = list(model.named_parameters())
        for _, parameter in named:
            parameter.requires_grad_(True)
        visits = [[Part(name, p) for name, p in block.parameters.items()] for block in layers.blocks]
        sizes = [sum(part.numel for part in visit) for visit in visits]
        parameters = [parameter for _, parameter in named]

        def held(index: int) -> Held:
            copies = FLOAT32_BYTES * sizes[index]
            return Held(nbytes(parameters), copies, nbytes(part.parameter for part in visits[index]), 2 * copies, 0)

        def update(index: int) -> int:
            """Float32 gradients in place of the others, and the root of all second moments at once."""
            return 2 * FLOAT32_BYTES * sizes[index] - nbytes(part.parameter for part in visits[index])

        if parameters[0].is_meta:
            foreign = Foreign(held, update, lambda: (0, 0))
            return Trainable(model, NoStep(model), visits, 2, True, foreign=foreign)
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

        def live() -> tuple[int, int]:
            state = [value for values in optimizer.base_optimizer.state.values() for value in values.values()]
            return nbytes(optimizer.param_idx2hp.values()), nbytes(state)

        foreign = Foreign(held, update, live)
        return Trainable(model, optimizer, visits, 2, True, start_visit=start_visit, foreign=foreign)
