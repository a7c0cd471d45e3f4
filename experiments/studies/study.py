"""Studies: frozen lists of runs, as the product of axes."""

import sys
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict

from bcd.checks import require_whole
from experiments import configuration
from experiments.command import spelled_out
from experiments.data.splits import require_tuning
from experiments.errors import UserError
from experiments.studies import rates
from experiments.training import planning
from experiments.training.run import Run
from records import digest, file_name, require_name


def compose(overrides: Sequence[str]) -> tuple[DictConfig, dict[str, str]]:
    """The configuration of one run and its choices; call it inside hydra.main or hydra.initialize."""
    config = hydra.compose("train", overrides=spelled_out(overrides), return_hydra_config=True)
    choices = configuration.choices(config.hydra)
    with open_dict(config):
        del config["hydra"]
    return config, choices


class Composer:
    """Configurations of the runs of a study; hydra composes each choice of files once, values are set on copies.

    Args:
        fixed: overrides of all runs, before those of a run.
        extra: after them.
    """

    def __init__(self, fixed: Sequence[str], extra: Sequence[str]) -> None:
        self._fixed, self._extra = list(fixed), list(extra)
        self._composed: dict[tuple[str, ...], tuple[DictConfig, dict[str, str]]] = {}

    def __call__(self, cell: Mapping[str, Any]) -> tuple[DictConfig, dict[str, str]]:
        """What `compose` gives for the overrides fixed, cell, extra."""
        overrides = {key: as_overrides({key: value})[0] for key, value in cell.items()}
        # What comes later wins: a value that an extra override could change is left to hydra.
        roots = {item.lstrip("+~").partition("=")[0].partition(".")[0] for item in self._extra}
        values = [key for key in cell if not is_group(key) and key.partition(".")[0] not in roots]
        files = tuple(text for key, text in overrides.items() if key not in values)
        if files not in self._composed:
            self._composed[files] = compose([*self._fixed, *files, *self._extra])
        config, choices = self._composed[files]
        config = config.copy()
        for key in values:
            OmegaConf.update(config, key, cell[key], merge=True)
        return config, dict(choices)


@cache
def is_group(key: str) -> bool:
    """Whether the key chooses a file of conf/."""
    loader = GlobalHydra.instance().config_loader()
    return bool(loader.get_group_options(key))


def study_name(study: DictConfig, extra: Sequence[str]) -> str:
    """The study's name; overrides on the command line make it another study, so that a frozen one stays pure."""
    return f"{study.name}-{digest(list(extra))[:8]}" if extra else str(study.name)


def runs(
    study: DictConfig,
    extra: Sequence[str],
    controls: Sequence[str],
    shared: planning.Shared | None = None,
    *,
    dry: bool = False,
) -> list[Run]:
    """Every run of the study in order.

    An axis has a list of values, or the name of the configuration's key that has the list for the axes before it
    (`method.lr: learning_rates`: those of each method), or the values by those of an earlier axis
    (`method.inner_steps: {partition: {by_layer: 7, by_module: 3}}`), or of several, one in the other. With
    `tuned: NAME`, or a list of names, every run takes its method.lr from the choice that
    `python -m experiments.tuning study=NAME` recorded; a run whose method has none, because all that were tried
    failed, is left out and named.

    A tuning study (`tuning: true`) adds the next learning rate for every cell whose best one is at the edge of its
    grid, at most `extend` of them (default `rates.EXTEND`; 0 leaves the edge). They are listed once the runs before
    them have records.

    Args:
        study: its configuration, a file of conf/study.
        extra: overrides that change the runs.
        controls: overrides that only say how to run them.
        shared: for several studies that are planned together.
        dry: list also what cannot run yet: a learning rate that is not recorded is that of the method's configuration,
            and a model or data that are not there have the sizes that the configuration says.

    Raises:
        UserError: when an override names an axis of the study, when two runs would have the same name (and with it the
            same record), when a choice is needed that is not recorded, and when a study with ``tuning: true`` has a
            seed of reported runs, reads a test part, has cells whose grids differ in size, or is to extend a grid
            that is none of half decades.
    """
    for override in extra:
        if (key := override.lstrip("+~").partition("=")[0]) in study.axes:
            raise UserError(f"study={study.name} sweeps over {key} itself; drop {override}, or run without study=")
    if study.get("tuned") and rates.RATE in study.axes:
        raise UserError(f"study={study.name} sweeps over {rates.RATE}, which tuned={study.tuned} would set; drop one")
    require_name("the study's name", str(study.name))
    name = study_name(study, extra)
    composer = Composer(study.overrides, [*extra, *controls])
    shared = planning.Shared() if shared is None else shared
    names = set[str]()

    def planned(cell: Mapping[str, Any]) -> Run | None:
        if label(cell) in names:
            raise UserError(
                f"study={study.name} has two runs named {label(cell)}; values of an axis must differ in print"
            )
        names.add(label(cell))
        config, choices = composer(cell)
        rate_given = any(item.lstrip("+~").startswith(f"{rates.RATE}=") for item in extra)
        if study.get("tuned") and not rate_given:
            try:
                OmegaConf.update(config, rates.RATE, rates.rate(study.tuned, config, choices))
            except rates.NoRateError as error:
                print(f"{label(cell)}: left out, {error}", file=sys.stderr)
                return None
            except UserError:
                if not dry:
                    raise
        plan = planning.plan(config, choices, label(cell), shared, dry=dry)
        if study.get("tuning"):
            require_tuning(config.seed, test=plan.workload.data.test)
        run = Run(plan, name, cell)
        if not run.finished:
            _ = plan.expected  # a method that does not fit the model should be told before the first run starts
        return run

    given = cells(study, extra, composer)
    if study.get("tuning") and rates.RATE in study.axes:
        grids = rates.by_cell((cell, None) for cell in given)
        rates.require_equal_grids(grids)
        for grid in grids.values() if extend(study) else ():  # now, and not when all of it has run
            rates.require_half_decades(grid)
    listed = [run for cell in given if (run := planned(cell)) is not None]
    for _ in range(extend(study)):
        listed += [run for cell in beyond(listed) if (run := planned(cell)) is not None]
    return listed


