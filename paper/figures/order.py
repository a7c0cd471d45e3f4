"""Orders of the blocks: held-out loss, and the difference to random reshuffle on the same data."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from paper.figures import paired
from paper.read import studies
from paper.read.axes import AXES
from records import Record

STUDIES = {"order": ("train", "order")}


def draw(order: Sequence[Record]) -> Figure:
    axis = AXES["order"]
    cells = studies.cells(studies.rows(order), axis.cell)
    names = sorted(cells, key=lambda name: (name != axis.reference, name))
    return paired.draw({name: cells[name] for name in names}, axis.reference)
