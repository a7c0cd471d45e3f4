"""Packages of other methods, which are measured beside ours when they are installed."""

from importlib import import_module
from types import ModuleType

from experiments.errors import UserError


def package(name: str, distribution: str) -> ModuleType:
    """The imported module `name`. Raises UserError, naming the distribution to install, when it is not there."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise UserError(
            f"the package {distribution} is needed ({error}); `pip install --no-deps {distribution}`"
        ) from None
