"""Held-out loss along training: against tokens, and against the time that the steps take alone on the GPU."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from paper.figures import style
from paper.read import studies
from paper.read.names import data_named, named
from records import Record

STUDIES = {"headline": ("train", "headline"), "steps_alone": ("profile", "steps_alone")}


def draw(headline: Sequence[Record], steps_alone: Sequence[Record]) -> Figure:
    """One row of panels a data set; times are left out where no step was measured alone."""
    rows = studies.rows(headline)
    cells = studies.by_data(rows)
    sets = list(cells)
    drawn = Figure(figsize=(style.WIDTH, 2.5 * len(sets) + 0.3))
    times = {data: studies.seconds_alone(steps_alone, cells[data]) for data in sets}
    panels = drawn.subplots(len(sets), 2 if any(times.values()) else 1, squeeze=False, sharey="row")
    for line, data in zip(panels, sets, strict=True):
        ends = []
        for name, runs in cells[data].items():
            colour = style.COLOURS.get(name, style.FALLBACK)
            curves = [row.curve for row in runs]
            ends.append((style.curve(line[0], curves, colour, [1e-6] * len(runs)), named(name), colour))
            if name in times[data]:
                steps = runs[0].config["steps"]
                scales = [steps * times[data][name] / row.tokens for row in runs]
                style.curve(line[1], curves, colour, scales)
        if len(line) > 1 and not times[data]:
            line[1].set(xticks=[])
            line[1].text(0.5, 0.5, "no step timed alone", transform=line[1].transAxes, ha="center", color="0.5")
        line[0].set(ylabel=f"{data_named(data)}: held-out loss")
        line[0].set_xlim(line[0].get_xlim()[0], max(row.tokens for row in rows if row.data == data) * 1e-6)
        style.end_labels(line[0], ends)
    for axes, name in zip(panels[-1], ("tokens trained on (millions)", "time of the steps alone (s)"), strict=False):
        axes.set(xlabel=name)
    return drawn
