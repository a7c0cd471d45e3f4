"""Every theorem on one run: the measured quantity and its bound over block epochs."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from paper.figures import style
from paper.read import theorems
from records import Record

SOURCES = {"theory": ("verify", "theory")}
COLUMNS = 4
ROW = 1.28  # inches; six rows and the caption fill a page
DEPTH = 1e-7  # a run may end at rounding; the panel ends this far below the least bound

SMALLEST, GAP = r"$\min\ \Vert\nabla f\Vert^2$", r"$f - f^*$"
EXPECTED = r"$\mathrm{E}f - f^*$"
MEAN = r"mean $\mathrm{E}\Vert\nabla f\Vert^2$"
QUANTITIES = {
    "a1": SMALLEST,
    "a2": GAP,
    "a3": GAP,
    "a4": EXPECTED,
    "a5": GAP,
    "a6_quadratic": GAP,
    "b1": SMALLEST,
    "b1_corollary": SMALLEST,
    "b1_plus": SMALLEST,
    "b2": r"mean $\Vert\nabla f\Vert_1$",
    "b3": GAP,
    "badam_d4_repaired": r"$f(x^t) - f(x^{t+1})$",
    "c1": MEAN,
    "c2": MEAN,
    "c3": EXPECTED,
    "c4": r"$\Vert\nabla f\Vert$",
    "d1": MEAN,
    "d2": MEAN,
    "d3": r"$|g^*|/\sigma$",
    "e": SMALLEST,
    "f1": r"mean $\mathrm{E}\Vert\nabla f\Vert_1$",
    "f2": r"mean $\mathrm{E}\Vert\nabla f\Vert_1$",
    "f1_order": r"mean $\Vert\nabla f\Vert_1$",
}
"""What is bounded; a bound that is not here has a panel without this label."""

OTHERS = {"published": "published bound", "floor": "its floor for small steps"}
"""Further series of a showcase that are drawn."""

MARKS = {"bound": "_", "measured": "o", "published": "s", "floor": "^"}
"""Shapes of single points, which no dashes tell apart."""

AXES = {"a4": "random step", "c1": "random visit", "d3": "$K$", "f1": "random visit", "f2": "random visit"}
"""Where the horizontal axis is not the block epoch."""


def draw(theory: Sequence[Record]) -> Figure:
    shown = {}
    for bound, group in theorems.by_bound(theory).items():
        first = next((record for record in group if record.measurements["showcase"]), None)
        if first is not None and not theorems.refuted(group):
            shown[bound] = first
    rows = math.ceil(len(shown) / COLUMNS)
    drawn = Figure(figsize=(style.WIDTH, min(0.35 + ROW * rows, style.HEIGHT)))
    panels = drawn.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axes, (bound, record) in zip(panels, shown.items(), strict=False):
        _panel(axes, bound, record)
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    handles = {}
    for axes in panels[: len(shown)]:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            if label not in handles or handle.get_marker():
                handles[label] = handle
    drawn.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=len(handles))
    return drawn


def _panel(axes: Axes, bound: str, record: Record) -> None:
    showcase, kind = record.measurements["showcase"], record.measurements["kind"]
    series = {name: np.array(showcase[name], dtype=float) for name in ("measured", "bound")}
    # the repaired D.4 bounds the decrease itself from below: what it claims is the left side
    if bound == "badam_d4_repaired":
        series, kind = {"measured": series["bound"], "bound": series["measured"]}, "lower"
    length = len(series["bound"])
    # a mean over block epochs begins after the first one, a series with the start in it before
    first = int(length <= record.config["bound"]["example"]["epochs"])
    x = np.array(showcase.get("inner_steps", np.arange(length) + first), dtype=float)
    shapes = MARKS if length == 1 else {}
    for name, label in OTHERS.items():
        if name in showcase:
            look: dict[str, Any] = {"color": "#009E73", "linestyle": ":", "marker": shapes.get(name, "")}
            axes.plot(x, showcase[name], markersize=4.5, label=label, **look)
    axes.plot(x, series["bound"], "--", color="#D55E00", marker=shapes.get("bound", ""), markersize=5, label="bound")
    axes.plot(
        x, series["measured"], color="#0072B2", marker=shapes.get("measured", ""), markersize=4, label="measured"
    )
    axes.set_yscale("log")
    axes.margins(y=0.3 if kind == "lower" else 0.15)
    drawn = [*series.values(), *(np.array(showcase[name], dtype=float) for name in OTHERS if name in showcase)]
    values = np.concatenate([y[y > 0] for y in drawn])
    if kind != "lower":
        axes.set_ylim(bottom=max(values.min(), series["bound"][series["bound"] > 0].min() * DEPTH) / 2)
    if "inner_steps" in showcase:
        axes.set_xscale("log")
    else:
        axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    if length == 1:
        axes.set_xlim(0, 2)
    axes.yaxis.set_major_locator(LogLocator(numticks=4))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_title(theorems.title(bound), fontsize=8, loc="left")
    corner = {"transform": axes.transAxes, "fontsize": 6.5, "color": "#666666"}
    axes.text(0.04, 0.05, theorems.parts(record)[1].replace("_", " "), **corner)
    axes.set_xlabel(AXES.get(bound, "block epoch"), fontsize=7, labelpad=1)
    axes.set_ylabel(QUANTITIES.get(bound, ""), fontsize=7, labelpad=1)
    axes.tick_params(labelsize=7, pad=1.5)
