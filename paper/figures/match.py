"""When block descent matches Adam: predicted and measured ratio of gradients, the floor over K, the study of K."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper.figures import style
from paper.read import studies
from records import Record

SOURCES = {"curves": ("verify", "curves")}
STUDIES = {"inner_steps": ("train", "inner_steps")}
COLOURS, MARKERS = ("#0072B2", "#D55E00", "#009E73"), "os^"


def draw(curves: Sequence[Record], inner_steps: Sequence[Record]) -> Figure:
    """The last panel is left out where the study has no record."""
    (record,) = curves
    matched = record.measurements["match"]
    drawn, panels = style.figure(3 if inner_steps else 2, height=2.6)
    _ratio(panels[0], matched["penalties"])
    floor = matched["floor"]
    K = floor["inner_steps"]
    betas = ", ".join(f"{beta:g}" for beta in floor["betas"])
    panels[1].plot(K, floor["fixed"], color=COLOURS[0], label=rf"$\beta=({betas})$")
    panels[1].plot(K, floor["growing"], color=COLOURS[1], linestyle="--", label=r"$\beta_1=1-1/K$")
    best = min(range(len(K)), key=floor["fixed"].__getitem__)
    panels[1].plot(K[best], floor["fixed"][best], "o", color=COLOURS[0], markersize=4)
    panels[1].set(xscale="log", xlabel="steps a visit, $K$", ylabel=r"floor of F2 / $\sigma_1$", ylim=(0, None))
    panels[1].legend(fontsize=7, handlelength=1.8)
    if inner_steps:
        _study(panels[2], inner_steps)
    for axes in panels[1:]:
        axes.set_xticks([1, 10, 100], ["1", "10", "100"])
        axes.minorticks_off()
    return drawn


def _ratio(axes: Axes, rows: Sequence[dict]) -> None:
    steps = list(dict.fromkeys(row["inner_steps"] for row in rows))
    for K, colour, marker in zip(steps, COLOURS, MARKERS, strict=False):
        of_steps = sorted((row for row in rows if row["inner_steps"] == K), key=lambda row: row["chi"])
        x = np.array([1 / row["chi"] for row in of_steps])
        middle = np.array([row["measured"] for row in of_steps])
        axes.plot(x, [row["predicted"] for row in of_steps], color=colour, linestyle="--", linewidth=1)
        groups = np.array([row["groups"] for row in of_steps])
        axes.vlines(x, groups.min(axis=1), groups.max(axis=1), color=colour, linewidth=1.6)
        axes.plot(x, middle, marker, color=colour, markersize=4, label=f"measured, $K={K}$")
    axes.plot([], [], color="#555555", linestyle="--", linewidth=1, label="Theorem F1")
    ticks = [1, 2, 4, 8, 16]
    axes.set(xscale="log", yscale="log", xlabel=r"$1/\chi$", ylabel="gradients, BAdam / Adam", ylim=(0.8, 60))
    axes.set_xticks(ticks[:-1], [str(tick) for tick in ticks[:-1]])
    axes.set_yticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.legend(fontsize=7, handlelength=1.8, loc="upper left")


def _study(axes: Axes, records: Sequence[Record]) -> None:
    rows = studies.rows(records)
    cells = studies.cells(rows, lambda row: row.value("method.inner_steps"))
    values = sorted(cells)
    axes.plot(values, [studies.loss(cells[value]).mean for value in values], "o-", color=COLOURS[2], markersize=4)
    for value in values:
        losses = [row.reported for row in cells[value]]
        axes.plot([value] * len(losses), losses, "o", color=COLOURS[2], markersize=2.4, alpha=0.45)
    axes.set(xscale="log", xlabel="steps a visit, $K$", ylabel=f"{studies.part(rows)} loss (nats a token)")
