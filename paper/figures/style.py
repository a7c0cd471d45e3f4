"""How every figure looks and is saved."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

WIDTH = 6.5  # inches, the text width of main.tex

COLOURS = {  # Okabe-Ito, distinguishable with any colour vision
    "badam": "#0072B2",
    "badam_all": "#56B4E9",
    "bsgd": "#009E73",
    "lisa": "#F0E442",
    "adamw": "#D55E00",
    "sgd": "#E69F00",
    "lora": "#CC79A7",
}
FALLBACK = "#000000"

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


def save(drawn: Figure, files: Sequence[Path]) -> None:
    """Save to each file by its suffix, without a date, so that equal figures are equal files."""
    for path in files:
        drawn.savefig(path, metadata={"CreationDate": None} if path.suffix == ".pdf" else None)
