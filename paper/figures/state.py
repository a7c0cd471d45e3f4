"""Optimizer state between the visits of a block: made anew or kept, with and without warm-up after a switch."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from paper.figures import paired
from paper.read import studies
from paper.read.axes import AXES, STATES
from paper.read.studies import Row
from records import Record

STUDIES = {"state": ("train", "state")}


def draw(state: Sequence[Record]) -> Figure:
    axis = AXES["state"]
    return paired.draw(studies.cells(sorted(studies.rows(state), key=_place), axis.cell), axis.reference)


def _place(row: Row) -> tuple[int, int]:
    return row.value("method.switch_warmup") or 0, list(STATES).index(row.value("method.state"))
