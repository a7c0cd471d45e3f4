"""Entry point: `python -m experiments.train [axis=value ...]` trains, `study=NAME` runs a frozen study."""

import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from experiments import run, study
from experiments.interruption import Interrupted

PASSED_ON = ("records_dir=", "checkpoint.", "export=")
"""What says how to run and also holds for every run of a study."""


@hydra.main(version_base="1.3", config_path="../conf", config_name="train")
def main(config: DictConfig) -> None:
    try:
        succeeded = run_study(config) if config.get("study") else run_single(config)
    except (ValueError, OmegaConfBaseException) as error:
        print(f"error: {error}", file=sys.stderr)
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
    planned = run.plan(config, study.choices(HydraConfig.get()))
    record = run.finished(planned, "single")
    if record is not None and not config.force:
        print(f"finished before (force=true runs it again)\n{study.summary(record)}\n{record.path}")
        return True
    record = run.execute(planned, "single")
    print(f"{study.summary(record)}\n{run.folder(config) / 'single' / record.name}.json")
    return record.status == "finished"


def run_study(config: DictConfig) -> bool:
    """Every run of the study that is not finished. Returns whether all succeeded."""
    own = (*(f"{name}=" for name in run.CONTROLS), "checkpoint.")
    extra = [item for item in HydraConfig.get().overrides.task if not item.lstrip("+").startswith(own)]
    name = study.study_name(config.study, extra)
    passed_on = [item for item in HydraConfig.get().overrides.task if item.startswith(PASSED_ON)]
    listed = study.entries(config.study, extra, passed_on)
    print(study.table(listed), flush=True)
    if config.dry:
        return True
    records = study.execute(listed, name, config.force)
    print("\n".join([f"study {name}: records in {run.folder(config) / name}", *map(study.summary, records)]))
    return all(record.status == "finished" for record in records)


if __name__ == "__main__":
    main()
