"""BAdam's gaps in every comparison, and the numbers of that over whole epochs, as macro name -> text."""

from collections.abc import Mapping, Sequence

from paper.judge import closing
from paper.judge.closing import Closing, Cost
from paper.read import frontier, statistics, studies
from paper.read.formats import interval
from paper.read.names import data_named, named
from paper.read.regime import clipping
from paper.read.studies import Row
from records import Record

BADAM, TARGETS = "badam", ("lora", "adamw")


def of_regime(regime: Sequence[Record], predicted: Sequence[Record], measured: Sequence[Record]) -> dict[str, str]:
    """Lengths, who reaches LoRA's mean loss, and the best block method beside its twin."""
    sets = studies.by_data(studies.rows(regime))
    every = [row for cells in sets.values() for runs in cells.values() for row in runs]
    lengths = {data: studies.regime(row for runs in cells.values() for row in runs) for data, cells in sets.items()}
    batches = sorted({row.config["batch_size"] for row in every})
    peaks, seconds = frontier.predicted_peaks(predicted), frontier.measured_seconds(measured)
    costs = {name: Cost(peaks.get(name), seconds.get(name)) for name in peaks.keys() | seconds.keys()}
    judged = {data: closing.judge(cells, costs) for data, cells in sets.items()}
    return {
        "StudyRegimeCloses": _closes(judged),
        "StudyRegimeHelps": _each({data: _helps(variants) for data, variants in judged.items()}),
        "StudyRegimeLengths": _each({data: lengths[data] for data in sets}),
        "StudyRegimeBatch": " or ".join(map(str, batches)),
        "StudyRegimeReach": _each({data: _reach(cells) for data, cells in sets.items()}),
        "StudyRegimePurpose": _each({data: _purpose(cells) for data, cells in sets.items()}),
    }


def costs_of_blocks(rows: Sequence[Row]) -> str:
    """What blocks cost under SGD's rule for each kind of clipping: BCD + SGD's loss minus SGD's."""
    found = []
    for kind, runs in studies.groups(rows, clipping).items():
        difference = _difference(studies.cells(runs, lambda row: row.method), "bsgd", "sgd")
        if difference:
            found.append(f"{difference} with {kind}")
    return "; ".join(found) or "--"


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
    return "; ".join(f"{text} on {data_named(data)}" for data, text in texts.items())


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


def _closes(judged: Mapping[str, Sequence[Closing]]) -> str:
    """Variants that close the gap on every data set, and how many cannot be told."""
    methods = list(dict.fromkeys(each.method for variants in judged.values() for each in variants))
    told = {method: closing.closes_everywhere(method, judged) for method in methods}
    undecided = [named(method) for method, closes in told.items() if closes is None]
    closed = ", ".join(named(method) for method, closes in told.items() if closes) or "none"
    return closed + (f" (cannot be told of {', '.join(undecided)})" if undecided else "")


def _helps(variants: Sequence[Closing]) -> str:
    """Of how many variants with a twin the block contributes."""
    with_twin = [each for each in variants if each.block_helps is not None]
    if not with_twin:
        return "no twin was run"
    helped = ", ".join(named(each.method) for each in with_twin if each.block_helps)
    return f"{helped or 'none'} of {len(with_twin)} with a twin"


def _purpose(cells: Mapping[str, Sequence[Row]]) -> str:
    """The variant of the lowest loss, against LoRA, AdamW and its twin without a block."""
    blocks = {name: studies.loss(runs).mean for name, runs in cells.items() if closing.is_variant(name, runs)}
    if not blocks:
        return "no block method was run"
    best = min(blocks, key=lambda name: blocks[name])
    twin = closing.twin_of(best, cells)
    shown = {other: _difference(cells, best, other) for other in (*TARGETS, *filter(None, [twin]))}
    parts = [
        f"{text} to {named(other)}{', its twin without it' if other == twin else ''}"
        for other, text in shown.items()
        if text
    ]
    return f"the lowest loss with an active block of Adam has {named(best)}, {'; '.join(parts) or 'alone'}"
