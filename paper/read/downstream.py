"""The study of downstream tasks: right answers of every model, and how two models compare on the same items."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from paper.read.names import LABELS
from records import Record

UNTRAINED = "untrained"
TASKS = "downstream"
"""The part of an evaluation that is lm-eval's tasks."""
PUZZLES = "reasoning_gym"
"""The part besides lm-eval's tasks; its loss counts: right answers in so few tokens there are none."""

Tested = Mapping[str, Any]
"""What `experiments.evaluate.significance.shares` returns."""


def model(name: str) -> str:
    """Which model a record of the study is of: what stands before the data set that it was trained on."""
    return name.partition("-")[0]


def shares(evaluated: Iterable[Record]) -> dict[str, dict[str, Tested]]:
    """Model -> task of lm-eval -> the share of right answers, its standard error and the chance level."""
    models: dict[str, dict[str, Tested]] = {
        model(record.name): {task: value for task, value in record.measurements.items() if isinstance(value, dict)}
        for record in finished(evaluated, TASKS)
    }
    places = {name: i for i, name in enumerate((UNTRAINED, *LABELS))}
    return dict(sorted(models.items(), key=lambda item: places.get(item[0], len(places))))


def tests(compared: Iterable[Record], reference: str) -> dict[str, dict[str, Tested]]:
    """Model -> task of lm-eval -> the comparison with the reference on the same items."""
    return {
        model(record.config["after"]): dict(record.measurements)
        for record in finished(compared, TASKS)
        if model(record.config["before"]) == reference
    }


def puzzle_losses(evaluated: Iterable[Record]) -> dict[str, float]:
    """Model -> its loss on the generated puzzles, which no model was trained on."""
    return {model(record.name): record.measurements["loss"]["value"] for record in finished(evaluated, PUZZLES)}


def mean(tasks: Mapping[str, Tested], every: Sequence[str]) -> float | None:
    """Mean over the tasks, None where the model lacks one of them."""
    return fmean(tasks[task]["share"] for task in every) if tasks.keys() >= set(every) else None


def finished(records: Iterable[Record], part: str) -> list[Record]:
    """The finished records of one part."""
    return [record for record in records if record.status == "finished" and record.config["part"] == part]
