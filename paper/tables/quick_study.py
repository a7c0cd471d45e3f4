"""The quick study in numbers: what is trained, held-out loss, exact match, time and memory of each method."""

import math
from collections.abc import Sequence

from paper.runs import label, ordered
from paper.studies import steps
from records import Record

SOURCES = {"quick": ("train", "quick")}


def text(quick: Sequence[Record]) -> str:
    rows = [_row(record) for record in ordered(quick)]
    before = quick[0].measurements["before"]
    untrained = f"untrained & -- & -- & {before['heldout_loss']:.3f} & {_share(before)} & -- & --"
    head = r" & trained & learning & held-out & exact & time & gradients and"
    under = r"method & (M) & rate & loss & match (\%) & (s) & state (MB)"
    lines = [r"\begin{tabular}{@{}lrrrrrr@{}}", r"\toprule", head + r" \\", under + r" \\", r"\midrule"]
    body = [row + r" \\" for row in (untrained, *rows)]
    return "\n".join([*lines, *body, r"\bottomrule", r"\end{tabular}", ""])


def _row(record: Record) -> str:
    measured = record.measurements
    held = measured["measured_bytes"]
    cells = [
        label(record),
        f"{measured['trained_parameters'] / 1e6:.1f}",
        f"${power(record.config['method']['lr'])}$",
        f"{measured['after']['heldout_loss']:.3f}",
        _share(measured["after"]),
        f"{sum(steps(record)['seconds']):.0f}",
        f"{(held['gradients'] + held['state']) / 1e6:.1f}",
    ]
    return " & ".join(cells)


def _share(evaluation: dict) -> str:
    """Percent with its standard error sqrt(p (1 - p) / n)."""
    share = evaluation["exact_match"]
    error = math.sqrt(share * (1 - share) / evaluation["items"])
    return f"${100 * share:.1f} \\pm {100 * error:.1f}$"


def power(value: float) -> str:
    """As in 3 x 10^-4."""
    mantissa, exponent = f"{value:.0e}".split("e")
    return f"{mantissa} \\times 10^{{{int(exponent)}}}"
