"""Right answers in per cent before and after training, for every downstream task and headline method."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from paper.runs import LABELS, named
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
"""The part besides lm-eval's tasks; it counts exact matches."""


def model(name: str) -> str:
    """Which model a record of the study is of: what stands before the data set that it was trained on."""
    return name.partition("-")[0]


def shares(evaluated: Sequence[Record]) -> dict[str, dict[str, dict[str, Any]]]:
    """Model -> task -> the share of right answers, its standard error and the chance level, see significance.share."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for record in evaluated:
        measured = record.measurements
        tasks = {GENERATED: measured["exact_match"]} if record.config["part"] == GENERATED else measured
        found.setdefault(model(record.name), {}).update({k: v for k, v in tasks.items() if isinstance(v, dict)})
    places = {name: i for i, name in enumerate((UNTRAINED, *LABELS))}
    return dict(sorted(found.items(), key=lambda item: places.get(item[0], len(places))))


def tests(compared: Sequence[Record], reference: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Model -> task -> the comparison with the reference on the same items."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for record in compared:
        if model(record.config["before"]) == reference:
            measured = record.measurements
            tasks = {GENERATED: measured["exact_match"]} if record.config["part"] == GENERATED else measured
            found.setdefault(model(record.config["after"]), {}).update(tasks)
    return found


def mean(tasks: Mapping[str, Mapping[str, Any]]) -> float:
    """Mean over lm-eval's tasks."""
    return fmean(share["share"] for task, share in tasks.items() if task != GENERATED)


def text(evaluated: Sequence[Record], compared: Sequence[Record]) -> str:
    """A star marks a difference to the untrained model that is significant and large enough to be found."""
    models, against = shares(evaluated), tests(compared, UNTRAINED)
    known = [*TASKS, GENERATED]
    tasks = sorted({task for found in models.values() for task in found}, key=known.index)
    lines = [r"\setlength{\tabcolsep}{3.5pt}", rf"\begin{{tabular}}{{@{{}}lrr{'r' * len(models)}r@{{}}}}", r"\toprule"]
    heads = [rf"\rotatebox{{60}}{{{named(name)}}}" for name in models]
    lines.append(" & ".join(["task", "items", "chance", *heads, "detectable"]) + r" \\")
    lines.append(r"\midrule")
    for task in tasks:
        one = next(found[task] for found in models.values() if task in found)
        least = [found[task]["smallest_detectable"] for found in against.values() if task in found]
        cells = [_cell(found.get(task), against.get(name, {}).get(task)) for name, found in models.items()]
        largest = max((value for value in least if value is not None), default=None)
        lines.append(
            " & ".join(
                [
                    TASKS.get(task, task.replace("_", " ")),
                    str(one["items"]),
                    percent(one["chance"]),
                    *cells,
                    "--" if largest is None else percent(largest),
                ]
            )
            + r" \\"
        )
    lines += [
        r"\midrule",
        " & ".join(["mean of lm-eval's", "", "", *map(percent, map(mean, models.values())), ""]) + r" \\",
    ]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _cell(share: Mapping[str, Any] | None, test: Mapping[str, Any] | None) -> str:
    if share is None:
        return "--"
    return percent(share["share"]) + ("$^*$" if test is not None and test["verdict"] in ("better", "worse") else "")
