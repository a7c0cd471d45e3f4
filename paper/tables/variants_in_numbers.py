"""Variants of BAdam beside LoRA: loss, memory and time, and whether all three are within LoRA's."""

from collections.abc import Sequence

from paper.read import frontier, studies
from paper.read.formats import p_value, plus_minus, scientific
from paper.read.names import named
from records import Record

STUDIES = frontier.STUDIES


def text(variants: Sequence[Record], methods: Sequence[Record], steps_alone: Sequence[Record]) -> str:
    """p is two-sided, for the difference to LoRA, adjusted by Holm's method."""
    lines = [r"\begin{tabular}{@{}lrrrrrrrl@{}}", r"\toprule"]
    part = studies.part([*studies.rows(variants), *studies.rows(methods)])
    lines.append(rf" & learning & {part} & minus & minus & & peak & step & within \\")
    lines.append(r"variant & rate & loss & BAdam & LoRA & $p$ & (GB) & (ms) & LoRA's \\")
    lines.append(r"\midrule")
    for entry in frontier.entries(variants, methods, steps_alone):
        to_badam, to_lora = entry.against.get("badam"), entry.against.get(frontier.TARGET)
        cells = [
            named(entry.method),
            f"${scientific(entry.rate)}$",
            plus_minus(entry.loss),
            f"${to_badam.difference.mean:+.3f}$" if to_badam else "--",
            f"${to_lora.difference.mean:+.3f}$" if to_lora else "--",
            p_value(to_lora.p) if to_lora else "--",
            f"{entry.peak / 1e9:.2f}" if entry.peak is not None else "--",
            f"{1e3 * entry.seconds:.1f}" if entry.seconds is not None else "--",
            {True: "yes", False: "no", None: "--"}[entry.within],
        ]
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])
