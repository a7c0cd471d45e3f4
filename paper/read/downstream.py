"""The study of downstream tasks: right answers of every model, and how two models compare on the same items."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from paper.read.names import LABELS, about
from records import Record

UNTRAINED = "untrained"
TASKS = "downstream"
"""The part of an evaluation that is lm-eval's tasks."""
PUZZLES = "reasoning_gym"
"""The part besides lm-eval's tasks; its loss counts: right answers in so few tokens there are none."""

Tested = Mapping[str, Any]
"""What `experiments.evaluate.significance.shares` returns."""


def shares(evaluated: Iterable[Record]) -> dict[str, dict[str, Tested]]:
    """Method -> task of lm-eval -> the share of right answers, its standard error and the chance level."""
    models: dict[str, dict[str, Tested]] = {}
    for record in finished(evaluated, TASKS):
        tasks: dict[str, Tested] = {
            task: value for task, value in record.measurements.items() if isinstance(value, dict)
        }
        models[about(record, "method")] = tasks
    places = {name: i for i, name in enumerate((UNTRAINED, *LABELS))}
    return dict(sorted(models.items(), key=lambda item: places.get(item[0], len(places))))


def tests(compared: Iterable[Record], reference: str) -> dict[str, dict[str, Tested]]:
    """Method -> task of lm-eval -> the comparison with the reference on the same items."""
    return {
        about(record, "method"): dict(record.measurements)
        for record in finished(compared, TASKS)
        if about(record, "baseline") == reference
    }


def puzzle_losses(evaluated: Iterable[Record]) -> dict[str, float]:
    """Method -> its loss on the generated puzzles, which no model was trained on."""
    return {about(record, "method"): record.measurements["loss"]["value"] for record in finished(evaluated, PUZZLES)}


def mean(tasks: Mapping[str, Tested], every: Sequence[str]) -> float | None:
    """Mean over the tasks, None where the model lacks one of them."""
    return fmean(tasks[task]["share"] for task in every) if tasks.keys() >= set(every) else None


def finished(records: Iterable[Record], part: str) -> list[Record]:
    """The finished records of one part."""
    return [record for record in records if record.status == "finished" and record.config["part"] == part]
