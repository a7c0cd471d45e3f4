"""The quick study in numbers: what is trained, held-out loss, exact match, time and memory of each method."""

import math
from collections.abc import Sequence

from paper.read import studies
from paper.read.formats import scientific
from paper.read.studies import Row
from records import Record

SOURCES = {"quick": ("train", "quick")}


def text(quick: Sequence[Record]) -> str:
    rows = studies.rows(quick)
    first = rows[0]
    before = _share(first.match_before, first.items)
    untrained = f"untrained & -- & -- & {first.before:.3f} & {before} & -- & --"
    head = r" & trained & learning & held-out & exact & time & gradients and"
    under = r"method & (M) & rate & loss & match (\%) & (s) & state (MB)"
    lines = [r"\begin{tabular}{@{}lrrrrrr@{}}", r"\toprule", head + r" \\", under + r" \\", r"\midrule"]
    body = [line + r" \\" for line in (untrained, *map(_line, rows))]
    return "\n".join([*lines, *body, r"\bottomrule", r"\end{tabular}", ""])


def _line(row: Row) -> str:
    cells = [
        row.label,
        f"{row.trained_parameters / 1e6:.1f}",
        f"${scientific(row.value('method.lr'))}$",
        f"{row.loss:.3f}",
        _share(row.match, row.items),
        f"{sum(row.steps['seconds']):.0f}",
        f"{row.held / 1e6:.1f}",
    ]
    return " & ".join(cells)


def _share(share: float, items: int) -> str:
    """Percent with its standard error sqrt(p (1 - p) / n)."""
    error = math.sqrt(share * (1 - share) / items)
    return f"${100 * share:.1f} \\pm {100 * error:.1f}$"
