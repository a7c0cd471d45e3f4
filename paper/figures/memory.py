"""Bytes of weights, gradients and optimizer state for each method: measured beside predicted."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from paper.figures import style
from paper.read import studies
from records import Record

SOURCES = {"quick": ("train", "quick")}
CATEGORIES = {"weights": "#999999", "gradients": "#E69F00", "state": "#0072B2"}


def draw(quick: Sequence[Record]) -> Figure:
    drawn, (axes,) = style.figure(height=2.8)
    rows = studies.rows(quick)
    places = np.arange(len(rows))
    predicted, measured = [row.predicted_bytes for row in rows], [row.bytes for row in rows]
    for every, offset, hatch in ((predicted, -0.2, "///"), (measured, 0.2, "")):
        bottom = np.zeros(len(rows))
        for category, colour in CATEGORIES.items():
            height = np.array([held[category] for held in every]) / 1e9
            name = {"state": "optimizer state"}.get(category, category)
            axes.bar(
                places + offset,
                height,
                0.36,
                bottom=bottom,
                color=colour,
                hatch=hatch,
                edgecolor="white",
                linewidth=0.4,
                label=name if not hatch else None,
            )
            bottom += height
    axes.bar(0, 0, color="#cccccc", hatch="///", edgecolor="white", label="(hatched: predicted)")
    axes.set_xticks(places, [row.label for row in rows])
    axes.set(ylabel="bytes at the peak (GB)")
    axes.grid(visible=False, axis="x")
    axes.legend(ncols=4, loc="lower left", bbox_to_anchor=(0, 1.0))
    return drawn
