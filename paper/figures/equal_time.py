"""Held-out loss along training against the time of the steps, where every method has the time of LoRA's steps."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from paper.figures import style
from paper.read import studies
from paper.read.names import data_named, named
from records import Record, RecordError

STUDIES = {"equal_time": ("train", "equal_time"), "steps_alone": ("profile", "steps_alone")}


def draw(equal_time: Sequence[Record], steps_alone: Sequence[Record]) -> Figure:
    """One panel a data set.

    Raises:
        RecordError: for a method none of whose steps was timed alone.
    """
    sets = studies.by_data(studies.rows(equal_time))
    drawn, panels = style.figure(len(sets), 2.9)
    for axes, (data, cells) in zip(panels, sets.items(), strict=True):
        seconds = studies.seconds_alone(steps_alone, cells)
        if untimed := ", ".join(name for name in cells if name not in seconds):
            raise RecordError(f"no step of {untimed} on {data} was timed alone; run experiments.alone study=headline")
        ends, times = [], []
        for name, runs in cells.items():
            colour, mark = style.COLOURS.get(name, style.FALLBACK), style.mark(name)
            times.append(runs[0].config["steps"] * seconds[name])
            scales = [times[-1] / row.tokens for row in runs]
            last = style.curve(axes, [row.curve for row in runs], colour, scales, mark)
            ends.append((last, named(name), colour))
        axes.set(xlabel="time of the steps alone (s)", ylabel=f"{data_named(data)}: held-out loss (nats a token)")
        axes.set_xlim(axes.get_xlim()[0], 1.002 * max(times))
        style.end_labels(axes, ends)
    return drawn
