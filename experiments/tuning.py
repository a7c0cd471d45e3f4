"""Entry point: `python -m experiments.tuning study=NAME` records the learning rates that a tuning study found.

    python -m experiments.train study=tuning        # every method at each of its learning rates, and beyond an edge
    python -m experiments.tuning study=tuning       # the choice by the rule of `studies.rates`, as a record

Studies with `tuned: tuning` then take their learning rates from the record, see `experiments.studies.study.entries`.
"""

import sys
from collections.abc import Sequence

from cli.help import answer

if __name__ == "__main__":
    answer(sys.argv[1:], "train", "experiments.tuning", __doc__)  # before what takes seconds to import

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from experiments import configuration
from experiments.command import command
from experiments.errors import UserError
from experiments.studies import rates, study
from experiments.studies.overrides import extra_overrides, passed_on
from experiments.training.run import Run
from records import Record, run_key, write
from records.provenance import provenance


def choice_record(name: str, listed: Sequence[Run], extend: int = 0) -> Record:
    """The choice from the runs of a tuning study, as a record.

    A cell whose every learning rate failed has no choice and is named; other studies leave it out.

    Args:
        name: of the study.
        listed: its runs.
        extend: how many learning rates the study adds at an edge; with 0 a choice at the edge is one.

    Raises:
        UserError: when a run is missing, when the study does not vary the learning rate, when a choice is at the edge
            although the study extends its grids, and when no cell has a choice.
    """
    if any(rates.RATE not in run.cell for run in listed):
        raise UserError(f"study={name} has no axis {rates.RATE}, so there is nothing to choose")
    waiting = [run.name for run in listed if run.state not in ("finished", "failed")]
    if waiting:
        raise UserError(
            f"{len(waiting)} of {len(listed)} runs of study={name} are not finished, the first is {waiting[0]}; "
            f"`python -m experiments.train study={name}` runs them"
        )
    choices, failed = [], []
    for cell, losses in rates.by_cell((run.cell, study.validation_loss(run)) for run in listed).items():
        try:
            choices.append(rates.choose(dict(cell), losses))
        except rates.NoRateError:
            failed.append(dict(cell))
    if not choices:
        raise UserError(f"every learning rate of study={name} has a failed run")
    if extend:
        rates.require_inside(choices)
    first = listed[0].plan
    common = {key: first.config.choices[key] for key in rates.COMMON if key not in listed[0].cell}
    sizes = {key: first.config[key] for key in ("steps", "batch_size")}
    keys = {run.name: run.plan.key for run in listed}
    config = {
        "study": name,
        "rule": (rates.__doc__ or "").split("\n\n")[1].replace("\n", " ").strip(),
        **common,
        **sizes,
    }
    return Record(
        kind="tuning",
        study=rates.FOLDER,
        name=name,
        key=run_key(config, keys),
        status="finished",
        config=config,
        measurements={"choices": rates.to_json(choices), "failed": failed, "runs": keys},
        provenance=provenance(configuration.device_name(first.device.type)),
    )


def table(record: Record) -> str:
    """The choices as text."""
    rows = []
    for choice in record.measurements["choices"]:
        tried = "  ".join(
            f"{rate:g}: {'failed' if loss is None else format(loss, '.4f')}" for rate, loss in choice["tried"]
        )
        edge = "   (at the edge of what was tried)" if choice["at_edge"] else ""
        rows.append(f"{rates.describe(choice['cell'])}  {rates.RATE}={choice['rate']:g}{edge}\n    {tried}")
    rows += [
        f"{rates.describe(cell)}  no choice: every learning rate failed" for cell in record.measurements["failed"]
    ]
    return "\n".join(rows)


def other_failures(listed: Sequence[Run]) -> list[str]:
    """A line for each run that failed for another reason than a loss or gradient that is not finite."""
    failed = [run.record for run in listed if run.record is not None and run.record.error]
    return [
        f"warning: {record.name} counts as one that diverged, but failed otherwise: {record.error}"
        for record in failed
        if "FloatingPointError" not in record.error
    ]


@command("train")
def main(config: DictConfig) -> None:
    configuration.require_how(config.how)
    if not config.get("study"):
        raise UserError("which tuning study? give study=NAME, for example study=tuning_gsm8k")
    overrides = HydraConfig.get().overrides.task
    extra = extra_overrides(overrides)
    name = study.study_name(config.study, extra)
    listed = study.runs(config.study, extra, passed_on(overrides))
    record = choice_record(name, listed, study.extend(config.study))
    path = write(record, configuration.folder(config))
    print("\n".join([table(record), *other_failures(listed), str(path)]))


if __name__ == "__main__":
    main()
