"""The main result: final loss of every method on each data set, and the bytes that it would need at 8 billion weights.

A data set with runs over whole epochs shows those, else the main comparison at equal steps and at equal time.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper.figures import style
from paper.read import frontier, studies
from paper.read.names import data_named, named
from paper.read.studies import Row
from records import Record

STUDIES = {
    "headline": ("train", "headline"),
    "equal_time": ("train", "equal_time"),
    "predicted": ("profile", frontier.PREDICTED),
    **{name: ("train", name) for name in studies.REGIME},
}
CARD = 24
"""GB of the card that the method's paper is about."""
AT_EQUAL_TIME: dict[str, Any] = {"markerfacecolor": "white", "marker": "^", "markersize": 4.6}
GAP = 0.3
"""Of a row, from what has the steps of the others to what has LoRA's time."""


def draw(
    headline: Sequence[Record],
    equal_time: Sequence[Record],
    predicted: Sequence[Record],
    **over_epochs: Sequence[Record],
) -> Figure:
    """A row a method, the lowest loss on the first data set on top; the lines are the means of LoRA and AdamW."""
    regime = studies.by_data(studies.rows(studies.over_epochs(over_epochs)))
    main = studies.by_data(studies.rows(headline)) | regime
    timed = {data: cells for data, cells in studies.by_data(studies.rows(equal_time)).items() if data not in regime}
    names: list[str] = []
    for cells in main.values():
        names += sorted((name for name in cells if name not in names), key=lambda name: studies.loss(cells[name]).mean)
    needed = frontier.predicted_peaks(predicted)
    columns = len(main) + bool(needed)
    drawn = Figure(figsize=(style.WIDTH, 0.85 + 0.27 * len(names)))
    panels = drawn.subplots(1, columns, width_ratios=[1.5] * len(main) + [1] * bool(needed), squeeze=False)[0]
    for axes, (data, cells) in zip(panels, main.items(), strict=False):
        _losses(axes, names, cells, timed.get(data, {}))
        length = studies.regime(row for runs in cells.values() for row in runs)
        axes.set(title=f"{data_named(data)}, {length}", xlabel=f"{studies.part(_rows(main))} loss (nats a token)")
    if needed:
        _bytes(panels[-1], names, needed)
    for axes in panels[1:]:
        style.named_rows(axes, [""] * len(names))
    style.named_rows(panels[0], [named(name) for name in names])
    if timed:
        _legend(drawn)
    return drawn


def _rows(sets: Mapping[str, Mapping[str, Sequence[Row]]]) -> list[Row]:
    return [row for cells in sets.values() for runs in cells.values() for row in runs]


def _losses(
    axes: Axes, names: Sequence[str], cells: Mapping[str, Sequence[Row]], timed: Mapping[str, Sequence[Row]]
) -> None:
    for name in ("lora", "adamw"):
        if name in cells:
            line = "--" if name == "lora" else ":"
            axes.axvline(
                studies.loss(cells[name]).mean, color=style.colour(name), linestyle=line, linewidth=1, zorder=1
            )
    for place, name in enumerate(names):
        for runs, shift, look in ((cells.get(name), 0.0, {}), (timed.get(name), GAP, AT_EQUAL_TIME)):
            if runs:
                shift = shift - (GAP / 2 if timed else 0.0)
                estimate = studies.loss(runs)
                colour = style.colour(name) if name in style.COLOURS else style.FALLBACK
                style.interval(axes, place + shift, estimate.mean, estimate.low, estimate.high, colour, **look)


def _bytes(axes: Axes, names: Sequence[str], needed: Mapping[str, float]) -> None:
    for place, name in enumerate(names):
        if name in needed:
            axes.barh(place, needed[name] / 1e9, 0.6, color=style.colour(name), alpha=0.85)
            axes.annotate(
                f"{needed[name] / 1e9:.0f}",
                (needed[name] / 1e9, place),
                (2, 0),
                fontsize=7,
                va="center",
                textcoords="offset points",
                bbox={"facecolor": "white", "linewidth": 0, "pad": 0.4},
            )
    axes.axvline(CARD, color="black", linestyle=":", linewidth=0.9)
    axes.set(xlabel="predicted peak (GB)", title="Llama 3-8B")
    axes.margins(x=0.15)


def _legend(drawn: Figure) -> None:
    axes = drawn.axes[0]
    look: dict[str, Any] = {"linestyle": "", "color": style.FALLBACK}
    handles = [axes.plot([], [], style.MARK, markersize=3.4, **look, label="steps of the title")[0]]
    handles += [axes.plot([], [], **look | AT_EQUAL_TIME, label="LoRA's time of these")[0]]
    for name, line in (("lora", "--"), ("adamw", ":")):
        handles += axes.plot(
            [], [], line, color=style.colour(name), linewidth=1, label=f"{named(name)}, steps of the title"
        )
    drawn.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=7.5)
