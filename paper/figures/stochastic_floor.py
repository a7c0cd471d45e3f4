"""Where stochastic BAdam stops: the mean field and its lower bound over K, and simulated runs over the step size."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from paper.figures import style
from records import Record

SOURCES = {"curves": ("verify", "curves")}
SHADES = {"0.1": "#E69F00", "0.3": "#0072B2", "0.45": "#CC79A7"}
CHANCE = 0.3  # of the simulated runs over alpha
MARKERS, COLOURS = "osD^v", ("#0072B2", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")


def draw(curves: Sequence[Record]) -> Figure:
    drawn, (over_steps, over_alpha) = style.figure(2, height=2.9)
    (record,) = curves
    floor = record.measurements["floor"]
    K, simulated = floor["inner_steps"], floor["simulated"]
    smallest = min(row["alpha"] for row in simulated)
    for (p, zeros), mark in zip(floor["zero"].items(), MARKERS, strict=False):
        colour = SHADES.get(p, style.FALLBACK)
        over_steps.loglog(K, zeros, color=colour, label=f"$p={p}$", marker=mark, ms=3, markevery=len(K) - 1)
        over_steps.loglog(K, floor["bound"][p], color=colour, linestyle="--")
        points = [row for row in simulated if f"{row['p']:g}" == p and row["alpha"] == smallest]
        columns = [[row[key] for row in points] for key in ("inner_steps", "mean", "error")]
        over_steps.errorbar(*columns[:2], yerr=[2 * error for error in columns[2]], fmt=mark, color=colour, ms=4.5)
    over_steps.plot([], [], color="#555555", label="zero of the mean field")
    over_steps.plot([], [], color="#555555", linestyle="--", label="lower bound (D3)")
    over_steps.plot([], [], "d", color="#555555", ms=4, label=rf"simulated, $\alpha={smallest:g}$")
    over_steps.set(xlabel="steps a visit $K$", ylabel=r"$|g^*|/\sigma$")
    over_steps.legend(fontsize=7, loc="lower left")

    rows = [row for row in simulated if row["p"] == CHANCE]
    for K_, marker, colour in zip(sorted({row["inner_steps"] for row in rows}), MARKERS, COLOURS, strict=False):
        of_steps = [row for row in rows if row["inner_steps"] == K_]
        alphas, means, errors = (np.array([row[key] for row in of_steps]) for key in ("alpha", "mean", "error"))
        expected = floor["zero"][f"{CHANCE:g}"][K.index(K_)]
        look = {"color": colour, "marker": marker, "ms": 3.5, "linewidth": 0.9, "elinewidth": 0.9}
        over_alpha.errorbar(alphas, means / expected, yerr=2 * errors / expected, label=f"$K={K_}$", **look)
    over_alpha.axhline(1.0, color="black", linewidth=0.8)
    over_alpha.axhline(0.0, color="black", linewidth=0.8, linestyle=":")
    over_alpha.set_xscale("log")
    over_alpha.set(xlabel=r"step size $\alpha$ ($L=1$)", ylabel=f"simulated / mean field, $p={CHANCE}$")
    over_alpha.legend(fontsize=7, loc="lower left", bbox_to_anchor=(0, 0.12))
    return drawn
