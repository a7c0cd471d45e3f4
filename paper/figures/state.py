"""Optimizer state between the visits of a block: made anew or kept, with and without warm-up after a switch."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from paper import paired, studies
from paper.studies import Row
from records import Record

STUDIES = {"state": ("train", "state")}
NAMES = {"reset": "reset", "host": "kept on the host", "device": "kept on the device"}


def draw(state: Sequence[Record]) -> Figure:
    return paired.draw(studies.cells(sorted(studies.rows(state), key=_place), name), "reset")


def name(row: Row) -> str:
    """State and warm-up in print."""
    state, warmup = str(row.value("method.state")), row.value("method.switch_warmup")
    return NAMES.get(state, state) + (f", {warmup} steps of warm-up" if warmup else "")


def _place(row: Row) -> tuple[int, int]:
    return row.value("method.switch_warmup") or 0, list(NAMES).index(row.value("method.state"))
