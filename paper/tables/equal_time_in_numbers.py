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
    """p is two-sided, adjusted by Holm's method over the methods of a data set."""
    sets = studies.groups(studies.rows(equal_time), lambda row: row.data)
    names = studies.data_sets(sets)
    cells = {data: studies.cells(sets[data], lambda row: row.method) for data in names}
    losses = {data: {m: {row.seed: row.reported for row in runs} for m, runs in cells[data].items()} for data in names}
    tests = {data: studies.against(losses[data], REFERENCE) for data in names}
    means = {m: statistics.mean(list(values.values())) for m, values in losses[names[0]].items()}
    lines = [rf"\begin{{tabular}}{{@{{}}l{'rrrrr' * len(names)}@{{}}}}", r"\toprule"]
    lines.append(" & ".join(["", *(rf"\multicolumn{{5}}{{c}}{{{data_in_print(data)}}}" for data in names)]) + r" \\")
    lines.append(
        " & ".join(["method", *(f"steps & GB & loss & minus {named(REFERENCE)} & $p$" for _ in names)]) + r" \\"
    )
    lines.append(r"\midrule")
    for method in sorted(means, key=lambda m: means[m].mean):
        row = [named(method)]
        for data in names:
            values, test = losses[data].get(method), tests[data].get(method)
            peak = studies.peak(cells[data].get(method, []))
            row += [
                str(cells[data][method][0].config["steps"]) if values else "--",
                f"{peak / 1e9:.2f}" if peak is not None else "--",
                mean(statistics.mean(list(values.values()))) if values else "--",
                f"${test.difference.mean:+.3f}$" if test else "--",
                p_value(test.p) if test else "--",
            ]
        lines.append(" & ".join(row) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])
