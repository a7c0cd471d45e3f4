"""Theorem A1 on one run: the theorem against the trajectory, and how tight each line of its proof is."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from paper.figures import style
from records import Record

SOURCES = {"theory": ("verify", "theory")}
NAMES = {"T": "Lemma T", "S": "Lemma S", "bound": "theorem"}


def draw(theory: Sequence[Record]) -> Figure:
    (record,) = (r for r in theory if r.name == "a1-quadratic-quick")
    showcase = record.measurements["showcase"]
    drawn, (trajectory, lines) = style.figure(2, height=2.9)

    epochs = np.arange(len(showcase["bound"]))
    trajectory.semilogy(epochs, showcase["bound"], color="#D55E00", label="Theorem A1")
    trajectory.semilogy(epochs, showcase["measured"], color="#0072B2", label="measured")
    trajectory.set(xlabel="block epoch $T$", ylabel=r"$\min_{t \leq T}\ \|\nabla f(x^t)\|^2$")
    trajectory.legend()

    ratios = {
        NAMES.get(name, name): [ratio for ratio in series if ratio is not None]
        for name, series in showcase["ratios"].items()
    }
    shown = {name: values for name, values in ratios.items() if values}
    places = np.arange(len(shown))[::-1]
    for place, values in zip(places, shown.values(), strict=True):
        lines.plot(values, np.full(len(values), place), "|", color="#0072B2", alpha=0.25, markersize=7)
        lines.plot(max(values), place, "o", color="#D55E00", markersize=4)
    lines.axvline(1.0, color="black", linewidth=0.8)
    lines.set_yticks(places, list(shown))
    lines.set(xlabel="left side / right side of the line", xlim=(-0.02, 1.05))
    return drawn
