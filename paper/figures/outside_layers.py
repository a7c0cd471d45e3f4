"""What BAdam trains besides the layers: embedding (with the tied head) and final norm."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from paper.figures import paired
from paper.read import studies
from paper.read.axes import AXES
from records import Record

STUDIES = {"outside_layers": ("train", "outside_layers")}


def draw(outside_layers: Sequence[Record]) -> Figure:
    axis = AXES["outside_layers"]
    cells = studies.cells(studies.rows(outside_layers), axis.cell)
    names = sorted(cells, key=lambda name: (name != axis.reference, len(name)))
    return paired.draw({name: cells[name] for name in names}, axis.reference)
