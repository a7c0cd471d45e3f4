"""Every headline method for the time of LoRA's steps: how many steps that is, its peak of memory, the loss, and the
difference to LoRA."""

from collections.abc import Sequence

from paper import statistics, studies
from paper.runs import named
from paper.tables.claims import p_value
from paper.tables.methods_in_numbers import mean
from paper.verdicts import data_in_print
from records import Record

STUDIES = {"equal_time": ("train", "equal_time")}
REFERENCE = "lora"


def text(equal_time: Sequence[Record]) -> str:
    """The methods of each data set, the lowest loss first; p is two-sided, adjusted by Holm's method over them."""
    sets = studies.groups(studies.rows(equal_time), lambda row: row.data)
    lines = [r"\begin{tabular}{@{}lrrrrr@{}}", r"\toprule"]
    lines.append(rf"method & steps & peak (GB) & loss & minus {named(REFERENCE)} & $p$ \\")
    for data in studies.data_sets(sets):
        cells = studies.cells(sets[data], lambda row: row.method)
        losses = {method: {row.seed: row.reported for row in runs} for method, runs in cells.items()}
        means = {method: statistics.mean(list(values.values())) for method, values in losses.items()}
        tests = studies.against(losses, REFERENCE)
        lines += [r"\midrule", rf"\multicolumn{{6}}{{@{{}}l}}{{\emph{{{data_in_print(data)}}}}} \\"]
        for method in sorted(means, key=lambda method: means[method].mean):
            peak, test = studies.peak(cells[method]), tests.get(method)
            row = [
                named(method),
                str(cells[method][0].config["steps"]),
                f"{peak / 1e9:.2f}" if peak is not None else "--",
                mean(means[method]),
                f"${test.difference.mean:+.3f}$" if test else "--",
                p_value(test.p) if test else "--",
            ]
            lines.append(" & ".join(row) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])
