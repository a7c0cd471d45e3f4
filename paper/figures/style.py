"""How every figure looks and is saved."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

WIDTH = 6.5  # inches, the text width of main.tex
HEIGHT = 7.6  # inches, of its text height what a long caption leaves

COLOURS = {  # Okabe-Ito, distinguishable with any colour vision
    "badam": "#0072B2",
    "badam_all": "#56B4E9",
    "bsgd": "#009E73",
    "lisa": "#8C6D1F",  # its yellow can hardly be seen on white
    "adamw": "#D55E00",
    "sgd": "#E69F00",
    "lora": "#CC79A7",
    "galore": "#117733",
    "lomo": "#882255",
    "adalomo": "#332288",
}
MARKS = {
    "badam": "o",
    "badam_all": "p",
    "badam_blocks5": "h",
    "bsgd": "v",
    "lisa": "<",
    "adamw": "D",
    "sgd": "s",
    "lora": "^",
    "galore": ">",
    "lomo": "X",
    "adalomo": "P",
    "bread": "*",
}
"""Shapes that tell methods apart where their colours cannot be seen."""
MARK = "o"
"""Of a method without a shape of its own."""
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
"""Dashes of lines that have no shapes."""
PAIRED = "#0072B2"
OTHERS = "#767676"
FALLBACK = "#000000"

mpl.rcdefaults()  # what a user's matplotlibrc says is of their own figures
mpl.rcParams.update(
    {
        "font.size": 9,
        "axes.titlesize": 9,
        "legend.fontsize": 8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.linewidth": 0.4,
        "grid.color": "#dddddd",
        "axes.axisbelow": True,
        "lines.linewidth": 1.4,
        "legend.frameon": False,
        "pdf.fonttype": 42,
        "savefig.dpi": 160,
        "figure.constrained_layout.use": True,
    }
)


def figure(columns: int = 1, height: float = 2.6) -> tuple[Figure, list]:
    """A figure of text width with `columns` panels side by side. No pyplot: nothing global, no window."""
    drawn = Figure(figsize=(WIDTH, height))
    axes = drawn.subplots(1, columns, squeeze=False)[0]
    return drawn, list(axes)


def colour(method: str) -> str:
    """The colour of a method, grey where it has none of its own."""
    return COLOURS.get(method, OTHERS)


def mark(method: str) -> str:
    """The shape of a method's points."""
    return MARKS.get(method, MARK)


def curve(
    axes: Axes,
    runs: Sequence[Sequence[tuple[float, float]]],
    colour: str,
    scales: Sequence[float],
    marker: str = MARK,
) -> float:
    """The mean of the runs of a method at the points that all share, and their range; returns the last mean.

    The untrained model is left out where there are points on the way: it would flatten all the rest.

    Args:
        runs: the points (tokens, loss) of each.
        scales: of the tokens of each.
    """
    length = min(map(len, runs))
    points = np.array([run[1 if length > 2 else 0 : length] for run in runs])
    places, losses = (points[:, :, 0] * np.array(scales)[:, None]).mean(axis=0), points[:, :, 1]
    axes.fill_between(places, losses.min(axis=0), losses.max(axis=0), color=colour, alpha=0.2, linewidth=0)
    axes.plot(places, losses.mean(axis=0), color=colour, marker=marker, markersize=3.2)
    return float(losses[:, -1].mean())


def interval(axes: Axes, place: float, mean: float, low: float, high: float, colour: str, **look: Any) -> None:
    """A mean as a dot with its interval, which is left out where it is infinite, on a row of horizontal values.

    The ends of the interval are higher than the dot, so that one which is shorter than the dot shows too.
    """
    if np.isfinite([low, high]).all():
        axes.plot([low, high], [place] * 2, "|-", color=colour, linewidth=1.4, markersize=6, zorder=3)
    axes.plot(mean, place, **{"marker": MARK, "linestyle": "", "color": colour, "markersize": 3.4, "zorder": 4} | look)


def runs(axes: Axes, places: Iterable[float], values: Iterable[float], colour: str) -> None:
    """Single runs: small, pale, behind what is made of them."""
    axes.plot(list(values), list(places), "o", color=colour, markersize=2.4, alpha=0.45, markeredgewidth=0, zorder=2)


def panel_size(axes: Axes) -> tuple[float, float]:
    """Width and height in points, estimated: they are settled when the figure is drawn."""
    figure, place = axes.figure, axes.get_subplotspec()
    assert isinstance(figure, Figure)
    columns, rows = (place.get_gridspec().ncols, place.get_gridspec().nrows) if place else (1, 1)
    width, height = figure.get_size_inches()
    return 0.84 * 72 * width / columns, 0.84 * 72 * height / rows


def end_labels(axes: Axes, ends: Sequence[tuple[float, str, str]], *, size: float = 7.5) -> None:
    """Names at the right border beside the ends of lines, pushed apart where they are close; set limits before.

    Args:
        ends: (y, name, colour).
    """
    least = 1.2 * size / panel_size(axes)[1]
    low, high = axes.get_ylim()
    wanted = sorted(((y - low) / (high - low), y, name, colour) for y, name, colour in ends)
    places: list[float] = []
    for share, *_ in wanted:
        places.append(max(share, places[-1] + least) if places else share)
    excess = max(0.0, places[-1] - 1.0) if places else 0.0
    for i in reversed(range(len(places))):  # push back down what was pushed out at the top
        places[i] = min(
            places[i] - (excess if i == len(places) - 1 else 0.0),
            places[i + 1] - least if i + 1 < len(places) else 1.0,
        )
    for place, (share, _, name, colour) in zip(places, wanted, strict=True):
        axes.annotate(
            name,
            (1.0, share),
            (1.05, place),
            xycoords="axes fraction",
            textcoords="axes fraction",
            color=colour,
            fontsize=size,
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.5,
                "shrinkA": 0,
                "shrinkB": 0,
                "relpos": (0, 0.5),
            },
        )


def named_rows(axes: Axes, names: Sequence[str]) -> None:
    """Rows from the top down with their names."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0, labelsize=8)
    axes.grid(visible=False, axis="y")


def plain_ticks(axis: Axis) -> None:
    """Few round numbers, written out, on a logarithmic axis of about a decade."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 3, 4, 6, 8), numticks=9))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def save(drawn: Figure, files: Sequence[Path]) -> None:
    """Save to each file by its suffix, without a date, so that equal figures are equal files."""
    for path in files:
        drawn.savefig(path, metadata={"CreationDate": None} if path.suffix == ".pdf" else None)
