"""Training loss of each method against steps and against training time."""

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from matplotlib.figure import Figure

from paper.figures import style
from paper.read import studies
from records import Record

SOURCES = {"quick": ("train", "quick")}
WINDOW = 10  # the raw loss is drawn faint, and over it the mean of the last ten steps


def draw(quick: Sequence[Record]) -> Figure:
    drawn, (by_step, by_time) = style.figure(2)
    for row in studies.rows(quick):
        colour = style.COLOURS.get(row.method, style.FALLBACK)
        columns = row.steps
        loss = np.array(columns["loss"])
        sums = np.concatenate([[0.0], np.cumsum(loss)])
        first = np.maximum(np.arange(1, len(loss) + 1) - WINDOW, 0)
        mean = (sums[1:] - sums[first]) / (np.arange(1, len(loss) + 1) - first)
        seconds = np.array(list(accumulate(columns["seconds"])))
        number = np.arange(1, len(loss) + 1)
        by_step.plot(number, loss, color=colour, alpha=0.25, linewidth=0.7)
        by_step.plot(number, mean, color=colour, label=row.label)
        by_time.plot(seconds, mean, color=colour, label=row.label)
    by_step.set(xlabel="optimizer step", ylabel="training loss (nats a token)", ylim=(0, None))
    by_time.set(xlabel="training time (s)", ylim=(0, None), xlim=(0, None))
    by_step.legend()
    return drawn
