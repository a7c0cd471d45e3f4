"""Every statement: its families, lines, checks and share of resolved ones, instances, ratios, controls, verdict."""

from collections.abc import Sequence

from paper.read import theorems
from paper.read.formats import thousands
from records import Record

SOURCES = {"theory": ("verify", "theory")}


def text(theory: Sequence[Record]) -> str:
    rows = [r"\begin{tabular}{@{}lrrrrrrrrl@{}}", r"\toprule"]
    rows += [r" & & & & & & \multicolumn{2}{c}{ratio} & & \\", r"\cmidrule(lr){7-8}"]
    rows += [
        r"statement & families & lines & checks & resolved & instances & median & largest & controls & verdict \\"
    ]
    rows.append(r"\midrule")
    for bound, group in theorems.by_bound(theory).items():
        lines = theorems.lines(group)
        claims, resolved = theorems.inequality_checks(lines.values())
        ratios, false = sorted(theorems.ratios(group)), theorems.controls(group)
        cells = [
            theorems.title(bound),
            str(len(group)),
            str(len(lines)),
            thousands(sum(line["checks"] for line in lines.values())),
            rf"{100 * resolved / claims:.1f}\,\%" if claims else "--",
            str(sum(len(record.measurements["instances"]["ratio"]) for record in group)),
            f"{ratios[len(ratios) // 2]:.3f}" if ratios else "--",
            f"{ratios[-1]:.3f}" if ratios else "--",
            f"{sum(control['rejected'] for control in false)} of {len(false)}" if false else "--",
            theorems.verdict(group),
        ]
        rows.append(" & ".join(cells) + r" \\")
    return "\n".join([*rows, r"\bottomrule", r"\end{tabular}", ""])
