"""Entry point: `python -m experiments.train [axis=value ...]` trains, `study=NAME` runs a frozen study,
`studies=[A,B]` several.

    python -m experiments.train method=badam order=cyclic method.inner_steps=5 seed=1     # one run
    python -m experiments.train -m method=badam,lora seed=0,1                             # a sweep: four runs
    python -m experiments.train data=file data.path=chat.jsonl epochs=3 dry=true          # the plan and an example
    python -m experiments.train study=quick dry=true                                      # what a study has left
    python -m experiments.train study=quick workers=2

Every run leaves a record; a run that is finished is not run again.
"""

import sys
from collections.abc import Callable, Sequence

from cli.help import answer

if __name__ == "__main__":
    answer(sys.argv[1:], "train", "experiments.train", __doc__)  # before what takes seconds to import

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from experiments import configuration
from experiments.command import command, once_more
from experiments.errors import UserError
from experiments.studies import overrides, runner, show, study
from experiments.training import advice, planning
from experiments.training.checkpoint import BusyError
from experiments.training.run import Run
from experiments.training.running import execute
from experiments.training.watching import require_track, watching
from records import Record

MODULE = "experiments.train"


@command("train")
def main(config: DictConfig) -> bool:
    configuration.require_how(config.how)
    require_track(config.how.track)
    return run_studies(config) if config.get("study") or config.studies else run_single(config)


def run_single(config: DictConfig) -> bool:
    """Execute one run, unless its record is there already; with dry=true show what it would be.

    Returns:
        Whether it succeeded.
    """
    run = Run(planning.plan(config, configuration.choices(HydraConfig.get())))
    if config.how.dry:
        print("\n".join(show.plan(run)))
        return True
    try:
        with run.locked():
            return execute_single(run, config)
    except BusyError:
        raise UserError(
            f"another process works on this very run, {run.name}; when it has ended, the same command shows its record"
        ) from None


def execute_single(run: Run, config: DictConfig) -> bool:
    """What `run_single` does once nobody else works on the run."""
    if (record := run.finished) and not config.how.force:
        again = "force=true runs it again" + (
            ", and only that writes export=..." if config.how.export is not None else ""
        )
        print(f"finished before ({again})\n{show.summary(record)}\n{record.path}")
        return True
    record = execute(run, restart=config.how.force, observer=watching(run))
    print(f"{show.summary(record)}\n{run.path}")
    if record.error:
        words, other = HydraConfig.get().overrides.task, advice.other_values(run.plan, record.error)
        why = "with a value that may mend it" if other else "once the cause is mended; the same command tries it again"
        print(f"next, {why}:\n  {once_more(MODULE, words, *other)}", file=sys.stderr)
    return record.status == "finished"


def run_studies(config: DictConfig) -> bool:
    """Execute every run of the studies that is not finished.

    Returns:
        Whether all succeeded.
    """
    command_line = HydraConfig.get().overrides
    extra, controls = overrides.extra_overrides(command_line.task), overrides.passed_on(command_line.task)
    chosen, shared = overrides.chosen_studies(config, controls), planning.Shared()
    names = [study.study_name(each, extra) for each in chosen]

    def listing(of: Sequence[DictConfig]) -> list[Run]:
        return [run for each in of for run in study.runs(each, extra, controls, shared, dry=config.how.dry)]

    listed, growing = listing(chosen), [each for each in chosen if study.extend(each)]
    if not config.how.dry:
        for name in names:
            of_study = [run for run in listed if run.study == name]
            runner.remove_strangers(of_study, configuration.folder(config) / name)
    print(show.table(listed), flush=True)
    if config.how.dry:
        return True
    title = ", ".join(names)
    if config.how.only is not None:
        listed = [run for run in listed if run.name == config.how.only]
        if not listed:
            raise UserError(f"only={config.how.only!r} is no run of the study {title}; dry=true lists them")
    listed, records = execute_listed(listed, lambda: listing(growing), title, config.how)
    places = ", ".join(str(configuration.folder(config) / name) for name in names)
    print("\n".join([f"study {title}: records in {places}", *map(show.summary, records)]))
    finished = {(record.study, record.name) for record in records if record.status == "finished"}
    unfinished = [run for run in listed if run.place not in finished]
    if failed := [record.name for record in records if record.status == "failed"]:
        one = once_more(MODULE, command_line.task, "retry=true", f"only={failed[0]}")
        every = f"\nor all {len(failed)}:\n  {once_more(MODULE, command_line.task, 'retry=true')}" * (len(failed) > 1)
        print(f"next, once the cause is mended, a failed run again:\n  {one}{every}", file=sys.stderr)
    return all(run.busy for run in unfinished)  # what another process works on is its own affair


def execute_listed(
    listed: list[Run], listing: Callable[[], list[Run]], title: str, how: DictConfig
) -> tuple[list[Run], list[Record]]:
    """Execute the runs, and then those that a tuning study adds beyond the edge of a grid, see `study.runs`.

    Args:
        listed: the runs.
        listing: lists those of the studies that extend their grids anew, with what their records say by then.
        title: of the studies, for tables.
        how: how runs are made; with `only`, nothing is added.

    Returns:
        All runs, and their records.
    """
    todo, force, records = listed, how.force, list[Record]()
    while todo:
        records += runner.execute(todo, title, force=force, retry=how.retry, workers=how.workers)
        there = {run.place for run in listed}
        todo = [] if how.only is not None else [run for run in listing() if run.place not in there]
        listed, force = [*listed, *todo], False
        if todo:
            print(
                f"the best learning rate is not inside the grid, so more are tried: {', '.join(r.name for r in todo)}"
            )
    return listed, records


if __name__ == "__main__":
    main()
