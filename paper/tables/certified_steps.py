"""How long the steps of BAdam may be: the limit of Theorem B1 and what certificates prove, over K and the sector."""

from collections.abc import Sequence

from records import Record

SOURCES = {"worst_case": ("verify", "worst_case")}


def text(worst_case: Sequence[Record]) -> str:
    (record,) = worst_case
    descent = record.measurements["descent"]
    ratios = descent["certified"]
    rows = [rf"\begin{{tabular}}{{@{{}}rr{'r' * len(ratios)}@{{}}}}", r"\toprule"]
    rows.append(rf" & Theorem B1 & \multicolumn{{{len(ratios)}}}{{c}}{{certified, $h_{{\max}}/h_{{\min}}$}} \\")
    rows.append(rf"\cmidrule(l){{3-{2 + len(ratios)}}}")
    rows += [r"$K$ & $a_{\max}$ & " + " & ".join(ratios) + r" \\", r"\midrule"]
    for row, (K, limit) in enumerate(zip(descent["inner_steps"], descent["theorem"], strict=True)):
        cells = [str(K), f"{limit:.3f}", *(f"{proved[row]:.2f}" for proved in ratios.values())]
        rows.append(" & ".join(cells) + r" \\")
    return "\n".join([*rows, r"\bottomrule", r"\end{tabular}", ""])
