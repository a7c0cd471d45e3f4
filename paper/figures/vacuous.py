"""When a bound of BAdam begins to say anything, over eps and K."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, TwoSlopeNorm
from matplotlib.figure import Figure

from paper.figures import style
from records import Record

SOURCES = {"curves": ("verify", "curves")}
TITLES = {"b1_plus": "B1+", "b2": "B2", "published": "D.5, printed", "d1": "D1", "d2": r"D2 ($\beta_1=0$)"}
BETTER = "better of B1+, B2"
NEVER = "#bbbbbb"
MOST = 6
"""Logarithm of epochs from which on all have one shade: nobody trains for a million."""


def draw(curves: Sequence[Record]) -> Figure:
    """Above: epochs that are needed, all in one scale. Below: floors over what is known without a theorem."""
    (record,) = curves
    measured = record.measurements["vacuous"]
    logs, maps = np.array(measured["log_eps"]), measured["maps"]
    counted = {
        TITLES[name]: (maps[name]["inner_steps"], _values(maps[name])) for name in TITLES if maps[name]["epochs"]
    }
    # the better of the two theorems that hold
    counted[BETTER] = maps["b2"]["inner_steps"], np.fmin(_values(maps["b1_plus"]), _values(maps["b2"]))
    floors = [name for name in TITLES if not maps[name]["epochs"]]

    drawn = Figure(figsize=(style.WIDTH, 4.3))
    halves = drawn.add_gridspec(2, 1)
    above, below = (drawn.add_subfigure(halves[row]) for row in range(2))
    panels, whole = above.subplots(1, len(counted), sharey=True), Normalize(0, MOST)
    for axes, (title, (steps, values)) in zip(panels, counted.items(), strict=True):
        _map(axes, logs, steps, values, whole, "viridis_r")
        axes.set_title(title)
    bar = above.colorbar(ScalarMappable(whole, "viridis_r"), ax=panels.tolist(), aspect=15, extend="max")
    bar.set_label("block epochs needed, $\\log_{10}$")

    both = TwoSlopeNorm(0, -3, 3)
    lower = below.subplots(1, len(floors), sharey=True)
    for axes, name in zip(lower, floors, strict=True):
        values = _values(maps[name])
        _map(axes, logs, maps[name]["inner_steps"], values, both, "PuOr_r")
        axes.contour(_edges(maps[name]["inner_steps"])[1], logs, values, levels=[0.0], colors="black", linewidths=1)
        axes.set_title(f"floor of {TITLES[name]}")
    bar = below.colorbar(ScalarMappable(both, "PuOr_r"), ax=lower.tolist(), aspect=15, extend="max")
    bar.set_label("floor / what is known, $\\log_{10}$")
    for axes in (*panels, *lower):
        axes.set_xlabel("$K$", labelpad=1)
    for axes in (panels[0], lower[0]):
        axes.set_ylabel(r"$\varepsilon$")
    return drawn


def _values(grid: dict[str, Any]) -> np.ndarray:
    return np.array(grid["values"], dtype=float)


def _edges(steps: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Edges and centres of the cells, equally wide."""
    return np.arange(len(steps) + 1) - 0.5, np.arange(len(steps))


def _map(axes: Axes, logs: np.ndarray, steps: Sequence[int], values: np.ndarray, norm: Normalize, colours: str) -> Any:
    half = (logs[1] - logs[0]) / 2
    rows = np.concatenate([logs - half, logs[-1:] + half])
    image = axes.pcolormesh(_edges(steps)[0], rows, values, norm=norm, cmap=colours)
    axes.set_facecolor(NEVER)
    axes.grid(visible=False)
    places = range(0, len(steps), 2 if len(steps) < 10 else 4)
    axes.set_xticks(places, [_short(steps[place]) for place in places])
    axes.set_yticks([-8, -6, -4, -2, 0], [rf"$10^{{{log}}}$" if log else "$1$" for log in (-8, -6, -4, -2, 0)])
    axes.tick_params(labelsize=7.5)
    return image


def _short(K: int) -> str:
    """1000 -> 1k."""
    return f"{K // 1000}k" if K >= 1000 else str(K)
