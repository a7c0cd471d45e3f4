"""Every statement: its families, lines, checks, instances, largest ratio, rejected controls and verdict."""

from collections.abc import Sequence

from paper.read import theorems
from paper.read.formats import thousands
from records import Record

SOURCES = {"theory": ("verify", "theory")}


def text(theory: Sequence[Record]) -> str:
    rows = [r"\begin{tabular}{@{}lrrrrrrrl@{}}", r"\toprule"]
    rows += [r" & & & & & \multicolumn{2}{c}{ratio} & & \\", r"\cmidrule(lr){6-7}"]
    rows += [r"statement & families & lines & checks & instances & median & largest & controls & verdict \\"]
    rows.append(r"\midrule")
    for bound, group in theorems.by_bound(theory).items():
        lines, ratios, false = theorems.lines(group), sorted(theorems.ratios(group)), theorems.controls(group)
        cells = [
            theorems.title(bound),
            str(len(group)),
            str(len(lines)),
            thousands(sum(line["checks"] for line in lines.values())),
            str(sum(len(record.measurements["instances"]["ratio"]) for record in group)),
            f"{ratios[len(ratios) // 2]:.3f}" if ratios else "--",
            f"{ratios[-1]:.3f}" if ratios else "--",
            f"{sum(control['rejected'] for control in false)} of {len(false)}" if false else "--",
            theorems.verdict(group),
        ]
        rows.append(" & ".join(cells) + r" \\")
    return "\n".join([*rows, r"\bottomrule", r"\end{tabular}", ""])
