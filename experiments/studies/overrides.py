"""Overrides of a command line: which of them change the runs of a study, which only say how to make them."""

from collections.abc import Sequence

from omegaconf import DictConfig, OmegaConf

from experiments.errors import UserError
from experiments.studies import study
from experiments.training import planning

WHICH = ("study=", "studies=")
PLACES = tuple(f"{name}=" for name in planning.PLACES)


def extra_overrides(overrides: Sequence[str]) -> list[str]:
    """Those of the overrides that change the runs of a study."""
    return [item for item in overrides if not item.lstrip("+~").startswith(("how.", *WHICH, *PLACES))]


def passed_on(overrides: Sequence[str]) -> list[str]:
    """Those of the overrides that say how to run and also hold for every run of a study."""
    return [item for item in overrides if item.lstrip("+~").startswith(("how.", *PLACES))]


def chosen_studies(config: DictConfig, controls: Sequence[str]) -> list[DictConfig]:
    """The study of study=NAME, or those of studies=[A,B]."""
    if not config.studies:
        return [config.study]
    if config.get("study"):
        raise UserError(f"study={config.study.name} and studies={config.studies} are two choices; give one of them")
    if not OmegaConf.is_list(config.studies):
        raise UserError(f"studies={config.studies} is not possible: give a list, for example studies=[methods,order]")
    return [study.compose([f"study={name}", *controls])[0].study for name in config.studies]
