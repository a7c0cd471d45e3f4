"""LOMO (arXiv 2306.09782) and AdaLomo (arXiv 2310.10195) by the authors' package: all weights move inside backward."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from bcd.memory import FLOAT32_BYTES, Held
from bcd.rules.rule import require
from experiments.errors import UserError
from experiments.methods.footprint import WholeFootprint, trained
from experiments.methods.interface import Method, Trainable
from experiments.methods.peers.optional import NoStep, package


@dataclass(frozen=True)
class LomoMethod(Method):
    """lomo_optim.Lomo or AdaLomo on every parameter; no gradient outlives the hook that made it.

    Args:
        optimizer: "Lomo" (no state) or "AdaLomo" (a row and a column of second moments for each matrix; needs CUDA).
        lr: step size of `fused_backward`.

    Raises:
        ValueError: for an impossible lr or optimizer.
    """

    optimizer: Literal["Lomo", "AdaLomo"]
    lr: float

    def __post_init__(self) -> None:
        require("lr", self.lr, least=0.0)
        if self.optimizer not in ("Lomo", "AdaLomo"):
            raise ValueError(f"optimizer={self.optimizer!r} is not one of Lomo, AdaLomo")

    def __call__(self, model: Any) -> Trainable:
        model.requires_grad_(True)
        visits = [trained(model)]
        if visits[0][0].parameter.is_meta:  # for a prediction: its hooks would look for real gradients
            optimizer = NoStep(model)
            return Trainable(model, optimizer, visits, LomoFootprint(model, optimizer, self.optimizer))
        if self.optimizer == "AdaLomo" and not torch.cuda.is_available():
            raise UserError("optimizer=AdaLomo needs a CUDA device, where the package puts its state")
        lomo = getattr(package("lomo_optim", "lomo-optim==0.1.1"), self.optimizer)(model, lr=self.lr)
        optimizer = NoStep(model)

        def backward(loss: Tensor) -> None:
            lomo.fused_backward(loss, self.lr)

        footprint = LomoFootprint(model, optimizer, self.optimizer)
        return Trainable(model, optimizer, visits, footprint, backward=backward)


class LomoFootprint(WholeFootprint):
    """Of the package, told by formulas, because predictions need no package.

    Args:
        model: the model that it trains.
        optimizer: `NoStep`; the package's own moves the weights inside backward.
        kind: "Lomo" or "AdaLomo".
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, kind: str) -> None:
        super().__init__(model, optimizer)
        self._adaptive = kind == "AdaLomo"
        self.consumed = self._consumed

    def state(self) -> int:
        """A row and a column of second moments for each matrix of AdaLomo."""
        return FLOAT32_BYTES * sum(sum(p.shape) for p in self.parameters) if self._adaptive else 0

    def held(self, visit: int) -> Held:
        return replace(super().held(visit), gradients=0)

    def held_now(self) -> Held:
        return replace(super().held_now(), state=self.state())  # it lies inside the package's optimizer

    def _consumed(self, parameter: Tensor) -> None:
        """The package's float32 copies: of gradient and weight, for AdaLomo also of the update and its square."""
        gradient = parameter.grad
        assert gradient is not None
        copies = [gradient.float(), parameter.detach().float()]
        parameter.grad = None
        if self._adaptive:
            copies += [copies[0] * copies[0]]
        del copies
