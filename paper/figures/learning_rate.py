"""Held-out loss against the learning rate: how wide each method's basin is, and where it diverges."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper.figures import style
from paper.read import studies
from paper.read.names import named
from records import Record

STUDIES = {"learning_rate": ("train", "learning_rate")}

SHOWN = 0.4  # nats above the best; what is beyond has failed for every purpose


def draw(learning_rate: Sequence[Record]) -> Figure:
    """Left as it is; right relative to each method's best, so that widths can be compared.

    Crosses diverged, arrows at the top are means above the panel, hollow marks a best rate at its grid's edge.
    """
    rows = studies.rows(learning_rate)
    failed = studies.diverged(learning_rate)
    drawn, (absolute, relative) = style.figure(2, height=3.0)
    before = max(row.before for row in rows)
    highest = 0.0
    above: dict[Axes, list[tuple[float, float, str]]] = {absolute: [], relative: []}
    for place, (name, runs) in enumerate(studies.groups(rows, lambda row: row.method).items()):
        colour, mark = style.COLOURS.get(name, style.FALLBACK), style.mark(name)
        losses = {
            rate: studies.loss(cell) for rate, cell in studies.cells(runs, lambda row: row.value("method.lr")).items()
        }
        rates = sorted(losses)
        best = min(rates, key=lambda rate: losses[rate].mean)
        highest = max(highest, *(losses[rate].mean - losses[best].mean for rate in rates))
        for axes, scale, shift in ((absolute, 1.0, 0.0), (relative, best, losses[best].mean)):
            axes.plot(
                [rate / scale for rate in rates],
                [losses[rate].mean - shift for rate in rates],
                color=colour,
                marker=mark,
                markersize=3.8,
                label=named(name),
            )
            if best in (rates[0], rates[-1]):
                at_edge = best / scale, losses[best].mean - shift
                axes.plot(*at_edge, mark, color=colour, markerfacecolor="white", markersize=5, zorder=4)
            above[axes] += [(rate / scale, losses[rate].mean - shift, colour) for rate in rates]
            for rate in rates:
                low, high = losses[rate].low - shift, losses[rate].high - shift
                axes.plot([rate / scale] * 2, [low, high], color=colour, linewidth=0.9, alpha=0.7)
        lost = sorted({row.value("method.lr") for row in failed if row.method == name})
        if lost:
            beside = [rate * (1 + 0.06 * place) for rate in lost]  # several methods may diverge at one rate
            absolute.plot(beside, [before] * len(lost), "x", color=colour, markersize=5)
    absolute.set(xscale="log", xlabel="learning rate", ylabel=f"{studies.part(rows)} loss (nats a token)")
    if failed or absolute.get_ylim()[1] > before:  # what is worse than untrained needs no scale
        absolute.axhline(before, color="black", linewidth=0.6, linestyle=":")
        absolute.set_ylim(None, before * 1.02)
        label = {"xytext": (3, -8), "textcoords": "offset points", "fontsize": 7}
        absolute.annotate("untrained", (0, before), xycoords=("axes fraction", "data"), **label)
    relative.set(xscale="log", xlabel="learning rate over the best", ylabel="loss above the best (nats)")
    relative.set_ylim(-0.01, min(SHOWN, 1.1 * highest + 0.01))
    for axes, points in above.items():
        top = axes.get_ylim()[1]
        for rate, loss, colour in points:
            if loss > top:
                axes.plot(rate, top, "^", color=colour, markersize=6, clip_on=False, zorder=5)
    drawn.legend(*absolute.get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return drawn
