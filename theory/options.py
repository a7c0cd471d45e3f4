"""The options of theory.verify that are no part of a bound or a family, and what is asked of all values."""

import math
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, ListConfig

from bcd.checks import refuse, require_choice, require_flag, require_whole


def require_options(config: DictConfig) -> None:
    """Raise ValueError unless every option that is no part of a bound or a family is possible."""
    require_choice("tier", config.tier, tuple(config.tiers))
    for name in ("cases", "workers"):
        require_whole(name, config[name], least=1, or_none=True)
    require_flag("force", config.force)
    if not (isinstance(config.records_dir, str) and config.records_dir):
        refuse("records_dir", config.records_dir, "it must be a folder")
    for name in ("bounds", "problems"):
        if config[name] is not None and not (isinstance(config[name], ListConfig) and len(config[name])):
            refuse(name, config[name], f"it must be a list of names, such as {name}=[quadratic], or null for all")


def share_of(
    values: Mapping[str, Any], problem: str, *, running: int, every: int, named: Mapping[str, str]
) -> int | None:
    """How many instances a family gets of the cases of a bound; None for all.

    The tier's number is divided by all families of the bound, so that a family has the same record alone as in the
    whole sweep, and gets at least what the bound wants for it. A number of the command line is meant as it stands: it
    is divided by the families that run.

    Args:
        values: resolved.
        running: how many families run.
        every: how many the bound has.
        named: the overrides.
    """
    given = {name.lstrip("+") for name in named}
    if values["cases"] is None:
        return None
    least = values["bound"].get("least", {}).get(problem, 0)
    if "cases" not in given:
        return max(math.ceil(values["cases"] / every), least)
    asked = least if any(name.startswith("bound.least") for name in given) else 0
    return max(math.ceil(values["cases"] / running), asked)


def require_finite(name: str, value: Any) -> None:
    """Raise ValueError unless every number in a tree of mappings and lists is finite: a record cannot hold others.

    >>> require_finite("problem", {"sizes": [1.0, float("inf")]})
    Traceback (most recent call last):
    ValueError: problem.sizes=inf is not possible: it must be finite
    """
    if isinstance(value, float) and not math.isfinite(value):
        refuse(name, value, "it must be finite")
    if isinstance(value, Mapping):
        for key, item in value.items():
            require_finite(f"{name}.{key}", item)
    if isinstance(value, list | tuple):
        for item in value:
            require_finite(name, item)
