"""What a rule is, and the check of kernels that rules share."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from bcd.checks import require_flag, require_number

require = require_number  # by this name experiments/methods import it

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
        """Fresh state, one dict per parameter, all zeros."""
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


@runtime_checkable
class Elementwise(Rule, Protocol):
    """A rule that moves every element by itself, written as a formula that torch.compile can turn into one kernel.

    Attributes:
        state_names: names of the state tensors of the parameter's size, in the order that `formula` takes them.
    """

    state_names: tuple[str, ...]

    def coefficients(self, lr: float, hyperparameters: Mapping[str, Any], step: int) -> tuple[float, ...]:
        """The numbers of step `step` (from 1 since the state was made) that `formula` takes."""
        ...

    @staticmethod
    def formula(
        x: Tensor, g: Tensor, state: Sequence[Tensor], coefficients: Sequence[Tensor]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The new x and state; all of one dtype, coefficients of one element."""
        ...


Shape = Sequence[int]
StateShapes = Callable[[Shape], Mapping[str, Shape]]


class Tensorwise(Rule, Protocol):
    """A rule that moves every tensor by itself, but not every element: a step depends on other elements of the tensor.

    It has no formula, so it is not compiled, and no part of a tensor may stand for the whole: see `splits`. Its state
    has shapes of its own, in float32 (float64 for float64 weights), and `state_tensors` is 0.
    """

    def state_shapes(self, shape: Shape) -> Mapping[str, Shape]:
        """Names and shapes of the state of a tensor of this shape, without the step counter."""
        ...

    def splits(self, shape: Shape) -> bool:
        """Whether some rows of a tensor of this shape (of its first dimension) move alone as they do in the whole."""
        ...


def as_tensorwise(rule: Rule) -> Tensorwise | None:
    """The rule if it is tensorwise; its attributes say so and not its class, since it may be wrapped."""
    return rule if hasattr(rule, "state_shapes") else None  # pyright: ignore[reportReturnType]


def require_kernel(foreach: bool | None, fused: bool | None) -> None:
    """Raise ValueError unless at most one kernel variant is asked for."""
    require_flag("foreach", foreach, None)
    require_flag("fused", fused, None)
    if foreach and fused:
        raise ValueError("foreach=True with fused=True is not possible: they are two kernels; set one of them")


INSTEAD = {
    "amsgrad": "its maximum over all steps means little where state is fresh at every visit; use Adam as it is",
    "maximize": "minimise the negative loss",
}
"""Options of torch's optimizers that no rule here has, with what to do instead."""


def refuse_of_torch(**options: bool) -> None:
    """Raise ValueError for an option of torch's optimizers that is asked for and not there, see `INSTEAD`."""
    for name, value in options.items():
        require_flag(name, value)
        if value:
            raise ValueError(f"{name}=True is not possible: {INSTEAD[name]}")
