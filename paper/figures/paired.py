"""The figure of a study that varies one thing: the loss of every cell, and its difference to a reference by seed."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from paper.figures import style
from paper.judge.verdicts import loss_margin
from paper.read import statistics, studies
from paper.read.studies import Row


def draw(cells: Mapping[str, Sequence[Row]], reference: str, colours: Mapping[str, str] | None = None) -> Figure:
    """Rows from the top down in the order of the cells; the grey band is the margin of equivalence.

    Args:
        reference: the cell that the others are compared with; the right panel is empty where it has no runs.
    """
    drawn, (absolute, paired) = style.figure(2, height=0.9 + 0.24 * len(cells))
    colours = colours or {}
    for place, (name, rows) in enumerate(cells.items()):
        colour = colours.get(name, style.PAIRED)
        losses = studies.losses(rows)
        style.runs(absolute, [place + 0.22] * len(losses), losses.values(), colour)
        estimate = studies.loss(rows)
        style.interval(absolute, place, estimate.mean, estimate.low, estimate.high, colour)
        if name == reference or reference not in cells:
            continue
        theirs = studies.losses(cells[reference])
        shared = sorted(losses.keys() & theirs.keys())
        style.runs(paired, [place + 0.22] * len(shared), [losses[s] - theirs[s] for s in shared], colour)
        both = {"ours": losses, "theirs": theirs}
        if difference := statistics.contrast({"ours": 1, "theirs": -1}, both):
            style.interval(paired, place, difference.mean, difference.low, difference.high, colour)
    if reference in cells:
        margin = loss_margin(cells[reference])
        paired.axvspan(-margin, margin, color="#e8e8e8", zorder=0, linewidth=0)
        paired.axvline(0, color="black", linewidth=0.7, zorder=1)
        paired.set(xlabel=f"difference to {reference} (nats)")
    style.named_rows(absolute, list(cells))
    style.named_rows(paired, [""] * len(cells))
    absolute.set(xlabel=f"{studies.part(row for rows in cells.values() for row in rows)} loss (nats a token)")
    return drawn
