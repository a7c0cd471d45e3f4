"""Orders of the blocks: held-out loss, and the difference to random reshuffle on the same data."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from paper import paired, studies
from records import Record

STUDIES = {"order": ("train", "order")}


def draw(order: Sequence[Record]) -> Figure:
    found = studies.cells(studies.rows(order), lambda row: row.choice("order").replace("_", " "))
    first = "random reshuffle"
    return paired.draw({name: found[name] for name in sorted(found, key=lambda name: (name != first, name))}, first)
