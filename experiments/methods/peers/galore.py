"""GaLore (arXiv 2403.03507) by the authors' package galore-torch: Adam on low-rank projections of all gradients."""

import importlib.util
import sys
import types
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from bcd.memory import nbytes
from bcd.rules.rule import require
from experiments.errors import UserError
from experiments.methods.footprint import WholeFootprint, trained
from experiments.methods.interface import Method, Trainable
from experiments.methods.peers.optional import NoStep, package

NAME = "galore_torch"


@dataclass(frozen=True)
class GaLoreMethod(Method):
    """galore_torch.GaLoreAdamW on all weights, projected to `rank` for the matrices of attention and MLP.

    Args:
        lr: of the package.
        rank: of the package.
        update_proj_gap: of the package.
        scale: of the package.
        target_modules: parts of the names of the projected modules.
        svd: whether the first projection is computed from the gradient, as the package does every update_proj_gap
            steps (minutes at 8 billion weights). Without, it is a random orthonormal matrix of the same size: steps
            between two projections take the same time and memory, and the singular value decomposition is left out.

    Raises:
        ValueError: for an impossible lr or rank.
    """

    lr: float
    rank: int
    update_proj_gap: int
    scale: float
    target_modules: Sequence[str]
    svd: bool

    def __post_init__(self) -> None:
        require("lr", self.lr, least=0.0)
        require("rank", self.rank, least=1)

    def __call__(self, model: Any) -> Trainable:
        named = list(model.named_parameters())
        for _, parameter in named:
            parameter.requires_grad_(True)
        low = [p for name, p in named if p.ndim == 2 and any(target in name for target in self.target_modules)]
        if not low:
            raise UserError(f"target_modules={list(self.target_modules)} names no matrix of the model")
        chosen = {id(p) for p in low}
        if named[0][1].is_meta:
            optimizer = NoStep(model)
            return Trainable(model, optimizer, [trained(model)], GaLoreFootprint(model, optimizer, low, self.rank))
        _without_eight_bit()
        optimizers = package(f"{NAME}.adamw", "galore-torch==1.0")
        projection = {"rank": self.rank, "update_proj_gap": self.update_proj_gap, "scale": self.scale}
        groups = [
            {"params": [p for _, p in named if id(p) not in chosen]},
            {"params": low, "proj_type": "std", **projection},
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # it calls itself deprecated
            optimizer = optimizers.AdamW(groups, lr=self.lr)
        if not self.svd:
            projector = sys.modules[f"{NAME}.galore_projector"].GaLoreProjector
            for parameter in low:
                made = projector(self.rank, update_proj_gap=self.update_proj_gap, scale=self.scale, proj_type="std")
                made.ortho_matrix = random_projection(parameter, self.rank)
                optimizer.state[parameter] |= {"step": 1, "projector": made}
        return Trainable(model, optimizer, [trained(model)], GaLoreFootprint(model, optimizer, low, self.rank))


class GaLoreFootprint(WholeFootprint):
    """Of the package, told by formulas, because predictions need no package.

    Args:
        model: the model that it trains.
        optimizer: galore_torch.GaLoreAdamW; for a prediction any.
        low: the projected matrices.
        rank: of the projection, at most the smaller side.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, low: Sequence[Tensor], rank: int) -> None:
        super().__init__(model, optimizer)
        self._low, self._rank = {id(p) for p in low}, rank

    def state(self) -> int:
        return sum(self._state_of(part.parameter) for part in self.trained)

    def _state_of(self, parameter: Tensor) -> int:
        if id(parameter) not in self._low:
            return 2 * nbytes([parameter])
        short, long = sorted(parameter.shape)
        # two moments of the projection, and its basis
        return parameter.element_size() * min(self._rank, short) * (2 * long + short)

    def update(self, visit: int) -> int:
        """The root of the second moment and the move, of one parameter at a time."""
        return 2 * max(nbytes([part.parameter]) for part in self.trained)

    def further_state(self) -> list[Tensor]:
        """The bases, which lie in the projectors."""
        entries = [value for state in self.optimizer.state.values() for value in state.values()]
        return [entry.ortho_matrix for entry in entries if hasattr(entry, "ortho_matrix")]


def random_projection(parameter: Tensor, rank: int) -> Tensor:
    """Orthonormal rows (columns for a wide matrix) of the shape that the package's projector has for `parameter`."""
    rows, columns = parameter.shape
    short = min(rows, columns)
    generator = torch.Generator(parameter.device).manual_seed(0)
    normal = torch.randn(short, min(rank, short), generator=generator, device=parameter.device)
    basis = torch.linalg.qr(normal).Q.to(parameter.dtype)
    return basis.t().contiguous() if rows >= columns else basis


def _without_eight_bit() -> None:
    """Make `galore_torch` importable without bitsandbytes, which only its 8-bit optimizer needs.

    The package's __init__ imports all its optimizers; its folder without that file has the same modules.
    """
    if NAME in sys.modules or importlib.util.find_spec("bitsandbytes") is not None:
        return
    spec = importlib.util.find_spec(NAME)
    if spec is None or spec.origin is None:
        raise UserError("the package galore-torch==1.0 is needed; `pip install --no-deps galore-torch==1.0`")
    bare = types.ModuleType(NAME)
    bare.__path__ = [str(Path(spec.origin).parent)]
    sys.modules[NAME] = bare
