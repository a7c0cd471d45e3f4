"""Every headline method for the time of LoRA's steps: how many steps that is, its peak of memory, the loss, and the
difference to LoRA. The figure equal_time has the way there."""

from collections.abc import Sequence

from paper.read import statistics, studies
from paper.read.formats import p_value, plus_minus
from paper.read.names import data_named, named
from records import Record

STUDIES = {"equal_time": ("train", "equal_time"), "steps_alone": ("profile", "steps_alone")}
REFERENCE = "lora"


def text(equal_time: Sequence[Record], steps_alone: Sequence[Record]) -> str:
    """The methods of each data set, the lowest loss first; p is two-sided, adjusted by Holm's method over them.

    by round: the least and the largest number of steps that one round of the timing alone would have given.
    """
    lines = [r"\begin{tabular}{@{}lrrrrrr@{}}", r"\toprule"]
    rows = studies.rows(equal_time)
    loss = f"{studies.part(rows)} loss"
    lines.append(rf"method & steps & by round & peak (GB) & {loss} & minus {named(REFERENCE)} & $p$ \\")
    for data, cells in studies.by_data(rows).items():
        losses = {method: studies.losses(runs) for method, runs in cells.items()}
        means = {method: statistics.mean(list(values.values())) for method, values in losses.items()}
        tests = studies.against(losses, REFERENCE)
        rounds = studies.steps_by_round(cells, steps_alone, REFERENCE)
        lines += [r"\midrule", rf"\multicolumn{{7}}{{@{{}}l}}{{\emph{{{data_named(data)}}}}} \\"]
        for method in sorted(means, key=lambda method: means[method].mean):
            peak, test = studies.peak(cells[method]), tests.get(method)
            row = [
                named(method),
                str(cells[method][0].config["steps"]),
                f"{min(rounds[method])}--{max(rounds[method])}" if method in rounds and method != REFERENCE else "--",
                f"{peak / 1e9:.2f}" if peak is not None else "--",
                plus_minus(means[method]),
                f"${test.difference.mean:+.3f}$" if test else "--",
                p_value(test.p) if test else "--",
            ]
            lines.append(" & ".join(row) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])
