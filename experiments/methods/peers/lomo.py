"""LOMO (arXiv 2306.09782) and AdaLomo (arXiv 2310.10195) by the authors' package: all weights move inside backward."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from bcd import Part
from bcd.memory import FLOAT32_BYTES, Held, nbytes
from bcd.rules.rule import require
from experiments.errors import UserError
from experiments.methods.interface import Foreign, Trainable
from experiments.methods.peers.optional import NoStep, package


@dataclass(frozen=True)
class LomoMethod:
    """lomo_optim.Lomo or AdaLomo on every parameter; no gradient outlives the hook that made it.

    optimizer: "Lomo" (no state) or "AdaLomo" (a row and a column of second moments for each matrix; needs CUDA).
    lr: step size of `fused_backward`.

    Raises ValueError for an impossible lr or optimizer.
    """

    optimizer: Literal["Lomo", "AdaLomo"]
    lr: float

    def __post_init__(self) -> None:
        require("lr", self.lr, least=0.0)
        if self.optimizer not in ("Lomo", "AdaLomo"):
            raise ValueError(f"optimizer={self.optimizer!r} is not one of Lomo, AdaLomo")

    def __call__(self, model: Any) -> Trainable:
        named = list(model.named_parameters())
        for _, parameter in named:
            parameter.requires_grad_(True)
        visits = [[Part(name, p) for name, p in named]]
        parameters = [parameter for _, parameter in named]
        state = 0
        if self.optimizer == "AdaLomo":
            state = sum(FLOAT32_BYTES * sum(p.shape) for p in parameters)
        held = Held(nbytes(parameters), 0, 0, state, 0)
        foreign = Foreign(lambda index: held, lambda index: 0, lambda: (0, state), self._consumed)
        if parameters[0].is_meta:  # for a prediction: its hooks would look for real gradients
            return Trainable(model, NoStep(model), visits, 0, False, foreign=foreign)
        if self.optimizer == "AdaLomo" and not torch.cuda.is_available():
            raise UserError("optimizer=AdaLomo needs a CUDA device, where the package puts its state")
        made = getattr(package("lomo_optim", "lomo-optim==0.1.1"), self.optimizer)(model, lr=self.lr)

        def backward(loss: Tensor) -> None:
            made.fused_backward(loss, self.lr)

        return Trainable(model, NoStep(model), visits, 0, False, backward=backward, foreign=foreign)

    def _consumed(self, parameter: Tensor) -> None:
        """The package's float32 copies: of gradient and weight, for AdaLomo also of the update and its square."""
        gradient = parameter.grad
        assert gradient is not None
        copies = [gradient.float(), parameter.detach().float()]
        parameter.grad = None
        if self.optimizer == "AdaLomo":
            copies += [copies[0] * copies[0]]
        del copies
