"""What a rule is, and the checks that all rules share."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor

State = dict[str, Tensor]
"""State of one parameter, under the names of the torch.optim optimizer of the same rule."""


class Rule(Protocol):
    """The interface that `BlockCoordinateDescent` asks of a rule.

    A rule has no memory: `update` reads and writes the parameters and the state that it is given.
    """

    @property
    def state_tensors(self) -> int:
        """State tensors of the parameter's own size that one parameter needs (Adam 2, SGD 0)."""
        ...

    @property
    def counts_steps(self) -> bool:
        """Whether the state of a parameter holds a step counter besides these tensors."""
        ...

    def hyperparameters(self) -> dict[str, Any]:
        """Defaults of the hyperparameters that a parameter group may override (all but the learning rate)."""
        ...

    def init(self, parameters: Sequence[Tensor]) -> list[State]:
        """Fresh state, one dict per parameter."""
        ...

    def update(
        self,
        parameters: Sequence[Tensor],
        gradients: Sequence[Tensor],
        states: Sequence[State],
        lr: float | Tensor,
        hyperparameters: Mapping[str, Any],
    ) -> None:
        """One step in place on `parameters` and `states`; `gradients` are only read."""
        ...


def require(name: str, value: float, *, least: float, below: float = math.inf) -> None:
    """Raise ValueError unless `value` is a number in [least, below), finite if `below` is infinity."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < below:
        upper = "finite" if below == math.inf else f"below {below:g}"
        raise ValueError(f"{name}={value!r} is not possible: it must be a number, at least {least:g} and {upper}")
