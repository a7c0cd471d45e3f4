"""What BAdam loses to AdamW and LoRA, taken apart: of each cause the choice with the lowest loss, against BAdam."""

from collections.abc import Sequence

from paper.read import gap
from paper.read.formats import interval, p_value
from paper.read.names import named
from records import Record

STUDIES = gap.STUDIES


def text(**records: Sequence[Record]) -> str:
    """A share above 0 is a part of the gap that is closed.

    p is of the differences paired by seed, and where seeds are few also of the additive model over all cells.
    """
    causes = gap.causes(**records)
    pooled = gap.beside(causes)
    wide = {name: whole for name, whole in gap.gaps(records["methods"]).items() if whole.mean > 0}
    lines = [rf"\begin{{tabular}}{{@{{}}llrrr{'r' * (pooled + len(wide))}@{{}}}}", r"\toprule"]
    if wide:
        p = r"\multicolumn{2}{c}{$p$}" if pooled else ""
        lines.append(rf" & & & & {p} & \multicolumn{{{len(wide)}}}{{c@{{}}}}{{\% of the gap to}} \\")
    p = ["paired", "pooled"] if pooled else ["$p$"]
    heads = ["cause", "best choice", "of", r"change of the loss", *p, *map(named, wide)]
    lines.append(" & ".join(heads) + r" \\")
    lines.append(r"\midrule")
    for cause in causes:
        d = cause.difference
        shares = [f"${round(-100 * d.mean / whole.mean):+d}$" for whole in wide.values()]
        p = [p_value(cause.p), *([p_value(cause.pooled)] if pooled else [])]
        cells = [cause.name, cause.choice, str(cause.number), interval(d), *p, *shares]
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])
