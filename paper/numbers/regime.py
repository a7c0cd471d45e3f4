"""The numbers of the study over whole epochs, as macro name -> text: what block coordinate descent is for."""

from collections.abc import Mapping, Sequence

from paper.read import statistics, studies
from paper.read.formats import interval
from paper.read.names import data_named, named
from paper.read.studies import Row
from records import Record

BADAM, TARGETS = "badam", ("lora", "adamw")
TWINS = ("sign", "row_normalised", "factored")
"""Methods that move all weights by one of these rules and have no active block, the twins of those with one."""


def of_regime(regime: Sequence[Record]) -> dict[str, str]:
    """Lengths, BAdam's gaps, who reaches LoRA's mean loss, and the best block method beside its twin."""
    sets = studies.by_data(studies.rows(regime))
    every = [row for cells in sets.values() for runs in cells.values() for row in runs]
    lengths = {data: studies.regime(row for runs in cells.values() for row in runs) for data, cells in sets.items()}
    batches = sorted({row.config["batch_size"] for row in every})
    macros = {
        "StudyRegimeLengths": _each({data: lengths[data] for data in sets}),
        "StudyRegimeBatch": " or ".join(map(str, batches)),
        "StudyRegimeReach": _each({data: _reach(cells) for data, cells in sets.items()}),
        "StudyRegimePurpose": _each({data: _purpose(cells) for data, cells in sets.items()}),
    }
    for target in TARGETS:
        gaps = {data: _difference(cells, BADAM, target) for data, cells in sets.items()}
        macros[f"StudyRegimeGap{target.capitalize()}"] = (
            _each({data: gap for data, gap in gaps.items() if gap}) or "--"
        )
    return macros


def _each(texts: Mapping[str, str]) -> str:
    return "; ".join(f"on {data_named(data)} {text}" for data, text in texts.items())


def _difference(cells: Mapping[str, Sequence[Row]], ours: str, theirs: str) -> str:
    """The difference of two methods with its interval, "" where one has no runs."""
    losses = {name: studies.losses(runs) for name, runs in cells.items()}
    found = statistics.contrast({ours: 1, theirs: -1}, losses) if ours != theirs else None
    return interval(found) if found else ""


def _reach(cells: Mapping[str, Sequence[Row]]) -> str:
    """Methods with at most LoRA's mean loss, the lowest first."""
    means = {name: studies.loss(runs).mean for name, runs in cells.items()}
    if "lora" not in means:
        return "cannot be told"
    below = sorted((mean, name) for name, mean in means.items() if name != "lora" and mean <= means["lora"])
    return ", ".join(named(name) for _, name in below) or "none"


def _purpose(cells: Mapping[str, Sequence[Row]]) -> str:
    """The block method of the lowest loss, against LoRA, AdamW and its twin without blocks."""
    blocks = {name: studies.loss(runs).mean for name, runs in cells.items() if is_block_method(runs[0])}
    if not blocks:
        return "no block method was run"
    best = min(blocks, key=lambda name: blocks[name])
    twin = next((name for name in TWINS if f"_{name}" in best), None)
    others = [*TARGETS, *([twin] if twin else [])]
    shown = {other: _difference(cells, best, other) for other in others}
    parts = [f"{text} to {named(other)}" for other, text in shown.items() if text]
    if twin and shown[twin]:
        parts[-1] += ", its twin without blocks"
    return f"the block method of the lowest loss is {named(best)}, {'; '.join(parts) or 'alone'}"


def is_block_method(row: Row) -> bool:
    """Whether the run trains one part of the weights at a time."""
    return row.choice("partition") not in ("", "single") and row.value("method.inner_steps") is not None
