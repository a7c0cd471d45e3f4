"""Every method at equal tokens: the held-out loss after training, every run and the mean with its interval."""

from collections.abc import Sequence
from statistics import median

from matplotlib.figure import Figure

from paper.figures import style
from paper.read import studies
from paper.read.names import named
from records import Record

STUDIES = {"methods": ("train", "methods"), "steps_alone": ("profile", "steps_alone")}


def draw(methods: Sequence[Record], steps_alone: Sequence[Record]) -> Figure:
    """Sorted by loss; beside it peak memory and the time of a step alone, where they were measured.

    Lines on the times go from the least to the largest median of the rounds, where there were several.
    """
    cells = studies.cells(studies.rows(methods), lambda row: row.method)
    names = sorted(cells, key=lambda name: studies.loss(cells[name]).mean)
    seconds = studies.seconds_alone(steps_alone, cells)
    timed = studies.measured_alone(steps_alone, cells)
    peaks = {name: peak for name in names if (peak := studies.peak(cells[name])) is not None}
    drawn = Figure(figsize=(style.WIDTH, 0.8 + 0.2 * len(names)))
    loss, memory, time = drawn.subplots(1, 3, width_ratios=(2.2, 1, 1))
    for place, name in enumerate(names):
        colour = style.COLOURS.get(name, style.OTHERS)
        style.runs(loss, [place + 0.25] * len(cells[name]), [row.reported for row in cells[name]], colour)
        estimate = studies.loss(cells[name])
        style.interval(loss, place, estimate.mean, estimate.low, estimate.high, colour)
        memory.barh(place, peaks.get(name, 0.0) / 1e9, 0.55, color=colour)
        time.barh(place, 1e3 * seconds.get(name, 0.0), 0.55, color=colour)
        rounds = [1e3 * median(each) for each in timed.get(name, {}).get("rounds", ())]
        if len(rounds) > 1:
            time.plot([min(rounds), max(rounds)], [place] * 2, "|-", color="black", linewidth=1, markersize=5)
    style.named_rows(loss, [named(name) for name in names])
    for axes, text, measured in ((memory, "peak (GB)", peaks), (time, "step alone (ms)", seconds)):
        style.named_rows(axes, [""] * len(names))
        axes.set(xlabel=text)
        axes.set_visible(bool(measured))
    loss.set(xlabel=f"{studies.part(studies.rows(methods))} loss (nats a token)")
    return drawn
