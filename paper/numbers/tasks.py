"""The numbers of the downstream tasks, as macro name -> text."""

from collections.abc import Mapping, Sequence
from typing import Any

from paper.judge.downstream import verdict
from paper.read import downstream, statistics
from paper.read.formats import camel, percent
from paper.read.names import named
from records import Record


def of_tasks(evaluated: Sequence[Record], compared: Sequence[Record]) -> dict[str, str]:
    """Means over the tasks in per cent, the highest first, and what the comparisons with the untrained model say."""
    models = downstream.shares(evaluated)
    tasks = {task for shares in models.values() for task in shares}
    means = {
        name: mean for name, shares in models.items() if (mean := downstream.mean(shares, list(tasks))) is not None
    }
    tests = downstream.tests(compared, downstream.UNTRAINED).values()
    verdicts_of_tasks = [verdict(test, len(tested)) for tested in tests for test in tested.values()]
    return {
        "StudyEvaluatedList": ", ".join(
            f"{named(name)} ({percent(means[name])})" for name in sorted(means, key=lambda name: -means[name])
        ),
        "StudyEvaluatedTests": str(len(verdicts_of_tasks)),
        **{
            f"StudyEvaluated{kind.capitalize()}": str(verdicts_of_tasks.count(kind))
            for kind in ("better", "worse", "guessing")
        },
    } | {f"StudyEvaluatedAbove{camel(name)}": _above_guessing(name, models, compared) for name in ("lora", "adamw")}


def _above_guessing(reference: str, models: Mapping[str, Mapping[str, Any]], compared: Sequence[Record]) -> str:
    """BAdam minus the reference in points, the mean over the tasks where one of them does better than guessing."""
    tests = downstream.tests(compared, reference).get("badam", {})
    both = [models.get(name, {}) for name in ("badam", reference)]
    differences = [
        (test["difference"], test["standard_error"], test["items"])
        for task, test in tests.items()
        if any(shares.get(task, {}).get("above_guessing") for shares in both)
    ]
    if not differences:
        return "--"
    d = statistics.mean_of(differences)
    points = f"${100 * d.mean:+.1f}$ $[{100 * d.low:+.1f}, {100 * d.high:+.1f}]$"
    return f"{points} points over {len(differences)} tasks"
