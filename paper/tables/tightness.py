"""How tight the theorems are: for each the largest ratio of its lines that the adversary finds."""

from collections.abc import Mapping, Sequence
from typing import Any

from paper.read.theorems import line, theorem
from records import Record

SOURCES = {"adversary": ("verify", "adversary")}
PLACES = {
    "a1_pair": "two scalar blocks, $K=1$",
    "a2": "Huber, one variable",
    "a3": "two coordinates",
    "a3_wave": "$u^2+3\\sin^2u$",
    "a5_pair": "two scalar blocks",
    "a6": "two coordinates",
    "b1_plus_one": "$D=1$, $K=1$",
    "b1_plus_pair": "$D=2$, $K=1$",
    "b2_one": "$D=1$, $K=1$",
    "c1": "three scalar blocks",
    "c2": "three scalar blocks",
    "c3": "two scalar blocks, uniform",
    "c3_one": "one variable, uniform",
    "a5": "three scalar blocks",
    "e_pair": "two scalar blocks",
    "f1_one": "$D=1$, $K=1$",
    "f2_one": "$D=1$, $K=1$, no noise",
}
OTHERS = "three coordinates, $D\\leq3$"


def text(adversary: Sequence[Record]) -> str:
    rows = adversary[0].measurements["tightness"]
    lines = [r"\begin{tabular}{@{}lllr@{}}", r"\toprule", r"theorem & where & line & best ratio \\", r"\midrule"]
    for name in dict.fromkeys(row["target"] for row in rows):
        of_target = [row for row in rows if row["target"] == name]
        shown = [row for row in of_target if row["least"] is not None] or _ends(of_target)
        for place, row in enumerate(shown):
            first = [theorem(row["bound"]), PLACES.get(name, OTHERS)] if not place else ["", ""]
            lines.append(" & ".join([*first, line(row["line"]), f"{row['ratio']:.4f}"]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _ends(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The tightest and the loosest line of a target."""
    ordered = sorted(rows, key=lambda row: row["ratio"])
    return ordered[-1:] + (ordered[:1] if len(ordered) > 1 else [])
