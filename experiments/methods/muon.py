"""Muon on the matrices of the layers, and AdamW on everything else, both by torch.optim."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from bcd.rules.rule import require
from experiments.methods.interface import Method, Trainable
from experiments.methods.library import layer_matrices, library_trainable


class Together(Optimizer):
    """Several optimizers of different parameters as one: their groups in a row, one state, one step after another.

    Schedulers see every group. `state_dict` is that of one optimizer with all groups.
    """

    def __init__(self, *optimizers: Optimizer) -> None:
        self.optimizers = optimizers
        super().__init__([group for optimizer in optimizers for group in optimizer.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Let the optimizers work on the groups and the state of this one."""
        start = 0
        for optimizer in self.optimizers:
            end = start + len(optimizer.param_groups)
            optimizer.param_groups = self.param_groups[start:end]
            optimizer.state = self.state
            start = end

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._share()

    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step of each."""
        for optimizer in self.optimizers:
            optimizer.step()


@dataclass(frozen=True)
class MuonMethod(Method):
    """Muon for the matrices inside the layers; embedding, norms, biases and head move by another optimizer.

    Args:
        matrices: ``matrices(parameters, lr=...)``, a partial of torch.optim.Muon. With its adjust_lr_fn
            "match_rms_adamw" an update has the size of AdamW's (arXiv 2502.16982), so that one learning rate serves
            both.
        others: the same for the rest, a partial of torch.optim.AdamW.
        lr: learning rate of both.

    Raises:
        ValueError: for an impossible lr, and when the model has no layers.
    """

    matrices: Callable[..., Optimizer]
    others: Callable[..., Optimizer]
    lr: float

    def __post_init__(self) -> None:
        require("lr", self.lr, least=0.0)

    def __call__(self, model: Any) -> Trainable:
        def make(inside: list[Tensor], outside: list[Tensor]) -> Together:
            return Together(self.matrices(inside, lr=self.lr), self.others(outside, lr=self.lr))

        return library_trainable(model, make, *layer_matrices(model))
