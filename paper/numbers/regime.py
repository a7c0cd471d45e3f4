"""BAdam's gaps in every comparison, and the numbers of that over whole epochs, as macro name -> text."""

from collections.abc import Mapping, Sequence

from paper.read import statistics, studies
from paper.read.formats import interval
from paper.read.names import data_named, named
from paper.read.studies import Row
from records import Record

BADAM, TARGETS = "badam", ("lora", "adamw")
RULES = ("sign", "row_normalised", "factored")
"""Methods that move all layers by one of these rules and have no active block."""
TWIN = "_twin"
"""What the name of a method ends with that is another one with its rule for inactive layers on the block too."""


def of_regime(regime: Sequence[Record]) -> dict[str, str]:
    """Lengths, who reaches LoRA's mean loss, and the best block method beside its twin."""
    sets = studies.by_data(studies.rows(regime))
    every = [row for cells in sets.values() for runs in cells.values() for row in runs]
    lengths = {data: studies.regime(row for runs in cells.values() for row in runs) for data, cells in sets.items()}
    batches = sorted({row.config["batch_size"] for row in every})
    return {
        "StudyRegimeLengths": _each({data: lengths[data] for data in sets}),
        "StudyRegimeBatch": " or ".join(map(str, batches)),
        "StudyRegimeReach": _each({data: _reach(cells) for data, cells in sets.items()}),
        "StudyRegimePurpose": _each({data: _purpose(cells) for data, cells in sets.items()}),
    }


def gaps_of(study: str, rows: Sequence[Row]) -> dict[str, str]:
    """BAdam's loss minus those of `TARGETS` on each data set of a study.

    Args:
        study: as in the names of macros.
    """
    macros = {}
    for target in TARGETS:
        found = {data: _difference(cells, BADAM, target) for data, cells in studies.by_data(rows).items()}
        shown = " and ".join(f"{gap} on {data_named(data)}" for data, gap in found.items() if gap)
        macros[f"Study{study}Gap{target.capitalize()}"] = shown or "--"
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
    blocks = {
        name: studies.loss(runs).mean for name, runs in cells.items() if runs[0].has_blocks and not name.endswith(TWIN)
    }
    if not blocks:
        return "no block method was run"
    best = min(blocks, key=lambda name: blocks[name])
    twins = [f"{best}{TWIN}", *(rule for rule in RULES if f"_{rule}" in best)]
    shown = {other: _difference(cells, best, other) for other in (*TARGETS, *twins)}
    parts = [
        f"{text} to {named(other)}{', a twin without it' if other in twins else ''}"
        for other, text in shown.items()
        if text
    ]
    return f"the lowest loss with an active block of Adam has {named(best)}, {'; '.join(parts) or 'alone'}"
