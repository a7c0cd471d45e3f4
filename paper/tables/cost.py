"""Time and memory of every method, as documented and with our options, on one GPU."""

from collections.abc import Sequence

from paper.read import cost as study
from paper.read.formats import thousands
from records import Record

SOURCES = {"cost": ("profile", "cost"), "predicted": ("profile", "cost_predicted")}


def text(cost: Sequence[Record], predicted: Sequence[Record]) -> str:
    everything = study.rows(cost, predicted)
    lines = [r"\begin{tabular}{@{}lrrrrrr@{}}", r"\toprule"]
    lines.append(r" & tokens & step & tokens & of the & peak & predicted \\")
    lines.append(r"method & a step & (s) & a second & floor rate & (GB) & (GB) \\")
    for tokens in sorted({row.tokens for row in everything}, reverse=True):
        lines.append(r"\midrule")
        lines += [_line(row) for row in everything if row.tokens == tokens]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _line(row: study.Row) -> str:
    predicted = f"{row.predicted['peak'] / 1e9:.1f}" if row.predicted else "--"
    cells = [
        f"{row.label}, {study.in_print(row)}"
        + (f" (from {' and '.join(map(str, row.layers))} layers)" if row.layers else ""),
        thousands(row.tokens),
        f"{row.seconds['step']:.3f}",
        thousands(round(row.tokens_per_second)),
        f"{100 * row.share:.0f}\\,\\%",
        f"{row.peak / 1e9:.1f}",
        predicted,
    ]
    return " & ".join(cells) + r" \\"