def extend(study: DictConfig) -> int:
    """How many learning rates the study adds to a grid whose edge is best; 0 for one that tunes none."""
    if not study.get("tuning") or rates.RATE not in study.axes:
        return 0
    require_whole("extend", study.get("extend", rates.EXTEND), least=0)
    return study.get("extend", rates.EXTEND)


def beyond(listed: Sequence[Run]) -> list[dict[str, Any]]:
    """The next learning rate, of each seed, for every cell of a tuning study whose best one is at the edge.

    A cell of which a run is still to do has none.
    """
    by_cell: dict[tuple[tuple[str, Any], ...], list[Run]] = {}
    for run in listed:
        by_cell.setdefault(rates.cell_of(run.cell), []).append(run)
    new = []
    for runs_of_cell in by_cell.values():
        if any(run.state not in ("finished", "failed") for run in runs_of_cell):
            continue
        ((_, losses),) = rates.by_cell((run.cell, validation_loss(run)) for run in runs_of_cell).items()
        if (rate := rates.further(losses)) is not None:
            first = runs_of_cell[0].cell[rates.RATE]
            new += [dict(run.cell) | {rates.RATE: rate} for run in runs_of_cell if run.cell[rates.RATE] == first]
    return new


def validation_loss(run: Run) -> float | None:
    """Held-out loss after training; None for a run that failed."""
    assert run.record is not None
    return run.record.measurements["after"]["heldout_loss"] if run.state == "finished" else None


def cells(study: DictConfig, extra: Sequence[str], composer: Composer | None = None) -> list[dict[str, Any]]:
    """Every combination of the axes, the last axis fastest.

    Raises:
        UserError: for an axis without a list.
    """
    composer = composer or Composer(study.overrides, extra)
    combinations: list[dict[str, Any]] = [{}]
    for key, values in study.axes.items():
        combined = []
        for cell in combinations:
            axis_values = values
            if isinstance(values, str):
                axis_values = OmegaConf.select(composer(cell)[0], values)
            elif OmegaConf.is_dict(values):
                axis_values = _by_earlier_axis(study, str(key), cell)
            if not OmegaConf.is_list(axis_values):
                where = f" of {' '.join(as_overrides(cell))}" if cell else ""
                raise UserError(f"study={study.name} has the axis {key}: {values}, and {values}{where} is no list")
            combined += [cell | {str(key): value} for value in axis_values]
        combinations = combined
    return combinations


def label(cell: Mapping[str, Any]) -> str:
    """Name of the run, and of its record's file.

    >>> label({"method": "variant/badam_kept", "method.lr": 0.001, "outside_layers": {"head": "join"}})
    'badam_kept-lr0.001-head_join'
    """
    parts = []
    for key, value in cell.items():
        if isinstance(value, Mapping) or OmegaConf.is_dict(value):
            parts += [f"{name}_{choice}" for name, choice in value.items()]
        elif isinstance(value, str):
            parts.append(value.rpartition("/")[2])
        else:
            parts.append(f"{key.rpartition('.')[2]}{value}")
    return file_name("-".join(parts))


def _by_earlier_axis(study: DictConfig, key: str, cell: Mapping[str, Any]) -> Any:
    """The values of the axis `key` for the values that `cell` has on the axes that they are given by."""
    values, passed = study.axes[key], list[str]()
    while OmegaConf.is_dict(values) and (not passed or any(name in cell for name in values)):
        axis, table = next(((str(name), each) for name, each in values.items()), ("", None))
        if len(values) != 1 or not isinstance(table, DictConfig):
            raise UserError(
                f"study={study.name} gives values of {key} by {', '.join(map(str, values)) or 'nothing'}; "
                "give {AXIS: {VALUE: ...}} with one axis"
            )
        value = "null" if cell.get(axis) is None else cell[axis]  # a key of YAML that is null is none for OmegaConf
        passed.append(f"{axis}={value}" if axis in cell else f"the axis {axis}, which is none before it")
        if axis not in cell or value not in table:
            raise UserError(f"study={study.name} has no values of {key} for {', '.join(passed)}")
        values = table[value]
    return values if OmegaConf.is_list(values) else OmegaConf.create([values])


def as_overrides(cell: Mapping[str, Any]) -> list[str]:
    """The values of the axes as overrides of the command line; a text that Hydra would read otherwise is quoted.

    >>> as_overrides({"seed": 0, "outside_layers": {"head": "join", "embedding": "join"}})
    ['seed=0', 'outside_layers={head:join,embedding:join}']
    >>> as_overrides({"data.system": "true", "data.exclude": "a=b, c"})
    ["data.system='true'", "data.exclude='a=b, c'"]
    """
    return [f"{key}={_written(value)}" for key, value in cell.items()]


def _written(value: Any) -> str:
    if isinstance(value, Mapping) or OmegaConf.is_dict(value):
        return "{" + ",".join(f"{name}:{_written(inner)}" for name, inner in value.items()) + "}"
    if not isinstance(value, str):
        return "null" if value is None else str(value)
    try:
        plain = OverridesParser.create().parse_override(f"key={value}").value()
    except HydraException:
        plain = None
    return value if plain == value and isinstance(plain, str) else QuotedString(value, Quote.single).with_quotes()
