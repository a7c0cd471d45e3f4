"""Time of a step against the index of the active block, with the floor of arithmetic."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from paper.figures import style
from paper.read import cost as study
from records import Record

SOURCES = {"cost": ("profile", "cost")}
LINES = {
    ("reference", "documented"): ("badam 1.4", "#56B4E9", "s"),
    ("badam", "recomputed"): ("ours, least memory", "#009E73", "v"),
    ("badam", "keep"): ("ours, activations kept", "#0072B2", "o"),
    ("badam", "fused"): ("ours, fused products", "#882255", "x"),
    ("badam", "float8"): ("ours, 8-bit products", "#D55E00", "D"),
}


def draw(cost: Sequence[Record]) -> Figure:
    drawn, panels = style.figure(2, height=2.9)
    everything = study.rows(cost)
    for axes, tokens in zip(panels, (2048, 8192), strict=True):
        for (family, version), (name, colour, mark) in LINES.items():
            row = study.one(everything, family, version, tokens)
            if version == "recomputed":
                row = study.recomputed(everything, tokens)
            if row is None:
                continue
            visits = sorted(row.visits)
            indices = [index for index, _, _ in visits]
            axes.plot(
                indices, [seconds for _, seconds, _ in visits], color=colour, marker=mark, markersize=4, label=name
            )
            if version == "keep":
                floor = [floor for _, _, floor in visits]
                axes.plot(indices, floor, color="black", linestyle="--", label="floor")
        axes.set(xlabel="active block", title=f"{tokens:,} tokens a step", ylim=(0, None))
    panels[0].set(ylabel="seconds a step")
    drawn.legend(*panels[1].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=7.5)
    return drawn
