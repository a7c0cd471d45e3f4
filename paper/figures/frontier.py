"""Variants of BAdam and the other methods: final loss against peak memory and against the time of a step alone."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from paper.figures import placement, style
from paper.read import frontier, studies
from paper.read.frontier import Entry
from paper.read.names import named
from records import Record

STUDIES = frontier.STUDIES
TARGET_COLOUR = "#009E73"
LEAST = 0.01
"""Nats that a variant must be below BAdam with its whole interval for its name to be written."""
BEYOND = 3.0
"""Losses above the upper quartile by more than this many interquartile ranges are named at the top, not drawn."""


def draw(variants: Sequence[Record], methods: Sequence[Record], steps_alone: Sequence[Record]) -> Figure:
    """The green box is where a variant must lie to need no more than LoRA and reach its loss."""
    entries = frontier.entries(variants, methods, steps_alone)
    part = studies.part([*studies.rows(variants), *studies.rows(methods)])
    memory = [(entry, entry.peak / 1e9) for entry in entries if entry.peak is not None]
    time = [(entry, entry.seconds * 1e3) for entry in entries if entry.seconds is not None]
    shown = [(memory, "peak allocated (GB)"), (time, "time of a step alone (ms)")]
    shown = [(points, text) for points, text in shown if points]
    drawn = Figure(figsize=(style.WIDTH, max(1, len(shown)) * 3.4))
    panels = drawn.subplots(max(1, len(shown)), 1, squeeze=False)[:, 0]
    for axes, (points, text) in zip(panels, shown, strict=False):
        _panel(axes, points)
        axes.set(xlabel=text, ylabel=f"{part} loss (nats a token)")
    return drawn


def _panel(axes: Axes, points: Sequence[tuple[Entry, float]]) -> None:
    points, above = _drawn(points)
    if above:
        axes.set_title(f"above: {', '.join(above)}", fontsize=7.5, loc="right")
    for entry, x in points:
        loss = entry.loss
        colour = style.PAIRED if entry.variant else style.COLOURS.get(entry.method, style.OTHERS)
        axes.plot([x, x], [loss.low, loss.high], color=colour, linewidth=1.2, alpha=0.6, zorder=3)
        mark = "o" if entry.variant else "D"
        axes.plot(x, loss.mean, mark, color=colour, markeredgecolor="white", markersize=5.5, zorder=4)
    axes.margins(x=0.12, y=0.12)
    for entry, x in points:
        if entry.method == frontier.TARGET:
            (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
            box = Rectangle((left, bottom), x - left, entry.loss.mean - bottom, color=TARGET_COLOUR, alpha=0.15)
            box.set(linewidth=0, zorder=0)
            axes.add_patch(box)
            axes.set(xlim=(left, right), ylim=(bottom, top))
    places = [(x, entry.loss.mean) for entry, x in points]
    spans = [(entry.loss.low, entry.loss.high) for entry, _ in points]
    placement.label(axes, places, [_name(entry) for entry, _ in points], spans)


def _name(entry: Entry) -> str:
    """Empty for a variant that may be no better than BAdam: a dozen names at one loss could not be read."""
    gain = entry.against.get("badam")
    return named(entry.method) if not entry.variant or (gain and gain.difference.high < -LEAST) else ""


def _drawn(points: Sequence[tuple[Entry, float]]) -> tuple[list[tuple[Entry, float]], list[str]]:
    """What fits into the panel, and the names and losses of the others."""
    lower, upper = np.percentile([entry.loss.mean for entry, _ in points], (25, 75))
    top = float(upper + BEYOND * (upper - lower))
    above = [f"{named(entry.method)} ({entry.loss.mean:.2f})" for entry, _ in points if entry.loss.mean > top]
    return [point for point in points if point[0].loss.mean <= top], above
