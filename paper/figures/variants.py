"""How much of the gap to LoRA and AdamW each variant of BAdam closes, paired by seed."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from paper.figures import style
from paper.read import statistics, studies
from paper.read.names import named
from records import Record

STUDIES = {"variants": ("train", "variants"), "methods": ("train", "methods")}
AGAINST = ("badam", "lora", "adamw")


def draw(variants: Sequence[Record], methods: Sequence[Record]) -> Figure:
    """Difference of the final loss to BAdam, to LoRA and to AdamW; left of the line the variant is better."""
    cells = studies.groups(studies.rows(variants), lambda row: row.method)
    others = studies.groups(studies.rows(methods), lambda row: row.method)
    part = studies.part([*studies.rows(variants), *studies.rows(methods)])
    against = [name for name in AGAINST if name in others or name in cells]
    losses = {name: studies.losses(runs) for name, runs in (others | cells).items()}
    names = sorted(cells, key=lambda name: studies.loss(cells[name]).mean)
    drawn, panels = style.figure(max(1, len(against)), height=0.8 + 0.21 * len(names))
    for axes, other in zip(panels, against, strict=False):
        for place, name in enumerate(names):
            difference = statistics.contrast({name: 1, other: -1}, losses) if name != other else None
            if difference is None:
                continue
            shared = sorted(losses[name].keys() & losses[other].keys())
            values = [losses[name][seed] - losses[other][seed] for seed in shared]
            style.runs(axes, [place + 0.25] * len(values), values, style.PAIRED)
            style.interval(axes, place, difference.mean, difference.low, difference.high, style.PAIRED)
        axes.axvline(0, color=style.COLOURS[other], linewidth=1, zorder=1)
        axes.margins(x=0.12)
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.set(xlabel=f"{part} loss minus\n{named(other)}'s (nats)")
        style.named_rows(axes, [""] * len(names))
    style.named_rows(panels[0], [named(name) for name in names])
    return drawn
