"""What a block is: peak memory against the held-out loss that it buys."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from paper.figures import placement, style
from paper.read import studies
from records import Record

STUDIES = {"partition": ("train", "partition")}


def draw(partition: Sequence[Record]) -> Figure:
    """Left: gradients and optimizer state at the peak, which the partition decides; right: all that was allocated."""
    cells = studies.cells(studies.rows(partition), lambda row: row.choice("partition"))
    peaks = {name: studies.peak(runs) for name, runs in cells.items()}
    measured = {name: peak for name, peak in peaks.items() if peak is not None}
    drawn, panels = style.figure(2 if measured else 1, height=2.8)
    held = {name: max(row.held for row in runs) / 1e6 for name, runs in cells.items()}
    allocated = {name: peak / 1e9 for name, peak in measured.items()}
    texts = ("gradients and optimizer state (MB)", "peak allocated (GB)")
    for axes, memory, text in zip(panels, (held, allocated), texts, strict=False):
        points, spans = [], []
        for name, x in memory.items():
            loss = studies.loss(cells[name])
            axes.plot([x, x], [loss.low, loss.high], color=style.PAIRED, linewidth=1.6, zorder=3)
            axes.plot(x, loss.mean, "o", color=style.PAIRED, markeredgecolor="white", markersize=5.5, zorder=4)
            points.append((x, loss.mean))
            spans.append((loss.low, loss.high))
        axes.margins(x=0.2, y=0.15)
        axes.set(xlabel=text)
        placement.label(axes, points, [name.replace("_", " ") for name in memory], spans, size=7.5)
    panels[0].set(ylabel=f"{studies.part(studies.rows(partition))} loss (nats a token)")
    return drawn
