"""Entry point: `python -m experiments.curvature [option=value ...]` what the theorems assume, measured on a model.

See `experiments.curvature.measure`.
"""

import sys

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from experiments import configuration
from experiments.command import in_one_line, start
from experiments.curvature.measure import STUDY, check, execute, summary
from experiments.training import planning


@hydra.main(version_base="1.3", config_path="../../conf", config_name="curvature")
def main(config: DictConfig) -> None:
    try:
        planning.require_controls(config)
        check(config)
        planned = planning.plan(config, configuration.choices(HydraConfig.get()))
        record = None if config.force else planning.finished(planned, STUDY)
        record = record or execute(planned)
    except (ValueError, OmegaConfBaseException) as error:
        print(f"error: {in_one_line(str(error))}", file=sys.stderr)
        raise SystemExit(2) from None
    print(f"{summary(record)}\n{configuration.folder(config) / STUDY / record.name}.json")
    if record.status != "finished":
        raise SystemExit(1)


if __name__ == "__main__":
    start(main)
