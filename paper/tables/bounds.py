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
        found = theorems.summary(group)
        cells = [
            theorems.title(bound),
            str(len(group)),
            str(found.lines),
            thousands(found.checks),
            "--" if found.resolved is None else rf"{100 * found.resolved:.1f}\,\%",
            str(found.instances),
            *("--" if ratio is None else f"{ratio:.3f}" for ratio in (found.median, found.largest)),
            f"{found.rejected} of {found.controls}" if found.controls else "--",
            theorems.verdict(group),
        ]
        rows.append(" & ".join(cells) + r" \\")
    return "\n".join([*rows, r"\bottomrule", r"\end{tabular}", ""])
