"""The learning rates that a tuning study chose: the rule, its record, and how other studies read it.

The rule: the lowest held-out loss after training, averaged over the seeds; ties go to the smaller learning rate. A run
that failed counts as an infinite loss: a learning rate at which a method diverges is not chosen.

Where the lowest loss is at the edge of the grid, the next half decade beyond it is tried too, until the choice lies
inside (`further`): every method gets the same grid and the same rule for going on.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from omegaconf import DictConfig, OmegaConf

from experiments import configuration
from experiments.errors import UserError
from experiments.training.planning import RATE_OF
from records import COMMITTED, Record, read

RATE = "method.lr"
FOLDER = "tuned"
"""Study that the choices are recorded under, each by the name of its tuning study."""
COMMON = ("model", "data")  # choices that a learning rate is tuned for, whether or not the study has them as axes
EXTEND = 4
"""How many learning rates a tuning study adds to a grid whose edge is best, where it does not say `extend` itself."""

Losses = dict[float, list[float | None]]
"""Learning rate -> held-out loss of each seed, None for a run that failed."""


class NoRateError(UserError):
    """Every learning rate that was tried failed."""


@dataclass(frozen=True)
class Choice:
    """What was chosen for one cell of a tuning study: one value of every axis but the learning rate and the seed.

    Attributes:
        cell: axis -> value.
        rate: the learning rate.
        loss: its mean held-out loss.
        tried: learning rate and mean loss of each, ascending; None where a run failed.
        at_edge: whether it is the smallest or the largest that was tried, so that a better one may lie outside.
    """

    cell: dict[str, Any]
    rate: float
    loss: float
    tried: list[tuple[float, float | None]]
    at_edge: bool


def cell_of(axes: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """The cell of a run, as items: the value of every axis but the learning rate and the seed."""
    return tuple((key, value) for key, value in axes.items() if key not in (RATE, "seed"))


def by_cell(runs: Iterable[tuple[Mapping[str, Any], float | None]]) -> dict[tuple[tuple[str, Any], ...], Losses]:
    """Cell, as items without learning rate and seed -> its losses.

    Args:
        runs: the value of every axis, and the held-out loss of the run.
    """
    losses: dict[tuple[tuple[str, Any], ...], Losses] = {}
    for axes, loss in runs:
        losses.setdefault(cell_of(axes), {}).setdefault(float(axes[RATE]), []).append(loss)
    return losses


def further(losses: Mapping[float, Sequence[float | None]]) -> float | None:
    """The next learning rate to try for one cell: half a decade beyond the edge that is best; None for one inside.

    Where every one failed, it is the next smaller one.

    Args:
        losses: learning rate -> held-out loss of each seed, None for a run that failed.

    Raises:
        UserError: for a grid whose steps are not half decades, of which nobody knows how it goes on.

    >>> further({1e-3: [0.7], 3e-3: [0.6], 1e-2: [0.5]}), further({1e-3: [0.7], 3e-3: [0.6], 1e-2: [0.8]})
    (0.03, None)
    """
    require_half_decades(losses)
    rates = sorted(losses)
    try:
        choice = choose({}, losses)
    except NoRateError:
        return _neat(rates[1] / 10)
    if not choice.at_edge:
        return None
    return _neat(rates[1] / 10 if choice.rate == rates[0] else rates[-2] * 10)


def require_half_decades(rates: Iterable[float]) -> None:
    """Raise UserError for a grid of which nobody knows how it goes on beyond its edges."""
    rates = sorted(rates)
    if len(rates) < 2 or rates[0] <= 0 or not all(2.9 < b / a < 3.5 for a, b in itertools.pairwise(rates)):
        raise UserError(
            f"the learning rates {', '.join(map(str, rates))} are no grid of half decades, such as 0.001, 0.003, "
            "0.01, and so cannot be extended; give one, or the study extend: 0"
        )


def _neat(rate: float) -> float:
    return float(f"{rate:.6g}")


def choose(cell: Mapping[str, Any], losses: Mapping[float, Sequence[float | None]]) -> Choice:
    """Apply the rule.

    Args:
        cell: that the choice is for.
        losses: learning rate -> held-out loss of each seed, None for a run that failed.

    Raises:
        NoRateError: when no learning rate has finished runs only.

    >>> choose({"method": "sgd"}, {0.1: [2.0], 0.01: [2.0], 1.0: [None]}).rate
    0.01
    """
    means = {rate: fmean(math.inf if x is None else x for x in losses[rate]) for rate in sorted(losses)}
    rate = min(means, key=lambda rate: (means[rate], rate))
    if means[rate] == math.inf:
        raise NoRateError(f"every learning rate of {describe(cell)} has a failed run: {', '.join(map(str, means))}")
    tried = [(rate, None if loss == math.inf else loss) for rate, loss in means.items()]
    return Choice(dict(cell), rate, means[rate], tried, rate in (min(means), max(means)))


def require_equal_grids(losses: Mapping[tuple[tuple[str, Any], ...], Losses]) -> None:
    """Raise UserError unless as many learning rates are tried for every cell: more tries are an advantage.

    Args:
        losses: as `by_cell` gives them, before `further`.
    """
    sizes = {describe(dict(cell)): len(tried) for cell, tried in losses.items()}
    if len(set(sizes.values())) > 1:
        few, many = min(sizes, key=lambda cell: sizes[cell]), max(sizes, key=lambda cell: sizes[cell])
        raise UserError(
            f"{many} is tried at {sizes[many]} learning rates and {few} at {sizes[few]}: give both as many"
        )


def require_inside(choices: Sequence[Choice]) -> None:
    """Raise UserError where a choice is still at the edge of what was tried."""
    if edges := [f"{describe(choice.cell)} at {RATE}={choice.rate:g}" for choice in choices if choice.at_edge]:
        raise UserError(
            f"the best learning rate is at the edge of what was tried, also after the grid was extended: "
            f"{'; '.join(edges)}. Let the study extend: more, or give it another grid"
        )


def describe(cell: Mapping[str, Any]) -> str:
    """The cell in the words of the command line."""
    return " ".join(f"{key}={value}" for key, value in cell.items())


def to_json(choices: Sequence[Choice]) -> list[dict[str, Any]]:
    """The choices as they stand in a record."""
    return [asdict(choice) | {"tried": [list(pair) for pair in choice.tried]} for choice in choices]


def rate(studies: str | Sequence[str], config: DictConfig, chosen: Mapping[str, str]) -> float:
    """The learning rate that one of the tuning studies chose for the run with this configuration and these choices.

    Args:
        studies: a name, or names of which the first that tuned for this model, data and method counts.
        config: of the run; one with ``rate_of: NAME`` takes the learning rate of that method.
        chosen: the run's choices, config group -> name.

    Raises:
        UserError: when nothing is recorded, for another model or data, or not for this method.
        NoRateError: when every learning rate of the method failed.
    """
    names = [studies] if isinstance(studies, str) else list(studies)
    method = config.get(RATE_OF) or chosen.get("method")
    choices = {**chosen, "method": method}
    errors, without_rate = [], []
    for name in names:
        try:
            rates = _rates(name, config, choices)
        except NoRateError as error:
            without_rate.append(str(error))
            continue
        if isinstance(rates, str):
            errors.append(rates)
        elif len(rates) == 1:
            return rates[0]
        else:
            errors.append(
                f"study={name} has {len(rates)} learning rates for method={method} with these values, and one is "
                f"needed; add what is missing to conf/study/{name}.yaml, then {_commands(name)}"
            )
    raise NoRateError("; ".join(without_rate)) if without_rate else UserError("; ".join(errors))


def _rates(name: str, config: DictConfig, choices: Mapping[str, str | None]) -> list[float] | str:
    """The learning rates that the study has for this run, or why it can have none.

    Raises:
        NoRateError: when every learning rate of the method failed.
    """
    record = recorded(name, configuration.folder(config))
    if record is None:
        return f"the learning rates of study={name} are not recorded; {_commands(name)} find and record them"
    for key in COMMON:
        if (tuned_for := record.config.get(key)) is not None and tuned_for != choices.get(key):
            return (
                f"study={name} tuned for {key}={tuned_for}, and this run has {key}={choices.get(key)}; tune for it "
                "in a study of its own"
            )

    def fits(cell: Mapping[str, Any]) -> bool:
        return all((choices.get(key) or OmegaConf.select(config, key)) == value for key, value in cell.items())

    if failed := [cell for cell in record.measurements.get("failed", []) if fits(cell)]:
        raise NoRateError(f"every learning rate of {describe(failed[0])} failed in study={name}")
    return [choice["rate"] for choice in record.measurements["choices"] if fits(choice["cell"])]


def _commands(name: str) -> str:
    return f"`python -m experiments.train study={name}` and then `python -m experiments.tuning study={name}`"


def recorded(name: str, folder: Path) -> Record | None:
    """The recorded choice of the tuning study: this clone's own, else the committed one, else None."""
    return read(FOLDER, name, folder) or read(FOLDER, name, COMMITTED)
