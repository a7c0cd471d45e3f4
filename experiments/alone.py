"""Entry point: `python -m experiments.alone study=NAME`: what a step of each method costs, alone on the device.

    python -m experiments.alone study=quick dry=true      # the configurations
    python -m experiments.alone study=methods rounds=3

Runs of a study that share a GPU wait for each other, so their own seconds say nothing of a method. Here each
configuration of the study (seeds and learning rates left aside) trains for some steps with nothing beside it. The
last ones count, when graphs are compiled and kernels loaded: their bytes are the largest number allocated in them,
their seconds the mean, because the steps of a block method differ with the block's depth, and those of all methods
with the lengths in a batch. `rounds=N` measures all configurations N times, one after the other: a step's seconds are
then the median of its rounds, so that a disturbance of the machine shows and counts little. Nothing is evaluated. One
record for each, in the study `steps_alone`, written after every round: rounds that this device has recorded are not
measured again (force=true does). A configuration that fails stops no other and keeps the rounds that it has.
"""

import statistics
import sys
from typing import Any

from cli.help import answer

if __name__ == "__main__":
    answer(sys.argv[1:], "train", "experiments.alone", __doc__)  # before what takes seconds to import

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from bcd.execution import keep_graphs
from experiments import configuration, sources
from experiments.command import command
from experiments.errors import UserError
from experiments.randomness import DROPOUT, seeded, stream_seed
from experiments.studies import study
from experiments.studies.overrides import chosen_studies, extra_overrides, passed_on
from experiments.training import planning
from experiments.training.loading import Loading
from experiments.training.loop import any_length
from experiments.training.run import Run
from experiments.training.running import start
from records import Record, find, run_key, write
from records.provenance import provenance

STUDY = "steps_alone"
STEPS, TIMED = 180, 90
"""Steps of each configuration, and how many of them, the last, count: of 30 layers with 3 steps a visit the second
block epoch, so that each layer counts once."""
LEFT_ASIDE = ("seed", "method.lr")
"""Axes on which no cost depends."""


def configurations(listed: list[Run]) -> list[Run]:
    """The first run of each cell of the studies, by all axes but `LEFT_ASIDE`."""
    cells: dict[str, Run] = {}
    for run in listed:
        cells.setdefault(name(run), run)
    return list(cells.values())


def measure(
    planned: planning.Plan, loading: Loading, steps: int = STEPS, timed: int = TIMED
) -> tuple[list[float], Any]:
    """Train for `steps` steps.

    Returns:
        The seconds of each of the last `timed` steps, and the peak of bytes over them: None where the device keeps no
        account, as the CPU.
    """
    loading.clear(planned.device)
    model, processor = loading.model(planned)
    task = planned.workload.task(processor, loading.data(planned, processor), planned.setting)
    training = start(planned, model, task)
    cuda = planned.device.type == "cuda"
    with seeded(stream_seed(planned.config.seed, DROPOUT)), any_length(), training.prepared():
        while training.steps < steps:
            if cuda and training.steps == steps - timed:  # the compiler's trials of kernels are over
                torch.cuda.reset_peak_memory_stats()
            training.step()
    seconds = [step["seconds"] for step in training.metrics[-timed:]]
    return seconds, torch.cuda.max_memory_allocated() if cuda else None


def joined(before: dict[str, Any] | None, seconds: list[float], peak: int | None) -> dict[str, Any]:
    """The measurements of a record with one round more than `before`."""
    rounds = [*(before["rounds"] if before else []), seconds]
    peaks = [value for value in (before["peak_allocated"] if before else None, peak) if value is not None]
    return {
        "seconds_per_step": statistics.mean(map(statistics.median, zip(*rounds, strict=True))),
        "rounds": rounds,
        "peak_allocated": max(peaks, default=None),
    }


