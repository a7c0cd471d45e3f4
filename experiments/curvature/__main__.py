"""Entry point: `python -m experiments.curvature [option=value ...]` what the theorems assume, measured on a model.

See `experiments.curvature.measure`.
"""

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from experiments import configuration
from experiments.command import command
from experiments.curvature.measure import STUDY, check, execute, summary
from experiments.training import planning
from experiments.training.run import Run


@command("curvature")
def main(config: DictConfig) -> bool:
    configuration.require_how(config.how)
    check(config)
    run = Run(planning.plan(config, configuration.choices(HydraConfig.get())), STUDY)
    record = (None if config.how.force else run.finished) or execute(run)
    print(f"{summary(record)}\n{run.path}")
    return record.status == "finished"


if __name__ == "__main__":
    main()
