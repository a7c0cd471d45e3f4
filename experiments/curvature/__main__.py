"""Entry point: `python -m experiments.curvature [option=value ...]` measures on a model what the theorems assume.

    python -m experiments.curvature                   # everything
    python -m experiments.curvature signs=null        # what results/practice.jsonl holds: one H100, two minutes, 40 GB
    python -m experiments.curvature dtype=float32 examples=8 device=cpu signs=null

Gradients, curvature (also along vectors of signs), coupling, gradient noise and visits of a few blocks are measured
before and after some steps of training. One record is written, for `python -m theory.practice`. See
`experiments.curvature.measure`.
"""

import sys

from cli.help import answer

if __name__ == "__main__":
    answer(sys.argv[1:], "curvature", "experiments.curvature", __doc__)  # before what takes seconds to import

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
