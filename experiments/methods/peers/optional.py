"""Packages of other methods, which are measured beside ours when they are installed."""

from importlib import import_module
from types import ModuleType
from typing import Any

import torch

from experiments.errors import UserError


def package(name: str, distribution: str) -> ModuleType:
    """The imported module `name`.

    Args:
        name: of the module.
        distribution: what to install for it, with its version.

    Raises:
        UserError: naming the distribution, when the module is not there.
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise UserError(
            f"the package {distribution} is needed ({error}); `pip install --no-deps {distribution}`"
        ) from None


class NoStep(torch.optim.Optimizer):
    """Moves nothing: where backward has moved the weights, and for predictions, which need no package."""

    def __init__(self, model: Any) -> None:
        super().__init__(model.parameters(), {})

    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Nothing."""
