"""The rank of what is learned: singular values of the weight change, and how many of them hold nine tenths of it."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from paper.figures import style
from paper.read import studies
from paper.read.names import named
from paper.read.studies import Row
from records import Record

STUDIES = {"rank": ("train", "rank")}


def draw(rank: Sequence[Record]) -> Figure:
    """Left: median over matrices and seeds, band from the 10th to the 90th percentile. Others: every matrix."""
    cells = studies.cells(studies.rows(rank), lambda row: row.method)
    drawn, (spectra, shares, stable) = style.figure(3, height=2.5)
    names = list(cells)
    for place, (name, runs) in enumerate(cells.items()):
        colour = style.COLOURS.get(name, style.OTHERS)
        values = _aligned(runs)
        position = np.linspace(0, 1, values.shape[1])
        low, middle, high = np.maximum(np.percentile(values, (10, 50, 90), axis=0), 1e-6)
        spectra.fill_between(position, low, high, color=colour, alpha=0.18, linewidth=0)
        line = style.LINES[place % len(style.LINES)]
        spectra.plot(position, middle, color=colour, linestyle=line, label=named(name))
        for axes, numbers in ((shares, _shares(runs)), (stable, _stable(runs))):
            spread = np.random.default_rng(0).uniform(-0.22, 0.22, len(numbers))
            axes.plot(numbers, place + spread, "o", color=colour, markersize=1.6, alpha=0.35, markeredgewidth=0)
            axes.plot([np.median(numbers)] * 2, [place - 0.36, place + 0.36], color="black", linewidth=1.6)
    spectra.set(
        yscale="log", ylim=(1e-4, 1.3), xlabel="index over full rank", ylabel="singular value over the largest"
    )
    spectra.legend(fontsize=7, loc="lower left", handlelength=2.6)
    for axes, text in ((shares, "effective rank over full rank"), (stable, "stable rank")):
        style.named_rows(axes, [named(name) for name in names] if axes is shares else [""] * len(names))
        axes.set(xlabel=text, xlim=(0, None))
    stable.set(xscale="log", xlim=(1, None))
    return drawn


def _matrices(runs: Sequence[Row]) -> list[dict]:
    return [matrix for row in runs for matrix in row.matrices]


def _aligned(runs: Sequence[Row], points: int = 60) -> np.ndarray:
    """Relative singular values of every matrix at equal shares of the full rank; evenly spaced ones are recorded."""
    wanted = np.linspace(0, 1, points)
    rows = [matrix["values"] for matrix in _matrices(runs) if matrix["values"]]
    return np.array([np.interp(wanted, np.linspace(0, 1, len(row)), row) for row in rows])


def _shares(runs: Sequence[Row]) -> list[float]:
    return [matrix["rank_90"] / min(matrix["shape"]) for matrix in _matrices(runs)]


def _stable(runs: Sequence[Row]) -> list[float]:
    return [matrix["stable_rank"] for matrix in _matrices(runs) if matrix["values"]]
