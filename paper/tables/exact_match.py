"""Exact match over whole epochs: every method, and its difference to LoRA over seeds and items."""

from collections.abc import Sequence

from paper.read import matches
from paper.read.formats import p_value, percent, plus_minus
from paper.read.names import named
from records import Record

STUDIES = {matches.STUDY: ("train", matches.STUDY)}


def text(regime_match: Sequence[Record]) -> str:
    """The methods, the largest share first; differences in points."""
    lines = [r"\begin{tabular}{@{}lrrrrrr@{}}", r"\toprule"]
    lines.append(
        rf"method & seeds & right (\%) & loss & minus {named(matches.REFERENCE)} (points) & $p$ & detectable \\"
    )
    lines.append(r"\midrule")
    for each in matches.compared(regime_match):
        cells = [named(each.method), str(each.share.n), percent(each.share.mean), plus_minus(each.loss)]
        if (found := each.difference) is None:
            cells += ["--"] * 3
        else:
            points = [100 * value for value in (found.mean, found.low, found.high)]
            cells.append("${:+.1f}$ $[{:+.1f}, {:+.1f}]$".format(*points))
            cells += [p_value(each.p), f"{100 * found.smallest_detectable():.1f}"]
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])
