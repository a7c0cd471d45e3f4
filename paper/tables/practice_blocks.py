"""Measured constants of each block, and one visit: what Theorems B1+ and B2 promise and what was observed."""

from collections.abc import Sequence

from paper.read.formats import scientific
from paper.read.practice import SHOWN_RATE, SHOWN_STEPS, states, step_of, visit
from records import Record

SOURCES = {"practice": ("verify", "practice")}


def text(practice: Sequence[Record]) -> str:
    head = r"steps & block & $\norm{g}$ & $\norm{g}_1$ & $\norm{H_{ii}}$ & $s^\top\! H_{ii} s/(\norm{H_{ii}} d)$"
    under = r" & B1$^+$ & B2 & observed"
    lines = [r"\begin{tabular}{@{}rrrrrrrrr@{}}", r"\toprule", head + under + r" \\", r"\midrule"]
    for state in states(practice):
        promised = step_of(state, SHOWN_STEPS)["promised"]
        for block in state["sources"]:
            seen = visit(state, block["block"], SHOWN_RATE, SHOWN_STEPS)
            gradient, L = block["gradient"], block["curvature"]["value"]
            cells = [
                str(state["steps"]),
                str(block["block"]),
                f"{gradient['norm']:.2f}",
                f"{gradient['l1']:.0f}",
                f"{L:.1f}",
                f"{block['bend'] / (L * block['size']):.4f}",
                f"${scientific(promised[str(block['block'])], digits=1)}$",
                f"${scientific(seen['b2_best'], digits=1)}$",
                f"{seen['observed']:.3f}",
            ]
            lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])
