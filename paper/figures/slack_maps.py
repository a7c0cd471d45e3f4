"""Where Theorems A1 and B1+ lose: the best ratio that the adversary finds in every cell of a grid."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure

from paper.figures import style
from records import Record

SOURCES = {"adversary": ("verify", "adversary")}
NAMES = {
    "coupling": "coupling $\\|A_{12}\\|$",
    "inner_steps": "steps of a visit $K$",
    "eps": r"$\epsilon/G_t$",
    "fraction": r"step $a/a_{\max}$",
}
THEOREMS = {"a1": "A1", "b1_plus": "B1+"}
FIXED = {"gamma": r"$\gamma={:g}$", "inner_steps": "$K={:g}$", "fraction": r"$a/a_{{\max}}={:g}$"}
STEPS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0001)
"""Ratios where one shade ends and the next begins; the last holds what is an equality."""
SHADES = BoundaryNorm(STEPS, 256)
COLOURS = "viridis"  # perceptually uniform


def draw(adversary: Sequence[Record]) -> Figure:
    """Maps of A1 above, of B1+ below."""
    maps = adversary[0].measurements["maps"]
    rows = [[item for item in maps if item["kind"] == kind] for kind in THEOREMS]
    drawn = Figure(figsize=(style.WIDTH, 4.6))
    columns = math.lcm(*map(len, rows))
    grid = drawn.add_gridspec(len(rows), columns)
    panels: list[Axes] = []
    for place, items in enumerate(rows):
        width = columns // len(items)
        for first, item in enumerate(items):
            panel = drawn.add_subplot(grid[place, first * width : (first + 1) * width])
            _map(panel, item)
            if not first or item["y"] != items[first - 1]["y"]:
                panel.set_ylabel(NAMES[item["y"]])
            panels.append(panel)
    bar = drawn.colorbar(panels[0].images[0], ax=panels, shrink=0.9, aspect=40, spacing="uniform")
    bar.set_ticks(STEPS, labels=[f"{step:.2g}" for step in STEPS])
    bar.set_label("best ratio of the epoch form (1: equality)")
    return drawn


def _map(panel: Axes, item: Mapping[str, Any]) -> None:
    values = np.array(item["ratio"])
    panel.imshow(values, origin="lower", aspect="auto", cmap=COLOURS, norm=SHADES)
    for axis, ticks in ((panel.xaxis, item["xs"]), (panel.yaxis, item["ys"])):
        every = 2 if len(ticks) > 6 else 1
        axis.set_ticks(range(0, len(ticks), every), [f"{tick:g}" for tick in ticks[::every]], fontsize=7)
    fixed = ", ".join(FIXED[name].format(value) for name, value in item["fixed"].items())
    panel.set_title(f"{THEOREMS[item['kind']]}, {fixed}")
    panel.set_xlabel(NAMES[item["x"]])
    panel.grid(visible=False)
