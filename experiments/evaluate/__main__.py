"""Entry point: `python -m experiments.evaluate path=FOLDER [option=value ...]` evaluates a saved model.

    python -m experiments.evaluate model=smollm2_135m name=untrained
    python -m experiments.evaluate path=outputs/exports/RUN before=untrained      # and compares with it
    python -m experiments.evaluate path=FOLDER parts=[downstream] downstream.tasks=[gsm8k]
    python -m experiments.evaluate path=FOLDER parts=[mt_bench] mt_bench.questions=FILE

Every part leaves one record; a part that is finished is not run again.
"""

import sys
from typing import Any

from cli.help import answer

if __name__ == "__main__":
    answer(sys.argv[1:], "evaluate", "experiments.evaluate", __doc__)  # before what takes seconds to import

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from experiments import configuration
from experiments.command import command, once_more
from experiments.evaluate import evaluation
from records import Record


def lines(record: Record, compared: Record | None) -> list[str]:
    """A record and its comparison as text."""
    if record.error:
        return [f"{record.name}: FAILED, {record.error}"]
    text = [
        f"{record.name}:",
        *(f"  {k}: {_said(v)}" for k, v in record.measurements.items() if not isinstance(v, list)),
    ]
    if compared and compared.error:
        text.append(f"{compared.name}: FAILED, {compared.error}")
    for name, test in (compared.measurements if compared else {}).items():
        if "difference" not in test:
            text.append(f"  {name}: {test['verdict']}")
            continue
        error, least = test["standard_error"], test["smallest_detectable"]
        text.append(
            f"  {name} against {compared.config['before'] if compared else ''}: {test['difference']:+.4f}"
            + (f" +- {error:.4f}" if error is not None else "")
            + f", p {test['p']:.2g}, smallest detectable {'none' if least is None else format(least, '.4f')}: "
            + test["verdict"]
        )
    return text


def _said(value: Any) -> str:
    if not isinstance(value, dict):
        return f"{value:.1f}" if isinstance(value, float) else str(value)
    if "share" in value:
        error = value["standard_error"]
        guess = max(value["chance"], value["constant_answer"] or 0)
        return (
            f"{value['share']:.3f}" + (f" +- {error:.3f}" if error is not None else "") + f" of {value['items']}, "
            f"guessing gives {guess:.3f}: {'above' if value['above_guessing'] else 'not above'} it"
        )
    if "value" in value and value["value"] is not None:
        error = value["standard_error"]
        return f"{value['value']:.4f}" + (f" +- {error:.4f}" if error is not None else "")
    return ", ".join(f"{key} {item}" for key, item in value.items() if isinstance(item, int | float | str))


@command("evaluate")
def main(config: DictConfig) -> bool:
    succeeded = True
    configuration.require_how(config.how)
    planned = evaluation.plan(config, configuration.choices(HydraConfig.get()))
    if config.how.dry:
        print(evaluation.table(planned))
        return True
    for record, compared in evaluation.execute(planned):
        print("\n".join(lines(record, compared)), flush=True)
        print(f"  {configuration.folder(config) / record.study / record.name}.json", flush=True)
        succeeded &= record.status == "finished" and not (compared and compared.error)
    if not succeeded:
        words = HydraConfig.get().overrides.task
        print(
            "next, once the cause is mended; parts that are finished are kept:\n  "
            f"{once_more('experiments.evaluate', words)}",
            file=sys.stderr,
        )
    return succeeded


if __name__ == "__main__":
    main()
