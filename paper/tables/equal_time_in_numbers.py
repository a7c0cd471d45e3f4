"""Every headline method for the time of LoRA's steps: how many steps that is, its peak of memory, the loss, and the
difference to LoRA. The figure equal_time has the way there."""

from collections.abc import Mapping, Sequence
from statistics import median

from paper import statistics, studies
from paper.runs import named
from paper.studies import Row
from paper.tables.claims import p_value
from paper.tables.methods_in_numbers import mean
from paper.verdicts import data_in_print
from records import Record

STUDIES = {"equal_time": ("train", "equal_time"), "steps_alone": ("profile", "steps_alone")}
REFERENCE = "lora"


def text(equal_time: Sequence[Record], steps_alone: Sequence[Record]) -> str:
    """The methods of each data set, the lowest loss first; p is two-sided, adjusted by Holm's method over them.

    by round: the least and the largest number of steps that one round of the timing alone would have given.
    """
    lines = [r"\begin{tabular}{@{}lrrrrrr@{}}", r"\toprule"]
    lines.append(rf"method & steps & by round & peak (GB) & loss & minus {named(REFERENCE)} & $p$ \\")
    for data, cells in studies.by_data(studies.rows(equal_time)).items():
        losses = {method: {row.seed: row.reported for row in runs} for method, runs in cells.items()}
        means = {method: statistics.mean(list(values.values())) for method, values in losses.items()}
        tests = studies.against(losses, REFERENCE)
        rounds = steps_by_round(cells, steps_alone)
        lines += [r"\midrule", rf"\multicolumn{{7}}{{@{{}}l}}{{\emph{{{data_in_print(data)}}}}} \\"]
        for method in sorted(means, key=lambda method: means[method].mean):
            peak, test = studies.peak(cells[method]), tests.get(method)
            row = [
                named(method),
                str(cells[method][0].config["steps"]),
                f"{min(rounds[method])}--{max(rounds[method])}" if method in rounds and method != REFERENCE else "--",
                f"{peak / 1e9:.2f}" if peak is not None else "--",
                mean(means[method]),
                f"${test.difference.mean:+.3f}$" if test else "--",
                p_value(test.p) if test else "--",
            ]
            lines.append(" & ".join(row) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def steps_by_round(cells: Mapping[str, Sequence[Row]], steps_alone: Sequence[Record]) -> dict[str, list[int]]:
    """Method -> LoRA's steps times its median seconds over the method's own, of each round of the timing."""
    measured = studies.measured_alone(steps_alone, cells)
    medians = {name: list(map(median, found["rounds"])) for name, found in measured.items()}
    if REFERENCE not in medians:
        return {}
    steps, own = cells[REFERENCE][0].config["steps"], medians[REFERENCE]
    return {name: [round(steps * a / b) for a, b in zip(own, found, strict=False)] for name, found in medians.items()}
