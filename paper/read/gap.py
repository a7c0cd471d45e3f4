"""What BAdam loses to AdamW and LoRA, taken apart: the causes that the studies vary, and what each choice gains."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
ENOUGH = 5
"""Seeds from which on the test paired by seed stands alone; with fewer the additive model stands beside it."""
VARIANTS = {
    "size of a block": ("blocks2", "blocks5", "blocks10", "blocks5_slow"),
    "overlapping blocks": ("window2", "window5"),
    "other blocks move too": ("bread", "bread_low_rank"),
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
        p: two-sided, of the difference paired by seed, adjusted over all choices.
        pooled: the same under the additive model over all cells; None where that has nothing to estimate noise from.
    """

    name: str
    choice: str
    number: int
    difference: Difference
    p: float
    pooled: float | None


def causes(**records: Sequence[Record]) -> list[Cause]:
    """Those that there are runs for, the largest gain first."""
    compared = choices(**records)
    best = []
    for cause in dict.fromkeys(each.name for each in compared):
        tried = [each for each in compared if each.name == cause]
        best.append(replace(min(tried, key=lambda each: each.difference.mean), number=len(tried)))
    return sorted(best, key=lambda cause: cause.difference.mean)


def beside(causes: Sequence[Cause]) -> bool:
    """Whether the additive model is shown beside the paired tests: some choice has too few seeds for those alone."""
    few = any(cause.difference.n < ENOUGH for cause in causes)
    return few and all(cause.pooled is not None for cause in causes)


def choices(**records: Sequence[Record]) -> list[Cause]:
    """Every choice that there are runs for, as a cause of one."""
    compared = [(cause, choice, d) for cause, choice, d in differences(records) if d is not None]
    adjusted = statistics.holm([d.p for _, _, d in compared])
    together = pooled(records)
    p = [together.get((cause, choice)) for cause, choice, _ in compared]
    shared: Sequence[float | None] = [None] * len(p)
    if None not in p:
        shared = statistics.holm([d.p for d in p if d is not None])
    return [
        Cause(cause, choice, 1, difference, one, other)
        for (cause, choice, difference), one, other in zip(compared, adjusted, shared, strict=True)
    ]


def pooled(records: Mapping[str, Sequence[Record]]) -> dict[tuple[str, str], Difference]:
    """Cause and choice -> its loss minus BAdam's under `statistics.additive`; shared runs are counted once."""
    cells: dict[Any, dict[int, float]] = {}
    cell_of: dict[str, Any] = {}
    wanted: dict[tuple[str, str], tuple[Any, Any]] = {}

    def add(name: Any, runs: Sequence[Row]) -> Any:
        cell = next((cell_of[row.record.key] for row in runs if row.record.key in cell_of), name)
        for row in runs:
            if row.record.key not in cell_of:
                cell_of[row.record.key] = cell
                cells.setdefault(cell, {})[row.seed] = row.reported
        return cell

    methods = [row for row in studies.rows(records["methods"]) if row.method == BADAM]
    every = studies.cells([*methods, *studies.rows(records["variants"])], lambda row: row.method)
    places = {name: add(("variants", name), runs) for name, runs in every.items()}
    usual = next((inner_steps(row) for row in methods), None)
    for cause, names in VARIANTS.items():
        for name in map(_in_full, names):
            if BADAM in places and name in places:
                wanted[cause, named(name)] = places[name], places[BADAM]
    for cause, study in CAUSES.items():
        of_study = studies.cells(studies.rows(records.get(study, ())), AXES[study].cell)
        there = {choice: add((study, choice), runs) for choice, runs in of_study.items()}
        reference = AXES[study].reference or usual
        if reference in there:
            wanted |= {(cause, choice): (there[choice], there[reference]) for choice in there if choice != reference}
    try:
        difference = statistics.additive(cells)
    except ValueError:
        return {}
    return {key: difference(*pair) for key, pair in wanted.items()}


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
            name = _in_full(short)
            yield cause, named(name), statistics.contrast({name: 1, BADAM: -1}, losses)
    usual = next((inner_steps(row) for row in methods), None)
    for cause, study in CAUSES.items():
        losses = _losses(studies.cells(studies.rows(records.get(study, ())), AXES[study].cell))
        reference = AXES[study].reference or usual
        for choice in losses:
            if reference is not None and choice != reference:
                yield cause, choice, statistics.contrast({choice: 1, reference: -1}, losses)


def _in_full(short: str) -> str:
    return short if short.startswith("bread") else f"{BADAM}_{short}"


def _losses(cells: Mapping[Any, Sequence[Row]]) -> dict[Any, dict[int, float]]:
    return {cell: studies.losses(runs) for cell, runs in cells.items()}
