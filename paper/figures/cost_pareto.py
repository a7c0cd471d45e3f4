"""Tokens a second against peak memory: our curve over the budget for activations, and the other methods as points."""

from collections.abc import Sequence
from dataclasses import replace

from matplotlib.figure import Figure

from paper.figures import style
from paper.read import cost as study
from records import Record

SOURCES = {"cost": ("profile", "cost")}
COLOURS = {"": style.COLOURS["badam"], "fused": "#882255", "float8": "#D55E00"}
CARD = 24
"""GB of the card that the method's paper is about."""
MARKS = {"reference": "s", "lora": "o", "lisa": "^", "galore": "v", "lomo": "D", "adalomo": "d", "adamw": "P"}


def draw(cost: Sequence[Record]) -> Figure:
    drawn, panels = style.figure(2, height=3.2)
    everything = study.rows(cost)
    for axes, tokens in zip(panels, (2048, 8192), strict=True):
        here = [row for row in everything if row.tokens == tokens]
        ours = sorted((row for row in here if row.family == "badam" and _on_curve(row)), key=lambda row: row.peak)
        axes.plot(
            [row.peak / 1e9 for row in ours],
            [row.tokens_per_second / 1e3 for row in ours],
            color=style.COLOURS["badam"],
            marker=".",
            label="BAdam, ours",
        )
        for row in (row for row in here if row.family == "badam" and not _on_curve(row) and not row.options.clipped):
            products, card = row.options.products, row.options.card is not None
            name = f"{row.options.card:g} GB card" if card else study.in_print(row)
            axes.plot(
                row.peak / 1e9,
                row.tokens_per_second / 1e3,
                "*" if card else "X",
                color=COLOURS[products],
                markersize=8 if card else 6,
                label=None if card and products else f"ours, {name}",  # a star in the colour of its products
            )
        for row in (row for row in here if row.family != "badam" and not _slower_twin(row, here)):
            colour = style.COLOURS["badam_all"] if row.family == "reference" else style.colour(row.family)
            documented = row.version == "documented"
            width = 0.6 if row.layers else 1.2  # thin: estimated from fewer layers
            axes.plot(
                row.peak / 1e9,
                row.tokens_per_second / 1e3,
                MARKS.get(row.family, "x"),
                color=colour,
                markerfacecolor=colour if documented else "none",
                markersize=5,
                markeredgewidth=width,
                label=f"{row.label}{'* (estimated)' if row.layers else ''}" if documented else None,
            )
        axes.axvline(CARD, color="black", linewidth=0.8, linestyle=":", zorder=0)
        axes.annotate(
            f"{CARD} GB",
            (CARD, 0.02),
            (2, 0),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            fontsize=7,
        )
        axes.set(xlabel="peak allocated (GB)", title=f"{tokens:,} tokens a step", ylim=(0, None))
    panels[0].set(ylabel="thousand tokens a second")
    for face, text in (("#555555", "filled: documented"), ("none", "open: our options")):
        panels[1].plot([], [], "o", color="#555555", markerfacecolor=face, markersize=5, label=text)
    entries, names = panels[1].get_legend_handles_labels()
    drawn.legend(entries, names, loc="outside lower center", ncols=4, fontsize=7)
    return drawn


def _slower_twin(row: study.Row, rows: Sequence[study.Row]) -> bool:
    """Whether the same run was made with TensorFloat-32 too."""
    return row.key.without_tf32 and any(other.key == replace(row.key, without_tf32=False) for other in rows)


def _on_curve(row: study.Row) -> bool:
    """Runs of one micro-batch with torch's products, wherever the embedding is."""
    options = row.options
    return not options.products and options.card is None and not options.clipped
