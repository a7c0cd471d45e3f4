"""Where Theorems A1 and B1+ lose: the best ratio that the adversary finds in every cell of a grid."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
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
COLOURS = "viridis"  # perceptually uniform
DARK = 0.6  # cells below have white figures


def draw(adversary: Sequence[Record]) -> Figure:
    """Maps of A1 above, of B1+ below; every cell has its number as far as there is room."""
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
    bar = drawn.colorbar(panels[0].images[0], ax=panels, shrink=0.9, aspect=40)
    bar.set_label("best ratio of the epoch form (1: equality)")
    return drawn


def _map(panel: Axes, item: Mapping[str, Any]) -> None:
    values = np.array(item["ratio"])
    panel.imshow(values, origin="lower", aspect="auto", cmap=COLOURS, vmin=0.0, vmax=1.0)
    size = 5 if len(item["xs"]) < 10 else 4  # points; more cells are narrower
    for (row, column), value in np.ndenumerate(values):
        colour = "white" if value < DARK else "black"
        shown = f"{value:.2f}".lstrip("0") if value < 0.995 else "1"
        panel.text(column, row, shown, ha="center", va="center", fontsize=size, color=colour)
    panel.set_xticks(range(len(item["xs"])), [f"{x:g}" for x in item["xs"]], rotation=90, fontsize=6)
    panel.set_yticks(range(len(item["ys"])), [f"{y:g}" for y in item["ys"]], fontsize=6)
    fixed = ", ".join(FIXED[name].format(value) for name, value in item["fixed"].items())
    panel.set_title(f"{THEOREMS[item['kind']]}, {fixed}")
    panel.set_xlabel(NAMES[item["x"]])
    panel.grid(visible=False)
