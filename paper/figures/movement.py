"""Is BAdam behind where much movement is needed? Its gap as a share of AdamW's gain, against AdamW's movement."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from paper.figures import style
from paper.read import movement as read
from paper.read import studies
from paper.read.names import data_named, model_named
from records import Record

STUDIES = {"movement": ("train", "movement"), "movement_brief": ("train", "movement_brief")}
MARKS, COLOURS = "os^Dv", ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")


def draw(movement: Sequence[Record], movement_brief: Sequence[Record]) -> Figure:
    """A line a data set and model over AdamW's learning rates; hollow marks are of the briefly trained model."""
    points = read.points(studies.rows([*movement, *movement_brief]))
    drawn, (axes,) = style.figure(height=3.2)
    sets = studies.data_sets(point.data for point in points)
    models = list(dict.fromkeys(row.model for row in studies.rows([*movement, *movement_brief])))
    for model in models:
        for data, mark, colour in zip(sets, MARKS, COLOURS, strict=False):
            here = [point for point in points if (point.model, point.data) == (model, data)]
            if not here:
                continue
            face = colour if model == models[0] else "white"
            look = {"color": colour, "marker": mark, "markerfacecolor": face, "markersize": 5}
            line = style.LINES[models.index(model) % len(style.LINES)]
            label = f"{model_named(model)}, {data_named(data)}"
            shares = [100 * point.gap.mean for point in here]
            axes.plot([point.moved for point in here], shares, linestyle=line, linewidth=1, label=label, **look)
            for point in here:
                ends = [100 * point.gap.low, 100 * point.gap.high]
                axes.plot([point.moved] * 2, ends, "_-", color=colour, linewidth=1.2, zorder=1)
    axes.axhline(0, color="black", linewidth=0.7)
    axes.set(xscale="log", xlabel="relative change of all weights by AdamW")
    axes.set(ylabel="BAdam's gap (% of AdamW's gain)")
    if points:
        axes.legend(fontsize=7.5)
    else:
        axes.text(0.5, 0.5, "no pair of runs", transform=axes.transAxes, ha="center", color="0.4")
    return drawn
