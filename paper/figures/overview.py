"""The main result in one figure, which `paper.readme` draws: what blocks cost in loss, and what they gain in speed.

Left, for each data set, the loss of small models against the memory that the method adds to weights and activations;
right the speed of a large one against all of its memory. It is no figure of the paper.
"""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from paper.figures import placement, style
from paper.read import cost, studies
from paper.read.cost import Row as Profile
from paper.read.names import data_named, named
from paper.read.studies import Row

TOKENS = 8192
OURS = ("keep", "fused", "fused_host_card24", "0gb")
"""Versions of ours that are drawn."""


def draw(headline: Sequence[Row], profiles: Sequence[Profile]) -> Figure:
    """Intervals are 95 %; hollow marks are as documented, filled ones with our options."""
    sets = studies.by_data(headline)
    drawn = Figure(figsize=(10.5, 3.6))
    panels = drawn.subplots(1, len(sets) + 1, width_ratios=[1] * len(sets) + [1.35])
    for axes, (data, cells) in zip(panels, sets.items(), strict=False):
        _losses(axes, {named(method): runs for method, runs in cells.items()})
        axes.set_title(f"SmolLM2-135M, {data_named(data)}")
    panels[0].set_ylabel(f"{studies.part(headline)} loss (nats a token)")
    _speeds(panels[-1], [profile for profile in profiles if profile.tokens == TOKENS])
    return drawn


def _losses(axes: Axes, cells: dict[str, Sequence[Row]]) -> None:
    points, spans = [], []
    for runs in cells.values():
        estimate = studies.loss(runs)
        memory = max(row.held for row in runs) / 1e6
        colour = style.COLOURS.get(runs[0].method, style.PAIRED)
        axes.plot([memory] * 2, [estimate.low, estimate.high], "_-", color=colour, linewidth=1.4, zorder=3)
        axes.plot(memory, estimate.mean, style.mark(runs[0].method), color=colour, markersize=5, zorder=4)
        points.append((memory, estimate.mean))
        spans.append((estimate.low, estimate.high))
    axes.set(xscale="log", xlabel="gradients and optimizer state (MB)")
    axes.margins(x=0.28, y=0.1)
    placement.label(axes, points, list(cells), spans, size=8)


def _speeds(axes: Axes, profiles: Sequence[Profile]) -> None:
    shown = [profile for profile in profiles if not profile.key.without_tf32]
    shown = [profile for profile in shown if profile.family != "badam" or profile.version in OURS]
    points = [(profile.peak / 1e9, profile.tokens_per_second / 1e3) for profile in shown]
    names = []
    for profile, (x, y) in zip(shown, points, strict=True):
        colour, ours, documented = _colour(profile), profile.family == "badam", profile.version == "documented"
        face, mark = "white" if documented else colour, "*" if ours else style.mark(profile.family)
        size = 9 if ours else 6
        axes.plot(x, y, mark, color=colour, markerfacecolor=face, markersize=size, zorder=3)
        names.append(f"BAdam, {cost.in_print(profile)}" if ours else profile.label if documented else "")
        if documented and (faster := cost.one(shown, profile.family, "options", TOKENS)):
            there = faster.peak / 1e9, faster.tokens_per_second / 1e3
            axes.plot(*zip((x, y), there, strict=True), color=colour, linewidth=0.9, alpha=0.6, zorder=1)
    axes.set(xlabel="peak memory (GB)", ylabel="thousand tokens a second", ylim=(0, None))
    axes.set_title(f"Llama 3-8B, {TOKENS:,} tokens a step")
    axes.margins(x=0.15)
    placement.label(axes, points, names, [(y, y) for _, y in points], size=8)
    for face, label in (("white", "as documented"), ("#555555", "with bcd.execution")):
        axes.plot([], [], "o", color="#555555", markerfacecolor=face, markersize=6, label=label)
    axes.legend(loc="lower right")


def _colour(profile: Profile) -> str:
    """badam 1.4 has the lighter colour of BAdam."""
    return style.COLOURS["badam_all"] if profile.family == "reference" else style.colour(profile.family)
