"""Bytes at the peak of a step by category, for each method as documented: measured beside predicted."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from paper import cost as study
from paper.figures import style
from records import Record

SOURCES = {"cost": ("profile", "cost"), "predicted": ("profile", "cost_predicted")}
TOKENS = 8192
COLOURS = {"weights": "#999999", "master": "#56B4E9", "state": "#0072B2", "gradients": "#E69F00"}
REST = "#CC79A7"


def draw(cost: Sequence[Record], predicted: Sequence[Record]) -> Figure:
    drawn, (axes,) = style.figure(height=3.2)
    shown = study.compared(study.rows(cost, predicted), TOKENS)
    places = np.arange(len(shown))
    for offset, hatch in ((-0.2, "///"), (0.2, "")):
        held = [row.predicted if hatch else row.held for row in shown]
        peaks = np.array([(row.predicted.get("peak", 0.0) if hatch else row.peak) / 1e9 for row in shown])
        bottom = np.zeros(len(shown))
        for category, colour in COLOURS.items():
            height = np.array([one.get(category, 0.0) for one in held]) / 1e9
            name = {"state": "optimizer state", "master": "float32 master"}.get(category, category)
            _bars(axes, places + offset, height, bottom, colour, hatch, "" if hatch else name)
            bottom += height
        rest = np.maximum(peaks - bottom, 0)
        _bars(axes, places + offset, rest, bottom, REST, hatch, "" if hatch else "activations, loss, temporary")
    axes.bar(0, 0, color="#cccccc", hatch="///", edgecolor="white", label="(hatched: predicted)")
    names = [f"{row.label}\n{study.in_print(row)}" for row in shown]
    axes.set_xticks(places, [name + ("*" if row.layers else "") for name, row in zip(names, shown, strict=True)])
    axes.tick_params(axis="x", labelsize=6.5, rotation=35)
    axes.axhline(80, color="black", linewidth=0.6, linestyle=":")
    axes.set(ylabel="bytes at the peak (GB)")
    axes.grid(visible=False, axis="x")
    axes.legend(ncols=3, loc="lower left", bbox_to_anchor=(0, 1.0))
    return drawn


def _bars(axes, places, height, bottom, colour, hatch, label) -> None:
    options = {"color": colour, "hatch": hatch, "edgecolor": "white", "linewidth": 0.4, "label": label or None}
    axes.bar(places, height, 0.36, bottom=bottom, **options)
