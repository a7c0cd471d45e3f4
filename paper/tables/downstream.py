"""Right answers in per cent before and after training, for every downstream task and headline method."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from paper import statistics
from paper.runs import LABELS, named
from paper.verdicts import NOT_TESTABLE
from records import Record

STUDIES = {"evaluated": ("evaluate", "downstream"), "compared": ("compare", "downstream")}
UNTRAINED = "untrained"
TASKS = {
    "gsm8k": "GSM8K",
    "math": "MATH",
    "svamp": "SVAMP",
    "mawps": "MAWPS",
    "aqua_rat": "AQuA",
    "sat_math": "SAT math",
    "mmlu_math": "MMLU math",
    "arc_easy": "ARC easy",
    "arc_challenge": "ARC challenge",
    "piqa": "PIQA",
    "openbookqa": "OpenBookQA",
    "boolq": "BoolQ",
}
GENERATED = "reasoning_gym"
"""The part besides lm-eval's tasks; its loss counts: right answers in so few tokens there are none."""

Tested = Mapping[str, Any]
"""What `experiments.evaluate.significance.shares` returns."""


def model(name: str) -> str:
    """Which model a record of the study is of: what stands before the data set that it was trained on."""
    return name.partition("-")[0]


def shares(evaluated: Sequence[Record]) -> dict[str, dict[str, Tested]]:
    """Model -> task of lm-eval -> the share of right answers, its standard error and the chance level."""
    found: dict[str, dict[str, Tested]] = {
        model(record.name): {task: value for task, value in record.measurements.items() if isinstance(value, dict)}
        for record in _finished(evaluated, "downstream")
    }
    places = {name: i for i, name in enumerate((UNTRAINED, *LABELS))}
    return dict(sorted(found.items(), key=lambda item: places.get(item[0], len(places))))


def tests(compared: Sequence[Record], reference: str) -> dict[str, dict[str, Tested]]:
    """Model -> task of lm-eval -> the comparison with the reference on the same items."""
    return {
        model(record.config["after"]): dict(record.measurements)
        for record in _finished(compared, "downstream")
        if model(record.config["before"]) == reference
    }


def puzzle_losses(evaluated: Sequence[Record]) -> dict[str, float]:
    """Model -> its loss on the generated puzzles, which no model was trained on."""
    return {model(record.name): record.measurements["loss"]["value"] for record in _finished(evaluated, GENERATED)}


def mean(tasks: Mapping[str, Tested], every: Sequence[str]) -> float | None:
    """Mean over the tasks, None where the model lacks one of them."""
    return fmean(tasks[task]["share"] for task in every) if tasks.keys() >= set(every) else None


def verdict(test: Tested, number: int) -> str:
    """ "better", "worse", "guessing" where the test rejects and neither model beats guessing, else `NOT_TESTABLE`.

    number: of tests that share the level.
    """
    if test["verdict"] != NOT_TESTABLE:
        return test["verdict"]
    least = test["smallest_detectable"]
    large = least is not None and abs(test["difference"]) >= least
    return "guessing" if test["p"] <= statistics.ALPHA / number and large else NOT_TESTABLE


def text(evaluated: Sequence[Record], compared: Sequence[Record]) -> str:
    """A star marks a difference to the untrained model, a dagger one between models that do not beat guessing."""
    models, against, puzzles = shares(evaluated), tests(compared, UNTRAINED), puzzle_losses(evaluated)
    tasks = sorted({task for found in models.values() for task in found}, key=list(TASKS).index)
    heads = [rf"\rotatebox{{60}}{{{named(name)}}}" for name in models]
    rows = []
    for task in tasks:
        one = next(found[task] for found in models.values() if task in found)
        least = [found[task]["smallest_detectable"] for found in against.values() if task in found]
        largest = max((value for value in least if value is not None), default=None)
        cells = [_cell(found.get(task), against.get(name, {}), task) for name, found in models.items()]
        rows.append([TASKS[task], str(one["items"]), percent(one["chance"]), *cells, percent(largest)])
    below = [["mean", "", "", *(percent(mean(found, tasks)) for found in models.values()), ""]]
    if puzzles:
        losses = [f"{puzzles[name]:.2f}" if name in puzzles else "--" for name in models]
        below.append(["puzzles, loss", "", "", *losses, ""])
    lines = [r"\setlength{\tabcolsep}{3.5pt}", rf"\begin{{tabular}}{{@{{}}lrr{'r' * len(models)}r@{{}}}}", r"\toprule"]
    for part in ([["task", "items", "chance", *heads, "detectable"]], rows, below):
        lines += [*(" & ".join(row) + r" \\" for row in part), r"\midrule"]
    lines[-1] = r"\bottomrule"
    return "\n".join([*lines, r"\end{tabular}", ""])


def percent(share: float | None) -> str:
    return "--" if share is None else f"{100 * share:.1f}"


def _finished(records: Sequence[Record], part: str) -> list[Record]:
    return [record for record in records if record.status == "finished" and record.config["part"] == part]


def _cell(share: Tested | None, tested: Mapping[str, Tested], task: str) -> str:
    if share is None:
        return "--"
    found = verdict(tested[task], len(tested)) if task in tested else NOT_TESTABLE
    return percent(share["share"]) + {NOT_TESTABLE: "", "guessing": r"$^\dagger$"}.get(found, "$^*$")
