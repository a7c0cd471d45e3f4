"""BAdam's gap to AdamW against how far AdamW moves the weights, over data sets, learning rates and models."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean

from paper.read import statistics, studies
from paper.read.statistics import Estimate
from paper.read.studies import Row

OURS, REFERENCE = "badam", "adamw"
FACTOR = 10.0
"""BAdam's learning rate over AdamW's, by which their runs are pairs."""


@dataclass(frozen=True)
class Point:
    """One data set, model and learning rate.

    Attributes:
        rate: AdamW's.
        moved: relative norm of AdamW's change of all weights, mean over the seeds.
        gap: (BAdam's loss minus AdamW's) / (loss before training minus AdamW's after it), mean over the seeds.
    """

    model: str
    data: str
    rate: float
    moved: float
    gap: Estimate


def points(rows: Iterable[Row]) -> list[Point]:
    """The pairs that share a seed and in which AdamW gains, those that move least first."""
    found = []
    for (model, data), runs in studies.groups(rows, lambda row: (row.model, row.data)).items():
        cells = studies.cells(runs, lambda row: (row.method, row.value("method.lr")))
        for (method, rate), theirs in cells.items():
            ours = [row for (name, lr), cell in cells.items() if name == OURS and _ten_times(lr, rate) for row in cell]
            if method != REFERENCE or not ours:
                continue
            reference = {row.seed: row for row in theirs}
            pairs = [(row, reference[row.seed]) for row in ours if row.seed in reference]
            shares = [(a.loss - b.loss) / (b.before - b.loss) for a, b in pairs if b.before > b.loss]
            if shares and len(shares) == len(pairs):
                moved = fmean(b.measured["spectrum"]["movement"]["relative"] for _, b in pairs)
                found.append(Point(model, data, rate, moved, statistics.mean(shares)))
    return sorted(found, key=lambda point: point.moved)


def _ten_times(ours: float, theirs: float) -> bool:
    return math.isclose(ours, FACTOR * theirs, rel_tol=1e-6)
