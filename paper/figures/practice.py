"""The theorems on a real model: one step against Theorem B2, coupling, and the floor of Theorem D3."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper.figures import style
from paper.read.practice import SHOWN_STEPS, pooled, share, states
from records import Record

SOURCES = {"practice": ("verify", "practice")}
MARKS = "os^v"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def draw(practice: Sequence[Record]) -> Figure:
    drawn = Figure(figsize=(style.WIDTH, 5.2))
    (visit, scatter), (size, wrong) = drawn.subplots(2, 2)
    both = states(practice)
    _visit(visit, both[0])
    for state, colour, marker in zip(both, COLOURS, "os", strict=False):
        label = f"after {state['steps']} steps" if state["steps"] else "before training"
        zero, predicted = (pooled(state, name, SHOWN_STEPS) for name in ("zero", "predicted"))
        scatter.plot(predicted, zero, marker, color=colour, markersize=2.5, alpha=0.6, label=label)
        steps = state["field"][0]["inner_steps"]
        for name, line in (("zero", "-"), ("predicted", "--")):
            middle = [np.median(np.abs(pooled(state, name, K))) for K in steps]
            label_of = f"measured, {label}" if name == "zero" else f"first order, {label}"
            size.loglog(steps, middle, line, color=colour, marker=marker, markersize=3.5, label=label_of)
        wrong.semilogx(
            steps, [share(state, "wrong", K) for K in steps], "-" + marker, color=colour, markersize=3, label=label
        )
    reach = max(abs(x) for state in both for x in pooled(state, "predicted", SHOWN_STEPS))
    scatter.plot([-reach, reach], [-reach, reach], color="black", linewidth=0.8)
    scatter.set(xlabel=rf"first order $h_K$, $K={SHOWN_STEPS}$", ylabel=r"zero of the mean field / $\sigma$")
    size.set(xlabel="steps of a visit $K$", ylabel=r"median |zero| / $\sigma$")
    wrong.set(xlabel="steps of a visit $K$", ylabel="coordinates moved uphill (%)", ylim=(0, None))
    for axes in (visit, scatter, size, wrong):
        axes.legend(fontsize=7)
    return drawn


def _visit(axes: Axes, state: dict[str, Any]) -> None:
    """One step from the untrained weights: observed decrease, and the parabola of Theorem B2."""
    for block, colour, mark in zip(state["sources"], COLOURS, MARKS, strict=False):
        steps = [
            v
            for v in state["visits"]
            if (v["block"], v["inner_steps"], v["gradients"]) == (block["block"], 1, "full") and v["observed"] > 0
        ]
        axes.loglog(
            [v["lr"] for v in steps],
            [v["observed"] for v in steps],
            "-",
            color=colour,
            marker=mark,
            markersize=4,
            label=f"block {block['block']}",
        )
        best, promised = steps[0]["b2_best_alpha"], steps[0]["b2_best"]
        alpha = np.geomspace(best / 100, 1.98 * best, 100)
        axes.loglog(alpha, promised * (2 * alpha / best - (alpha / best) ** 2), "--", color=colour, linewidth=1)
        axes.loglog(best, promised, mark, color=colour, markersize=4)
    axes.plot([], [], "--", color="black", linewidth=1, label="Theorem B2")
    axes.set(xlabel="learning rate", ylabel="decrease of $f$ in one step")
