"""Bytes of weights, gradients and optimizer state for each method: measured beside predicted."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from paper.figures import style
from paper.runs import label, ordered
from records import Record

SOURCES = {"quick": ("train", "quick")}
CATEGORIES = {"weights": "#999999", "gradients": "#E69F00", "state": "#0072B2"}


def draw(quick: Sequence[Record]) -> Figure:
    drawn, (axes,) = style.figure(height=2.8)
    records = ordered(quick)
    places = np.arange(len(records))
    for kind, offset, hatch in (("predicted_bytes", -0.2, "///"), ("measured_bytes", 0.2, "")):
        bottom = np.zeros(len(records))
        for category, colour in CATEGORIES.items():
            height = np.array([record.measurements[kind][category] for record in records]) / 1e9
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
    axes.set_xticks(places, [label(record) for record in records])
    axes.set(ylabel="bytes at the peak (GB)")
    axes.grid(visible=False, axis="x")
    axes.legend(ncols=4, loc="lower left", bbox_to_anchor=(0, 1.0))
    return drawn
