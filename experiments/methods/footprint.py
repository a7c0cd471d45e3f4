"""The bytes of a method: predicted from shapes, and measured on the live tensors."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from bcd import Part
from bcd.memory import Bytes, Held, held, measured, nbytes


class Footprint(Protocol):
    """What a method holds in memory. Its visits are counted from 0.

    Predictions touch no memory, so that the model may be on the meta device.

    Attributes:
        consumed: what backward does with a parameter of `used_up` as soon as its gradient is complete, for
            predictions, which run it on fake tensors; None: the gradient is dropped.
    """

    consumed: Callable[[Tensor], None] | None = None

    def held(self, visit: int) -> Held:
        """Predicted bytes during a visit, once its first backward and step are done.

        Gradients are those that exist together, also where backward uses them up.
        """
        ...

    def update(self, visit: int) -> int:
        """Predicted bytes that the update of the weights takes and gives back, on a GPU."""
        ...

    def scratch(self, visit: int) -> int:
        """Predicted bytes of the buffers that a visit keeps from its first step on, on a GPU."""
        return 0

    def differentiated(self, visit: int) -> list[Tensor]:
        """The parameters that backward computes a gradient of during a visit."""
        ...

    def used_up(self, visit: int) -> list[Tensor]:
        """The parameters whose gradients backward uses up during a visit; those of the others stay until the step."""
        return []

    def held_now(self) -> Held:
        """Measured bytes of the live tensors, in the categories of `held`."""
        ...

    def measured(self) -> Bytes:
        """Measured bytes of weights, gradients and everything that the optimizer keeps; cheap enough for every step.

        Gradients are those that existed together, also where backward has used them up.
        """
        ...


class WholeFootprint(Footprint):
    """Of a method that has one visit, in which all parameters that require a gradient move at every step.

    Args:
        model: the model that it trains.
        optimizer: what moves it.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer) -> None:
        self.parameters = list(model.parameters())  # collecting them takes milliseconds, and steps are measured
        self.trained = trained(model)
        self.optimizer = optimizer

    def state(self) -> int:
        """Predicted bytes of the optimizer's state."""
        return nbytes(self.further_state())

    def further_state(self) -> Iterable[Tensor]:
        """The tensors that the optimizer keeps and that are not in its state."""
        return ()

    def held(self, visit: int) -> Held:
        return replace(held(self.parameters, self.trained, state_tensors=0, counts_steps=False), state=self.state())

    def update(self, visit: int) -> int:
        return 0

    def differentiated(self, visit: int) -> list[Tensor]:
        return [part.parameter for part in self.trained]

    def held_now(self) -> Held:
        now = self._now()
        return Held(now.weights, 0, now.gradients, now.state, host=nbytes(self.parameters) - now.weights)

    def measured(self) -> Bytes:
        return self._now()

    def _now(self) -> Bytes:
        now = measured(self.parameters, self.optimizer)
        return replace(now, state=now.state + nbytes(self.further_state()))


def trained(model: nn.Module) -> list[Part]:
    """The parameters of `model` that require a gradient, whole."""
    return [Part(name, p) for name, p in model.named_parameters() if p.requires_grad]
