"""Entry point: `python -m experiments.train [axis=value ...]` trains, `study=NAME` runs a frozen study,
`studies=[A,B]` several."""

import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from experiments import configuration
from experiments.command import in_one_line, start
from experiments.errors import UserError
from experiments.studies import overrides, runner, study
from experiments.training import planning, run
from experiments.training.interruption import Interrupted


@hydra.main(version_base="1.3", config_path="../conf", config_name="train")
def main(config: DictConfig) -> None:
    try:
        planning.require_controls(config)
        succeeded = run_studies(config) if config.get("study") or config.studies else run_single(config)
    except (HydraException, ValueError, OmegaConfBaseException) as error:
        print(f"error: {in_one_line(str(error))}", file=sys.stderr)
        raise SystemExit(2) from None
    except Interrupted as stop:
        print(f"\ninterrupted by {stop}: the same command goes on from the checkpoint", file=sys.stderr)
        raise SystemExit(stop.code) from None
    except KeyboardInterrupt:
        print("\ninterrupted: finished runs are kept, and the same command goes on with the next one", file=sys.stderr)
        raise SystemExit(130) from None
    if not succeeded:
        raise SystemExit(1)


def run_single(config: DictConfig) -> bool:
    """One run, unless its record is there already. Returns whether it succeeded."""
    if config.dry:
        raise ValueError("dry=true lists the runs of a study; give study=NAME too")
    planned = planning.plan(config, configuration.choices(HydraConfig.get()))
    record = planning.finished(planned, "single")
    if record is not None and not config.force:
        again = "force=true runs it again" + (", and only that writes export=..." if config.export is not None else "")
        print(f"finished before ({again})\n{study.summary(record)}\n{record.path}")
        return True
    record = run.execute(planned, "single", restart=config.force)
    print(f"{study.summary(record)}\n{configuration.folder(config) / 'single' / record.name}.json")
    return record.status == "finished"


def run_studies(config: DictConfig) -> bool:
    """Every run of the studies that is not finished. Returns whether all succeeded."""
    given = HydraConfig.get().overrides
    extra, controls = overrides.extra_overrides(given.task), overrides.passed_on(given.task)
    listed, names, shared = [], [], planning.Shared()
    for each in overrides.chosen_studies(config, controls):
        names.append(study.study_name(each, extra))
        found = study.entries(each, extra, controls, shared, dry=config.dry)
        listed += found
        if not config.dry:
            runner.remove_strangers(found, configuration.folder(config) / names[-1])
    print(study.table(listed), flush=True)
    if config.dry:
        return True
    title = ", ".join(names)
    if config.only is not None:
        listed = [entry for entry in listed if entry.plan.name == config.only]
        if not listed:
            raise UserError(f"only={config.only!r} is no run of the study {title}; dry=true lists them")
    records = runner.execute(listed, title, force=config.force, retry=config.retry, workers=config.workers)
    places = ", ".join(str(configuration.folder(config) / name) for name in names)
    print("\n".join([f"study {title}: records in {places}", *map(study.summary, records)]))
    finished = {(record.study, record.name) for record in records if record.status == "finished"}
    left = [entry for entry in listed if (entry.study, entry.plan.name) not in finished]
    return all(runner.is_busy(entry) for entry in left)  # what another process works on is its own affair


if __name__ == "__main__":
    start(main)
