"""What BAdam loses to AdamW and LoRA, taken apart: the causes that the studies vary, and what each choice gains."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from paper.read import statistics, studies
from paper.read.axes import AXES, inner_steps
from paper.read.names import named
from paper.read.statistics import Difference
from paper.read.studies import Row
from records import Record

STUDIES = {
    "variants": ("train", "variants"),
    "methods": ("train", "methods"),
    **{study: ("train", study) for study in AXES},
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
CAUSES = {
    "steps a visit": "inner_steps",
    "order": "order",
    "state": "state",
    "outside the layers": "outside_layers",
    "partition": "partition",
}
"""Cause -> the study that varies it."""


@dataclass(frozen=True)
class Cause:
    """One cause.

    Attributes:
        choice: the one with the lowest loss of so many.
        p: two-sided, adjusted over all choices.
    """

    name: str
    choice: str
    number: int
    difference: Difference
    p: float


def causes(**records: Sequence[Record]) -> list[Cause]:
    """Those that there are runs for, the largest gain first."""
    compared = [(cause, choice, d) for cause, choice, d in differences(records) if d is not None]
    adjusted = statistics.holm([d.p for _, _, d in compared])
    choices: dict[str, list[tuple[str, Difference, float]]] = {}
    for (cause, choice, difference), p in zip(compared, adjusted, strict=True):
        choices.setdefault(cause, []).append((choice, difference, p))
    best = []
    for cause, tried in choices.items():
        choice, difference, p = min(tried, key=lambda entry: entry[1].mean)
        best.append(Cause(cause, choice, len(tried), difference, p))
    return sorted(best, key=lambda cause: cause.difference.mean)


def gaps(methods: Sequence[Record]) -> dict[str, Difference]:
    """Method of `GAPS` -> BAdam's loss minus its."""
    losses = _losses(studies.cells(studies.rows(methods), lambda row: row.method))
    differences = {name: statistics.contrast({BADAM: 1, name: -1}, losses) for name in GAPS}
    return {name: difference for name, difference in differences.items() if difference is not None}


def differences(records: Mapping[str, Sequence[Record]]) -> Iterator[tuple[str, str, Difference | None]]:
    """Cause, choice in print and its loss minus BAdam's, on the same data; None where there are no pairs."""
    methods = [row for row in studies.rows(records["methods"]) if row.method == BADAM]
    losses = _losses(studies.cells([*methods, *studies.rows(records["variants"])], lambda row: row.method))
    for cause, names in VARIANTS.items():
        for short in names:
            name = short if short.startswith("bread") else f"{BADAM}_{short}"
            yield cause, named(name), statistics.contrast({name: 1, BADAM: -1}, losses)
    usual = next((inner_steps(row) for row in methods), None)
    for cause, study in CAUSES.items():
        losses = _losses(studies.cells(studies.rows(records.get(study, ())), AXES[study].cell))
        reference = AXES[study].reference or usual
        for choice in losses:
            if reference is not None and choice != reference:
                yield cause, choice, statistics.contrast({choice: 1, reference: -1}, losses)


def _losses(cells: Mapping[Any, Sequence[Row]]) -> dict[Any, dict[int, float]]:
    return {cell: studies.losses(runs) for cell, runs in cells.items()}
