"""Which line of each proof loses most: the inequalities with the largest and the smallest of the largest ratios."""

from collections.abc import Sequence

from paper.read import theorems
from records import Record

SOURCES = {"theory": ("verify", "theory")}
TIGHT = 0.99


def text(theory: Sequence[Record]) -> str:
    rows = [r"\begin{tabular}{@{}lrrlrlr@{}}", r"\toprule"]
    rows += [
        r" & \multicolumn{2}{c}{inequalities} & \multicolumn{2}{c}{loses most} & \multicolumn{2}{c}{next} \\",
        r"\cmidrule(lr){2-3}\cmidrule(lr){4-5}\cmidrule(l){6-7}",
        rf"statement & all & $\ge{TIGHT}$ & line & ratio & line & ratio \\",
        r"\midrule",
    ]
    for bound, group in theorems.by_bound(theory).items():
        ratios = theorems.inequalities(theorems.lines(group))
        if theorems.refuted(group) or not ratios:
            continue
        worst = list(ratios.items())[::-1][:2]
        named = [[theorems.escaped(name), f"{ratio:.3g}"] for name, ratio in worst] + [["--", "--"]] * (2 - len(worst))
        tight = sum(ratio >= TIGHT for ratio in ratios.values())
        cells = [theorems.title(bound), str(len(ratios)), str(tight), *(cell for pair in named for cell in pair)]
        rows.append(" & ".join(cells) + r" \\")
    return "\n".join([*rows, r"\bottomrule", r"\end{tabular}", ""])
