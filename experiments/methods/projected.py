"""GaLore (arXiv 2403.03507) and APOLLO (arXiv 2412.05270): Adam on low-rank projections of the gradients.

Both by the library pytorch-optimizer. The bases live in the optimizer's state as tensors, so that they are counted
and saved; random ones are drawn by a generator of their own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pytorch_optimizer.optimizer.utils.galore import GaLoreProjector
from torch import Tensor
from torch.optim import Optimizer

from bcd.rules.rule import require
from experiments.methods.interface import Method, Trainable
from experiments.methods.library import layer_matrices, library_trainable


class Projector(GaLoreProjector):
    """The library's projector of one matrix, with what it remembers in the state of the matrix.

        G (m, n), m >= n:  G Q', Q (r, n)          m < n:  Q' G, Q (m, r)

    Args:
        state: of the optimizer for this matrix; gets `ortho_matrix` and `last_svd_step`.
        seed: of random bases; the step at which one is drawn is part of its seed, so nothing else need be saved.
        scaled: the update is the whole gradient, each row (of a wide matrix: each column) scaled as its projection
            was (APOLLO), and not the update of the projection mapped back (GaLore).
        options: of the library's projector.
    """

    def __init__(self, state: dict[str, Any], seed: int, scaled: bool, **options: Any) -> None:
        self._state, self._seed, self._scaled = state, seed, scaled
        super().__init__(**options)

    @property
    def ortho_matrix(self) -> Any:
        """The basis, or None before the first gradient."""
        return self._state.get("ortho_matrix")

    @ortho_matrix.setter
    def ortho_matrix(self, value: Any) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        if value is not None:  # the library's constructor sets None, also where a checkpoint has brought a basis
            self._state["ortho_matrix"] = value

    @property
    def last_svd_step(self) -> Any:
        """The step at which the basis was made, -1 before."""
        return self._state.get("last_svd_step", -1)

    @last_svd_step.setter
    def last_svd_step(self, value: int) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        if value >= 0:
            self._state["last_svd_step"] = value

    def project(self, grad: Tensor, num_steps: int, *arguments: Any, **options: Any) -> Tensor:
        # The library draws from the global generator.
        draws = self.ortho_matrix is None or num_steps % self.update_proj_gap == 0
        with torch.random.fork_rng([grad.device] if grad.is_cuda else [], enabled=draws):
            if draws:
                torch.manual_seed(self._seed * 1_000_003 + num_steps)
            low = super().project(grad, num_steps, *arguments, **options)
        if self._scaled:
            self._gradients = grad, low
        return low

    def project_back(self, low_rank_grad: Tensor) -> Tensor:
        if not self._scaled:
            return super().project_back(low_rank_grad)
        whole, low = self._gradients
        del self._gradients
        # The update of each row of the projection is a multiple of the row; the same multiple of the whole gradient.
        along = 1 if whole.shape[0] >= whole.shape[1] else 0
        size = (low * low).sum(dim=along, keepdim=True, dtype=torch.float32)
        product = (low * low_rank_grad).sum(dim=along, keepdim=True, dtype=torch.float32)
        factor = product / size.clamp_min(torch.finfo(torch.float32).tiny)
        return whole * factor.to(whole.dtype)


def with_projectors(kind: Callable[..., Optimizer], groups: list[dict[str, Any]], seed: int, scaled: bool) -> Any:
    """The library's optimizer `kind` on `groups`, with a `Projector` for each matrix of a group that has a rank."""

    class Exact(kind):  # pyright: ignore[reportGeneralTypeIssues]
        """Saves bases instead of the objects that hold them."""

        def state_dict(self) -> dict[str, Any]:
            whole = super().state_dict()
            state = {key: {k: v for k, v in s.items() if k != "projector"} for key, s in whole["state"].items()}
            return whole | {"state": state}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            super().load_state_dict(state_dict)
            self.attach()

        def attach(self) -> None:
            names = ("update_proj_gap", "scale", "projection_type")
            for group in (group for group in self.param_groups if "rank" in group):
                for i, matrix in enumerate(group["params"]):
                    options = {name: group[name] for name in names} | {"rank": min(group["rank"], *matrix.shape)}
                    state = self.state[matrix]
                    state["projector"] = Projector(state, seed=seed * 10_007 + i, scaled=scaled, **options)

    optimizer = Exact(groups)
    optimizer.attach()
    return optimizer


@dataclass(frozen=True)
class ProjectedMethod(Method):
    """A low-rank optimizer of pytorch-optimizer for the matrices inside the layers, its plain Adam for the rest.

    The library's APOLLO maps the update of the projection back, as GaLore does; the published update is the scaled
    whole gradient, and `scaled` restores it. Its limiter of growing norms sees the norm of the projection.

    Args:
        optimizer: "GaLore" or "APOLLO".
        lr: learning rate.
        rank: of the projection, at most the smaller side.
        update_proj_gap: steps between two bases.
        scale: of the update (APOLLO: its square).
        scaled: what the update is, see `Projector`.
        seed: of APOLLO's random bases.
        options: further arguments of the optimizer.

    Raises:
        ValueError: for an impossible lr, rank, update_proj_gap or scale, and when the model has no layers.
    """

    optimizer: str
    lr: float
    rank: int
    update_proj_gap: int
    scale: float
    scaled: bool
    seed: int
    options: dict[str, Any]

    def __post_init__(self) -> None:
        require("lr", self.lr, least=0.0)
        require("rank", self.rank, least=1)
        require("update_proj_gap", self.update_proj_gap, least=1)
        require("scale", self.scale, least=0.0)

    def __call__(self, model: Any) -> Trainable:
        import pytorch_optimizer

        kind = getattr(pytorch_optimizer, self.optimizer)
        projection = {
            "rank": self.rank,
            "update_proj_gap": self.update_proj_gap,
            "scale": self.scale,
            "projection_type": "std",
        }

        def make(inside: list[Tensor], outside: list[Tensor]) -> Optimizer:
            groups: list[dict[str, Any]] = [{"params": inside, **projection}, {"params": outside}]
            groups = [group | {"lr": self.lr, "foreach": False, **self.options} for group in groups]
            return with_projectors(kind, groups, self.seed, self.scaled)

        return library_trainable(model, make, *layer_matrices(model))
