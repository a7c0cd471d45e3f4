"""What BAdam loses to AdamW and LoRA, taken apart: of each cause the choice with the lowest loss, against BAdam."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paper import statistics, studies
from paper.figures.outside_layers import FROZEN
from paper.figures.outside_layers import name as outside_name
from paper.figures.state import name as state_name
from paper.runs import named
from paper.statistics import Difference
from paper.studies import Row
from paper.tables.claims import p_value
from records import Record

STUDIES = {
    "variants": ("train", "variants"),
    "methods": ("train", "methods"),
    **{name: ("train", name) for name in ("inner_steps", "order", "state", "outside_layers", "partition")},
}
BADAM, GAPS = "badam", ("lora", "adamw")
VARIANTS = {
    "size of a block": ("blocks2", "blocks5", "blocks10", "blocks5_slow"),
    "overlapping blocks": ("window2", "window5"),
    "the other blocks move too": ("bread", "bread_low_rank"),
    "two causes at once": ("bread_blocks5", "blocks5_embedding"),
    "embedding always active": ("embedding",),
    "averaged weights": ("average_steps", "average_visits"),
    "bfloat16 weights": ("bf16",),
    "bfloat16 with a master": ("bf16_exact", "bf16_remainder"),
}
"""Cause -> variants, without the first part of their names where that is badam."""
LEFT_OUT = {"badam_kept": "of the study of state", "badam_cost_aware": "of the study of the order"}
"""Variants that another study has."""
AXES: dict[str, tuple[str, Callable[[Row], str], str | None]] = {
    "steps a visit": ("inner_steps", lambda row: f"$K={row.value('method.inner_steps')}$", None),
    "order": ("order", lambda row: row.choice("order").replace("_", " "), "random reshuffle"),
    "state": ("state", state_name, "reset"),
    "outside the layers": ("outside_layers", outside_name, FROZEN),
    "partition": ("partition", lambda row: row.choice("partition").replace("_", " "), "by layer"),
}
"""Cause -> study, what a cell of it is, and the cell that is BAdam; None: that with the K of the other studies."""


@dataclass(frozen=True)
class Cause:
    """One cause.     choice: the one with the lowest loss of so many.     p: two-sided, adjusted over all choices."""

    name: str
    choice: str
    number: int
    difference: Difference
    p: float


def causes(**records: Sequence[Record]) -> list[Cause]:
    """Those that there are runs for, the largest gain first."""
    found = [(cause, choice, d) for cause, choice, d in _differences(records) if d is not None]
    adjusted = statistics.holm([d.p for _, _, d in found])
    choices: dict[str, list[tuple[str, Difference, float]]] = {}
    for (cause, choice, difference), p in zip(found, adjusted, strict=True):
        choices.setdefault(cause, []).append((choice, difference, p))
    best = []
    for cause, tried in choices.items():
        choice, difference, p = min(tried, key=lambda entry: entry[1].mean)
        best.append(Cause(cause, choice, len(tried), difference, p))
    return sorted(best, key=lambda cause: cause.difference.mean)


def gaps(methods: Sequence[Record]) -> dict[str, Difference]:
    """Method of `GAPS` -> BAdam's loss minus its."""
    losses = _losses(studies.cells(studies.rows(methods), lambda row: row.method))
    found = {name: statistics.contrast({BADAM: 1, name: -1}, losses) for name in GAPS}
    return {name: difference for name, difference in found.items() if difference is not None}


def text(**records: Sequence[Record]) -> str:
    """A share above 0 is a part of the gap that is closed."""
    wide = {name: gap for name, gap in gaps(records["methods"]).items() if gap.mean > 0}
    lines = [rf"\begin{{tabular}}{{@{{}}llrrr{'r' * len(wide)}@{{}}}}", r"\toprule"]
    if wide:
        lines.append(rf" & & & & & \multicolumn{{{len(wide)}}}{{c@{{}}}}{{of the gap to}} \\")
    heads = ["cause", "best choice", "of", r"change of the loss", "$p$", *map(named, wide)]
    lines.append(" & ".join(heads) + r" \\")
    lines.append(r"\midrule")
    for cause in causes(**records):
        d = cause.difference
        shares = [rf"${round(-100 * d.mean / gap.mean):+d}\,\%$" for gap in wide.values()]
        change = f"${d.mean:+.3f}$ $[{d.low:+.3f}, {d.high:+.3f}]$"
        lines.append(
            " & ".join([cause.name, cause.choice, str(cause.number), change, p_value(cause.p), *shares]) + r" \\"
        )
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _differences(records: Mapping[str, Sequence[Record]]) -> Iterator[tuple[str, str, Difference | None]]:
    """Cause, choice in print and its loss minus BAdam's, on the same data; None where there are no pairs."""
    methods = [row for row in studies.rows(records["methods"]) if row.method == BADAM]
    losses = _losses(studies.cells([*methods, *studies.rows(records["variants"])], lambda row: row.method))
    for cause, names in VARIANTS.items():
        for short in names:
            name = short if short.startswith("bread") else f"{BADAM}_{short}"
            yield cause, named(name), statistics.contrast({name: 1, BADAM: -1}, losses)
    usual = next((f"$K={row.value('method.inner_steps')}$" for row in methods), None)
    for cause, (study, of, given) in AXES.items():
        losses = _losses(studies.cells(studies.rows(records.get(study, ())), of))
        reference = given or usual
        for choice in losses:
            if reference is not None and choice != reference:
                yield cause, choice, statistics.contrast({choice: 1, reference: -1}, losses)


def _losses(cells: Mapping[Any, Sequence[Row]]) -> dict[Any, dict[int, float]]:
    return {cell: studies.losses(runs) for cell, runs in cells.items()}
