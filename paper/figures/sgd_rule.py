"""Does BCD make SGD's rule workable? Adam's rule and SGD's, each on all weights and on one block at a time."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from paper.figures import style
from paper.read import statistics, studies
from paper.read.names import data_named
from records import Record

STUDIES = {"headline": ("train", "headline")}
RULES = {"Adam's rule": ("adamw", "badam"), "SGD's rule": ("sgd", "bsgd")}
COLOURS = {"Adam's rule": "#0072B2", "SGD's rule": "#E69F00"}
LOOKS = {"Adam's rule": {"marker": "o"}, "SGD's rule": {"marker": "s", "linestyle": "--"}}
SETS = ({"marker": "o"}, {"marker": "s", "markerfacecolor": "white"})
"""Looks of the data sets on the right."""
CONTRASTS = {
    "BCD's cost under Adam's rule": {"badam": 1, "adamw": -1},
    "BCD's cost under SGD's rule": {"bsgd": 1, "sgd": -1},
    "interaction": {"bsgd": 1, "sgd": -1, "badam": -1, "adamw": 1},
}


def draw(headline: Sequence[Record]) -> Figure:
    """Left panels: the four means of each data set with the runs. Right: differences paired by seed.

    The interaction is below 0 where BCD narrows the gap between the rules.
    """
    sets = studies.by_data(studies.rows(headline))
    drawn = Figure(figsize=(style.WIDTH, 2.8))
    panels = drawn.subplots(1, len(sets) + 1, width_ratios=[*([1] * len(sets)), 1.3], squeeze=False)[0]
    effects = panels[-1]
    for index, (axes, (data, cells)) in enumerate(zip(panels, sets.items(), strict=False)):
        for shift, (rule, (full, block)) in zip((-0.03, 0.03), RULES.items(), strict=True):
            here = [(place, cells[name]) for place, name in enumerate((full, block)) if name in cells]
            means = [studies.loss(runs) for _, runs in here]
            colour = COLOURS[rule]
            axes.plot(
                [place + shift for place, _ in here],
                [item.mean for item in means],
                color=colour,
                markersize=4,
                label=rule,
                **LOOKS[rule],
            )
            for (place, runs), item in zip(here, means, strict=True):
                axes.plot([place + shift] * 2, [item.low, item.high], "_-", color=colour, linewidth=1.4)
                axes.plot(
                    [place + 3 * shift] * len(runs),
                    [row.reported for row in runs],
                    "o",
                    color=colour,
                    markersize=2.2,
                    alpha=0.4,
                )
        axes.set_xticks((0, 1), ("all weights", "one block"))
        axes.set(title=data_named(data), xlim=(-0.25, 1.25))
        axes.margins(y=0.15)
        losses = {name: studies.losses(runs) for name, runs in cells.items()}
        for place, (_, contrast) in enumerate(CONTRASTS.items()):
            if difference := statistics.contrast(contrast, losses):
                colour = ("#000000", style.OTHERS)[index % 2]
                row = place + 0.18 * (index - (len(sets) - 1) / 2) * 2
                look = SETS[index % 2]
                style.interval(effects, row, difference.mean, difference.low, difference.high, colour, **look)
    for index, data in enumerate(sets):
        look = {"color": ("#000000", style.OTHERS)[index % 2], "markersize": 4} | SETS[index % 2]
        effects.plot([], [], label=data_named(data), **look)
    effects.axvline(0, color="black", linewidth=0.7)
    style.named_rows(effects, ["BCD's cost,\nAdam's rule", "BCD's cost,\nSGD's rule", "interaction"])
    effects.set(xlabel="difference (nats)")
    effects.legend(loc="lower center", bbox_to_anchor=(0.5, 0.99), ncols=2, fontsize=7.5, handlelength=1.2)
    panels[0].set(ylabel=f"{studies.part(studies.rows(headline))} loss (nats a token)")
    panels[0].legend(loc="upper left", fontsize=7.5, handlelength=1.2)
    return drawn
