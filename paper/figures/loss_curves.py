"""Training loss of each method against steps, and against steps times the median time of one."""

from collections.abc import Sequence
from statistics import median

import numpy as np
from matplotlib.figure import Figure

from paper.figures import style
from paper.read import studies
from records import Record

SOURCES = {"quick": ("train", "quick")}
HALF = 5
"""The raw loss is drawn faint, and over it the mean of so many steps before, the step and so many after it."""


def draw(quick: Sequence[Record]) -> Figure:
    drawn, (by_step, by_time) = style.figure(2)
    for place, row in enumerate(studies.rows(quick)):
        colour = style.COLOURS.get(row.method, style.FALLBACK)
        columns = row.steps
        loss = np.array(columns["loss"])
        line = style.LINES[place % len(style.LINES)]
        mean = [float(np.mean(loss[max(0, i - HALF) : i + HALF + 1])) for i in range(len(loss))]
        number = np.arange(1, len(loss) + 1)
        seconds = median(columns["seconds"]) * number  # single steps show what else the machine did
        by_step.plot(number, loss, color=colour, alpha=0.25, linewidth=0.7)
        by_step.plot(number, mean, color=colour, linestyle=line, label=row.label)
        by_time.plot(seconds, mean, color=colour, linestyle=line, label=row.label)
    by_step.set(xlabel="optimizer step", ylabel="training loss (nats a token)", ylim=(0, None))
    by_time.set(xlabel="steps times the median step (s)", ylim=(0, None), xlim=(0, None))
    by_step.legend()
    return drawn
