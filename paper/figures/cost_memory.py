"""Bytes at the peak of a step by category, as documented and with our options: measured beside predicted."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from paper.figures import style
from paper.read import cost as study
from records import Record

SOURCES = {"cost": ("profile", "cost"), "predicted": ("profile", "cost_predicted")}
TOKENS = 8192
COLOURS = {"weights": "#999999", "master": "#56B4E9", "state": "#0072B2", "gradients": "#E69F00", "rest": "#CC79A7"}
NAMES = {"state": "optimizer state", "master": "float32 master", "rest": "activations, loss, temporary"}


def draw(cost: Sequence[Record], predicted: Sequence[Record]) -> Figure:
    shown = study.compared(study.rows(cost, predicted), TOKENS)[::-1]
    places = np.array(study.places_by_family(shown))
    drawn, (axes,) = style.figure(height=0.8 + 0.27 * (max(places) + 1))
    for offset, hatch in ((-0.2, "////"), (0.2, "")):
        left = np.zeros(len(shown))
        for category, colour in COLOURS.items():
            width = np.array([_bytes(row, category, predicted=bool(hatch)) for row in shown]) / 1e9
            label = None if hatch else NAMES.get(category, category)
            options = {"color": colour, "hatch": hatch, "edgecolor": "white", "linewidth": 0.4, "label": label}
            axes.barh(places + offset, width, 0.36, left=left, **options)
            left += width
    axes.barh(0, 0, color="#cccccc", hatch="////", edgecolor="white", label="(hatched: predicted)")
    for card in (24, 80):
        axes.axvline(card, color="black", linewidth=0.8, linestyle=":")
    axes.set_yticks(places, study.names_by_family(shown))
    axes.tick_params(axis="y", labelsize=7)
    axes.set(xlabel="bytes at the peak (GB)")
    axes.grid(visible=False, axis="y")
    axes.legend(ncols=3, loc="lower left", bbox_to_anchor=(0, 1.0))
    return drawn


def _bytes(row: study.Row, category: str, *, predicted: bool) -> float:
    """Bytes of a category; what the peak has beyond the categories is the rest."""
    held = row.predicted if predicted else row.held
    if category != "rest":
        return held.get(category, 0.0)
    peak = held.get("peak", 0.0) if predicted else row.peak
    return max(0.0, peak - sum(held.get(name, 0.0) for name in study.CATEGORIES))
