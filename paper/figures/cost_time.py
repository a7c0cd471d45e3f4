"""Time of a step split into forward, backward and update, for each method as documented and with options."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from paper.figures import style
from paper.read import cost as study
from records import Record

SOURCES = {"cost": ("profile", "cost")}
TOKENS = 8192
COLOURS = {"forward": "#56B4E9", "backward": "#0072B2", "update": "#E69F00"}


def draw(cost: Sequence[Record]) -> Figure:
    shown = study.compared(study.rows(cost), TOKENS)[::-1]
    places = study.places_by_family(shown)
    drawn, (axes,) = style.figure(height=0.5 + 0.24 * (max(places) + 1))
    left = np.zeros(len(shown))
    for phase, colour in COLOURS.items():
        width = np.array([row.seconds[phase] for row in shown])
        axes.barh(places, width, 0.7, left=left, color=colour, label=phase)
        left += width
    for place, row in zip(places, shown, strict=True):
        if row.options.products == "float8":  # the rate of 8-bit products alone was not measured
            continue
        floor = row.share * row.seconds["step"]
        axes.plot([floor, floor], [place - 0.4, place + 0.4], color="black", linewidth=1.4)
    axes.plot([], [], color="black", linewidth=1.4, label="floor of its arithmetic")
    axes.set_yticks(places, study.names_by_family(shown))
    axes.tick_params(axis="y", labelsize=7)
    axes.set(xlabel=f"seconds a step of {TOKENS:,} tokens")
    axes.grid(visible=False, axis="y")
    axes.legend(ncols=4, loc="lower left", bbox_to_anchor=(0, 1.0))
    return drawn