def name(run: Run) -> str:
    """Of the record: model, data and the cell, so that no two studies give one name to two things."""
    choices = run.plan.config.choices
    cell = {"model": choices.model, "data": choices.data} | dict(run.cell)
    return study.label({key: value for key, value in cell.items() if key not in LEFT_ASIDE})


def key(planned: planning.Plan) -> str:
    """Identity of the measurement: the configuration, without what no cost depends on, the code and the device."""
    identity = configuration.without(planned.identity, ("seed", "lr", "test", "test_size", "spectrum"))
    device = configuration.device_name(planned.device.type)
    code = sources.code_hash((planning.LOOP, *sources.targets(identity)))
    return run_key(identity, {"code": code, "model": planned.model_key, "device": device})


def record(run: Run, measurements: dict[str, Any], error: str = "") -> Record:
    """The measurement as a record."""
    planned = run.plan
    return Record(
        kind="profile",
        study=STUDY,
        name=name(run),
        key=key(planned),
        status="failed" if error else "finished",
        config=planned.identity,
        measurements=measurements,
        provenance=provenance(configuration.device_name(planned.device.type)),
        error=error,
    )


def execute(listed: list[Run], *, rounds: int = 1, force: bool = False) -> list[Record]:
    """Measure every configuration until its record has `rounds` rounds.

    Returns:
        The record of each; of a configuration that failed, the record of the failure. What it has measured before
        stays on disk.
    """
    loading, records, measured = Loading(keep=True), dict[str, Record](), configurations(listed)
    with keep_graphs():
        for turn in range(rounds):
            for run in measured:
                folder, label = configuration.folder(run.plan.config), name(run)
                recorded = records.get(label)
                if turn == 0 and not force and (recorded := find(STUDY, label, key(run.plan), folder)):
                    print(f"{line(recorded)}, recorded before", flush=True)
                if recorded is None or (not recorded.error and len(recorded.measurements["rounds"]) <= turn):
                    before, recorded = recorded, _measured_once_more(run, recorded, loading)
                    if before is None or not recorded.error:
                        write(recorded, folder)
                    print(line(recorded), flush=True)
                records[label] = recorded
    return list(records.values())


def _measured_once_more(run: Run, before: Record | None, loading: Loading) -> Record:
    try:
        return record(run, joined(before.measurements if before else None, *measure(run.plan, loading)))
    except Exception as failure:  # is the result; the other methods are measured
        return record(run, {}, f"{type(failure).__name__}: {failure}")


def line(record: Record) -> str:
    """The measurement for readers."""
    if record.error:
        return f"{record.name}: FAILED, {record.error}"
    peak = record.measurements["peak_allocated"]
    memory = f", {peak / 1e9:.2f} GB" if peak else ""
    rounds = [f"{statistics.mean(seconds) * 1e3:.1f}" for seconds in record.measurements["rounds"]]
    each = f" ({', '.join(rounds)})" if len(rounds) > 1 else ""
    return f"{record.name}: {record.measurements['seconds_per_step'] * 1e3:.1f} ms a step{each}{memory}"


@command("train")
def main(config: DictConfig) -> bool:
    overrides = HydraConfig.get().overrides.task
    extra, controls = extra_overrides(overrides), passed_on(overrides)
    configuration.require_how(config.how)
    if not config.get("study") and not config.studies:
        raise UserError("which study? give study=NAME, for example study=quick")
    if config.how.only is not None:
        raise UserError(f"only={config.how.only} is not possible: every configuration of a study is measured")
    shared = planning.Shared()
    studies = chosen_studies(config, controls)
    # dry: no cost depends on a learning rate, so that none needs to be recorded.
    listed = [run for each in studies for run in study.runs(each, extra, controls, shared, dry=True)]
    if config.how.dry:
        print("\n".join(map(name, configurations(listed))))
        return True
    records = execute(listed, rounds=config.how.rounds, force=config.how.force)
    return not any(record.error for record in records)


if __name__ == "__main__":
    main()
