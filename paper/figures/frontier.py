"""Loss at 135M against the cost of a step at 8B: predicted bytes at the peak, and seconds.

The peak of a small model is mostly its activations; at 8B it is what the method holds. A method must lie in the green
box to need no more than LoRA and reach its loss.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from paper.figures import placement, style
from paper.read import frontier, studies
from paper.read.frontier import Large
from paper.read.names import data_named, named
from records import Record

STUDIES = {
    "variants": ("train", "variants"),
    "methods": ("train", "methods"),
    "predicted": ("profile", frontier.PREDICTED),
    "measured": ("profile", frontier.MEASURED),
    "cost": ("profile", "cost"),
    **{name: ("train", name) for name in studies.REGIME},
}
TARGET_COLOUR = "#009E73"
CARD = 24
"""GB of the card that the method's paper is about."""
BEYOND = 1.5
"""Losses above the upper quartile by more than this many interquartile ranges are named at the top, not drawn."""
BLOCK = "badam"
"""The method in whose colour all block methods are drawn."""


def draw(
    variants: Sequence[Record],
    methods: Sequence[Record],
    predicted: Sequence[Record],
    measured: Sequence[Record],
    cost: Sequence[Record],
    **over_epochs: Sequence[Record],
) -> Figure:
    """A column for each data set: against bytes, and below against seconds where any method was timed.

    In one column there is room for names, else methods have numbers, the same in all panels, and a key below.
    """
    sets = frontier.losses_of(studies.over_epochs(over_epochs), variants, methods)
    every = {data: frontier.large(rows, predicted, measured, cost) for data, rows in sets.items()}
    order = dict.fromkeys(entry.method for entries in every.values() for entry in entries)
    words = {name: named(name) if len(sets) == 1 else str(i) for i, name in enumerate(order, 1)}
    drawn = Figure(figsize=(style.WIDTH, 6.6))
    panels = drawn.subplots(2, len(sets), squeeze=False, sharey="col")
    for (above, below), (data, rows) in zip(panels.T, sets.items(), strict=True):
        shown, beyond = _drawn(every[data])
        for axes, of, scale in ((above, "peak", 1e-9), (below, "seconds", 1.0)):
            points = [(entry, getattr(entry, of) * scale) for entry in shown if getattr(entry, of) is not None]
            if points:
                _panel(axes, points, words)
            else:
                axes.set(xticks=[])
                axes.text(0.5, 0.5, "not run", transform=axes.transAxes, ha="center", color="0.4")
        above.axvline(CARD, color="black", linestyle=":", linewidth=0.9, zorder=1)
        corner = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "fontsize": 7}
        above.annotate(f"{CARD} GB", (CARD, 0), (2, 3), **corner)
        above.set(title=f"{data_named(data)}, {studies.regime(rows)}", xlabel="predicted peak of Llama 3-8B (GB)")
        below.set(xlabel="step of Llama 3-8B (s)")
        if beyond:
            below.set_title(f"above: {', '.join(beyond)}", fontsize=7.5, loc="right")
        for axes in (above, below):
            axes.set(ylabel=f"{studies.part(rows)} loss (nats a token)")
    if len(sets) > 1:
        entries = {entry.method: entry for of_data in every.values() for entry in of_data}
        look = {"linestyle": "", "markersize": 4.5}
        key = [
            Line2D([], [], **_look(entry), **look, label=f"{words[name]}: {named(name)}")
            for name, entry in entries.items()
        ]
        drawn.legend(
            handles=key, loc="outside lower center", ncols=4, fontsize=7, handletextpad=0.2, columnspacing=1.2
        )
    return drawn


def _look(entry: Large) -> dict[str, Any]:
    colour = style.COLOURS[BLOCK] if entry.block else style.colour(entry.method)
    return {"color": colour, "marker": style.MARK if entry.block else style.mark(entry.method)}


def _panel(axes: Axes, points: Sequence[tuple[Large, float]], words: Mapping[str, str]) -> None:
    for entry, x in points:
        loss, look = entry.loss, _look(entry)
        axes.plot([x, x], [loss.low, loss.high], color=look["color"], linewidth=1.2, alpha=0.6, zorder=3)
        axes.plot(x, loss.mean, markersize=4.5, zorder=4, **look)
    axes.set(xscale="log")
    axes.margins(x=0.1, y=0.08)
    for entry, x in points:
        if entry.method == frontier.TARGET:
            (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
            box = Rectangle((left, bottom), x - left, entry.loss.mean - bottom, color=TARGET_COLOUR, alpha=0.15)
            box.set(linewidth=0, zorder=0)
            axes.add_patch(box)
            axes.set(xlim=(left, right), ylim=(bottom, top))
    style.plain_ticks(axes.xaxis)
    places = [(x, entry.loss.mean) for entry, x in points]
    spans = [(entry.loss.low, entry.loss.high) for entry, _ in points]
    placement.label(axes, places, [words[entry.method] for entry, _ in points], spans, size=7)


def _drawn(entries: Sequence[Large]) -> tuple[list[Large], list[str]]:
    """What fits into the panel, and the names and losses of the others."""
    lower, upper = np.percentile([entry.loss.mean for entry in entries], (25, 75))
    top = float(upper + BEYOND * (upper - lower))
    above = [f"{named(entry.method)} ({entry.loss.mean:.2f})" for entry in entries if entry.loss.mean > top]
    return [entry for entry in entries if entry.loss.mean <= top], above
