"""How the gap of BAdam moves with depth, on small Llama 3 models trained here."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from paper.figures import style
from paper.read import statistics, studies
from paper.read.names import named
from records import Record

STUDIES = {"scale": ("train", "scale")}
REFERENCES = ("adamw", "lora")


def draw(scale: Sequence[Record]) -> Figure:
    """Left: loss after finetuning. Right: BAdam minus the other at each depth, paired by seed, with intervals."""
    depths = studies.groups(studies.rows(scale), lambda row: row.layers)
    drawn, (absolute, gap) = style.figure(2, height=2.8)
    cells = {depth: studies.cells(depths[depth], lambda row: row.method) for depth in sorted(depths)}
    for name in dict.fromkeys(name for methods in cells.values() for name in methods):
        colour = style.COLOURS.get(name, style.OTHERS)
        here = [depth for depth in cells if name in cells[depth]]
        means = [studies.loss(cells[depth][name]) for depth in here]
        absolute.plot(here, [item.mean for item in means], color=colour, marker=style.mark(name), markersize=4)
        for depth, item in zip(here, means, strict=True):
            absolute.plot([depth] * 2, [item.low, item.high], color=colour, linewidth=1.2)
    style.end_labels(
        absolute,
        [
            (studies.loss(cells[max(cells)][name]).mean, named(name), style.COLOURS.get(name, style.OTHERS))
            for name in cells[max(cells)]
        ],
    )
    for shift, name in zip((0.97, 1.03), REFERENCES, strict=True):
        differences = {}
        for depth, methods in cells.items():
            losses = {method: studies.losses(runs) for method, runs in methods.items()}
            if difference := statistics.contrast({"badam": 1, name: -1}, losses):
                differences[depth] = difference
        colour = style.COLOURS[name]
        gap.plot(
            [d * shift for d in differences],
            [d.mean for d in differences.values()],
            color=colour,
            marker=style.mark(name),
            markersize=4.5,
            label=f"BAdam $-$ {named(name)}",
        )
        for depth, difference in differences.items():
            gap.plot([depth * shift] * 2, [difference.low, difference.high], color=colour, linewidth=1.4)
    gap.axhline(0, color="black", linewidth=0.7)
    gap.legend()
    for axes in (absolute, gap):
        axes.set(xscale="log", xlabel="layers")
        axes.set_xticks(list(cells), [str(depth) for depth in cells])
        axes.minorticks_off()
    absolute.set(ylabel=f"{studies.part(studies.rows(scale))} loss (nats a token)")
    gap.set(ylabel="BAdam minus other (nats)", ylim=(0, None))
    return drawn
