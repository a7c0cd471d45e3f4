"""Exact match of the study over whole epochs: the share of right answers of each method, and pairs on equal items."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from paper.read import statistics, studies
from paper.read.statistics import Difference, Estimate
from paper.read.studies import Row
from records import Record, RecordError

STUDY = "regime_match"
REFERENCE = "lora"


@dataclass(frozen=True)
class Matched:
    """One method.

    Attributes:
        method: its name.
        share: of right answers, over seeds.
        loss: on the same items, over seeds.
        difference: its share minus the reference's, over seeds and items; None for the reference.
        p: of no difference, two-sided, adjusted by Holm's method over the methods; None for the reference.
        items: that each seed answered.
    """

    method: str
    share: Estimate
    loss: Estimate
    difference: Difference | None
    p: float | None
    items: int


def compared(matched: Iterable[Record]) -> list[Matched]:
    """Every method with at least two seeds, the largest share first.

    Raises:
        RecordError: when two runs answered other items.
    """
    cells = studies.cells(studies.rows(matched), lambda row: row.method)
    asked = {row.record.provenance.get("test_rows") for runs in cells.values() for row in runs}
    if len(asked) > 1:
        raise RecordError(
            f"the runs of {STUDY} answered {len(asked)} different sets of questions; run the study again"
        )
    reference = {row.seed: row for row in cells.get(REFERENCE, ())}
    tests = {
        method: statistics.crossed(pairs)
        for method, runs in cells.items()
        if method != REFERENCE and len(pairs := _pairs(runs, reference)) > 1
    }
    adjusted = dict(zip(tests, statistics.holm([each.p for each in tests.values()]), strict=True))
    made = [
        Matched(
            method,
            statistics.mean([sum(right_of(row)) / len(right_of(row)) for row in runs]),
            statistics.mean([row.reported for row in runs]),
            tests.get(method),
            adjusted.get(method),
            len(right_of(runs[0])),
        )
        for method, runs in cells.items()
        if len(runs) > 1
    ]
    return sorted(made, key=lambda each: -each.share.mean)


def right_of(row: Row) -> Sequence[bool]:
    """Whether each answer of the test part is right."""
    return row.measured["test"]["right"]


def _pairs(runs: Iterable[Row], reference: Mapping[int, Row]) -> list[list[int]]:
    """Right minus right of every item, of every seed that both have."""
    both = [(row, reference[row.seed]) for row in runs if row.seed in reference]
    return [[int(a) - int(b) for a, b in zip(right_of(x), right_of(y), strict=True)] for x, y in both]
