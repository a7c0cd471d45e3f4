"""The steps a visit K over two decades, with the K that the method's paper recommends."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from paper.figures import style
from paper.judge.verdicts import loss_margin
from paper.read import studies
from records import Record

LEAST, MOST = 50, 100
"""Bounds of the K that the readme of the method's authors recommends."""
STUDIES = {"inner_steps": ("train", "inner_steps")}


def draw(inner_steps: Sequence[Record]) -> Figure:
    """The band is the margin of equivalence around the mean at the K nearest to the recommended one."""
    rows = studies.rows(inner_steps)
    cells = studies.cells(rows, lambda row: row.value("method.inner_steps"))
    K = studies.recommended_inner_steps(rows[0])
    drawn, (axes,) = style.figure(height=2.7)
    nearest = min(cells, key=lambda value: abs(value / K - 1))
    middle, margin = studies.loss(cells[nearest]).mean, loss_margin(cells[nearest])
    axes.axhspan(middle - margin, middle + margin, color="#e8e8e8", zorder=0, linewidth=0)
    values = sorted(cells)
    losses = [studies.loss(cells[value]) for value in values]
    axes.plot(values, [item.mean for item in losses], color=style.PAIRED, zorder=3)
    for value, item in zip(values, losses, strict=True):
        axes.plot([value, value], [item.low, item.high], color=style.PAIRED, linewidth=1.6, zorder=3)
        axes.plot(value, item.mean, "o", color=style.PAIRED, markeredgecolor="white", markersize=5, zorder=4)
        runs = cells[value]
        axes.plot(
            [value * 1.06] * len(runs), [r.reported for r in runs], "o", color=style.PAIRED, markersize=2.4, alpha=0.45
        )
    readme = min(max(K, LEAST), MOST)
    words = rf"readme: $\min(\max(n/(BD),{LEAST}),{MOST})={readme:.0f}$, not run"
    for place, text, height, line in (
        (K, f"paper: $n/(BD)={K:.0f}$", -9, "--"),
        (readme, words, -20, ":"),
    ):
        axes.axvline(place, color="#D55E00", linewidth=1, linestyle=line, zorder=1)
        axes.annotate(
            text,
            (place, 1),
            (4 if place == K else -4, height),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="left" if place == K else "right",
            color="#D55E00",
            fontsize=8,
            bbox={"facecolor": "white", "linewidth": 0, "pad": 0.5, "alpha": 0.8},
        )
    axes.set(xscale="log", xlabel="steps a visit, $K$", ylabel=f"{studies.part(rows)} loss (nats a token)")
    axes.set_xticks(values, [str(value) for value in values])
    axes.minorticks_off()
    return drawn
