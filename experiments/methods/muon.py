"""Muon on the matrices of the layers, and AdamW on everything else, both by torch.optim."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from bcd.memory import nbytes
from bcd.rules.rule import require
from experiments.methods.interface import Trainable
from experiments.methods.library import adam_bytes, layer_matrices, library_trainable


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
class MuonMethod:
    """Muon for the matrices inside the layers; embedding, norms, biases and head move by another optimizer.

    matrices: ``matrices(parameters, lr=...)``, a partial of torch.optim.Muon. With its adjust_lr_fn "match_rms_adamw"
        an update has the size of AdamW's (arXiv 2502.16982), so that one learning rate serves both.
    others: the same for the rest, a partial of torch.optim.AdamW.     lr: learning rate of both.

    Raises ValueError for an impossible lr, and when the model has no layers.
    """

    matrices: Callable[..., Optimizer]
    others: Callable[..., Optimizer]
    lr: float

    def __post_init__(self) -> None:
        require("lr", self.lr, least=0.0)

    def __call__(self, model: Any) -> Trainable:
        inside, outside = layer_matrices(model)
        optimizer = Together(self.matrices(inside, lr=self.lr), self.others(outside, lr=self.lr))
        chosen = {id(p) for p in inside}

        def state(parameter: Tensor) -> int:
            return nbytes([parameter]) if id(parameter) in chosen else adam_bytes(parameter, counter=True)

        def temporary(parameters: Any) -> int:
            # The bfloat16 iterate of the largest matrix and its successor, and three small square ones.
            return max(2 * (2 * p.numel() + 3 * min(p.shape) ** 2) + nbytes([p]) for p in inside)

        return library_trainable(model, optimizer, state, temporary=temporary)
