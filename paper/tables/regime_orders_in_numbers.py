"""Orders of the blocks and lengths of visits over whole epochs, where layers above the block move too."""

from collections.abc import Sequence

from paper.read import studies
from paper.read.formats import interval, p_value, plus_minus
from paper.read.regime import USUAL, order_and_steps
from records import Record

STUDIES = {"regime_orders": ("train", "regime_orders")}


def text(regime_orders: Sequence[Record]) -> str:
    """p is two-sided, of the difference to random reshuffle with the usual K, adjusted by Holm's method."""
    cells = studies.cells(studies.rows(regime_orders), order_and_steps)
    tests = studies.against({cell: studies.losses(runs) for cell, runs in cells.items()}, USUAL)
    part = studies.part(studies.rows(regime_orders))
    lines = [r"\begin{tabular}{@{}lrrrr@{}}", r"\toprule"]
    lines.append(rf"order and steps a visit & $n$ & {part} loss & minus {USUAL} & $p$ \\")
    lines.append(r"\midrule")
    for cell in sorted(cells, key=lambda cell: studies.loss(cells[cell]).mean):
        test = tests.get(cell)
        row = [cell, str(len(cells[cell])), plus_minus(studies.loss(cells[cell]))]
        row += [interval(test.difference) if test else "--", p_value(test.p) if test else "--"]
        lines.append(" & ".join(row) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])
