"""Speed of the runs that were measured on two cards, against the floor and the reference of the same card."""

from collections.abc import Sequence

from paper.read import cost as study
from paper.read.formats import thousands
from records import Record

SOURCES = {"cost": ("profile", "cost"), "other": ("profile", "cost_h200")}


def text(cost: Sequence[Record], other: Sequence[Record]) -> str:
    """x ref.: tokens a second over those of badam 1.4 as documented with as many tokens a step."""
    cards = [study.card_name(records) for records in (cost, other)]
    lines = [r"\begin{tabular}{@{}lr*{2}{rrr}@{}}", r"\toprule"]
    lines.append(" & tokens" + "".join(rf" & \multicolumn{{3}}{{c}}{{{each}}}" for each in cards) + r" \\")
    lines.append(r"\cmidrule(lr){3-5}\cmidrule(l){6-8}")
    lines.append("method & a step" + r" & tokens/s & of floor & $\times$ ref." * len(cards) + r" \\")
    pairs = study.on_both(cost, other)
    for tokens in sorted({first.tokens for first, _ in pairs}, reverse=True):
        lines.append(r"\midrule")
        lines += [_line(pair, pairs) for pair in pairs if pair[0].tokens == tokens]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _line(pair: tuple[study.Row, study.Row], pairs: Sequence[tuple[study.Row, study.Row]]) -> str:
    cells = [f"{pair[0].label}, {study.in_print(pair[0])}", thousands(pair[0].tokens)]
    for row, everything in zip(pair, zip(*pairs, strict=True), strict=True):
        cells.append(thousands(round(row.tokens_per_second)))
        cells.append(f"{100 * row.share:.1f}\\,\\%")
        cells.append(study.times(row, study.reference(everything, row.tokens)) if row.family != "reference" else "--")
    return " & ".join(cells) + r" \\"
