"""Variants of BAdam and what they are compared with: loss, memory and time of each, and LoRA's as the target."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from paper.read import cost, studies
from paper.read.names import about
from paper.read.statistics import Estimate
from paper.read.studies import Compared, Row
from records import Record

STUDIES = {
    "variants": ("train", "variants"),
    "methods": ("train", "methods"),
    "steps_alone": ("profile", "steps_alone"),
}
PREDICTED, MEASURED = "frontier_predicted", "frontier"
"""Studies of a step of Llama 3-8B by every method in one way; `about.family` is the method's name at 135M."""
OURS, TOKENS = "badam", 8192
"""Of the study of cost: the family that is ours, and the tokens of a step."""
SHOWN = ("badam", "badam_all", "adamw", "lora", "sgd", "galore", "lisa")
"""Of the study of methods: what the variants are compared with."""
TARGET = "lora"
AGAINST = ("badam", TARGET)


@dataclass(frozen=True)
class Entry:
    """One method.

    Attributes:
        variant: whether it is of the study of variants.
        peak: bytes at the peak, None if not measured.
        seconds: of a step alone, None if not measured.
        against: method -> difference of the loss to it.
        within: whether mean loss, memory and time are at most LoRA's; None for LoRA, and where it cannot be told.
    """

    method: str
    variant: bool
    rate: float
    loss: Estimate
    peak: float | None
    seconds: float | None
    against: Mapping[str, Compared]
    within: bool | None


def entries(variants: Sequence[Record], methods: Sequence[Record], steps_alone: Sequence[Record]) -> list[Entry]:
    """Variants and the methods of `SHOWN`, by mean loss."""
    of_variants = studies.cells(studies.rows(variants), lambda row: row.method)
    others = studies.cells((row for row in studies.rows(methods) if row.method in SHOWN), lambda row: row.method)
    cells = others | of_variants
    losses = {name: studies.losses(runs) for name, runs in cells.items()}
    tests = {other: studies.against(losses, other) for other in AGAINST}
    seconds = studies.seconds_alone(steps_alone, cells)
    numbers = {name: (studies.loss(runs).mean, studies.peak(runs), seconds.get(name)) for name, runs in cells.items()}
    every = [
        Entry(
            method=name,
            variant=name in of_variants,
            rate=runs[0].value("method.lr"),
            loss=studies.loss(runs),
            peak=numbers[name][1],
            seconds=numbers[name][2],
            against={other: tests[other][name] for other in AGAINST if name in tests[other]},
            within=None if name == TARGET else _within(numbers[name], numbers.get(TARGET)),
        )
        for name, runs in cells.items()
    ]
    return sorted(every, key=lambda entry: entry.loss.mean)


def _within(ours: Sequence[float | None], theirs: Sequence[float | None] | None) -> bool | None:
    pairs = list(zip(ours, theirs or [None], strict=theirs is not None))
    if any(a > b for a, b in pairs if a is not None and b is not None):
        return False
    return None if any(a is None or b is None for a, b in pairs) else True


@dataclass(frozen=True)
class Large:
    """A method with its loss at 135M and the cost of its step at 8B.

    Attributes:
        block: whether it trains one part of the weights at a time.
        peak: predicted bytes at the peak of a step, None without a prediction.
        seconds: of a step, None if not measured.
        within: whether mean loss, bytes and seconds are at most LoRA's; None for LoRA, and where one is not known.
    """

    method: str
    block: bool
    loss: Estimate
    peak: float | None
    seconds: float | None
    within: bool | None


def large(
    rows: Sequence[Row], predicted: Sequence[Record], measured: Sequence[Record], cost: Sequence[Record]
) -> list[Large]:
    """The methods of these runs of one data set that have a prediction or a time at 8B, by mean loss.

    Times are those of the study of the frontier, and where it has none those of the study of cost with our options.
    """
    cells = studies.cells(rows, lambda row: row.method)
    peaks, seconds = predicted_peaks(predicted), measured_seconds(measured) or option_seconds(cost)
    numbers = {name: (studies.loss(runs).mean, peaks.get(name), seconds.get(name)) for name, runs in cells.items()}
    found = [
        Large(
            method=name,
            block=runs[0].has_blocks,
            loss=studies.loss(runs),
            peak=numbers[name][1],
            seconds=numbers[name][2],
            within=None if name == TARGET else _within(numbers[name], numbers.get(TARGET)),
        )
        for name, runs in cells.items()
        if name in peaks or name in seconds
    ]
    return sorted(found, key=lambda entry: entry.loss.mean)


def losses_of(regime: Sequence[Record], variants: Sequence[Record], methods: Sequence[Record]) -> dict[str, list[Row]]:
    """Data set -> the runs whose losses the frontier shows: those over whole epochs where there are any."""
    of_variants = studies.rows(variants)
    there = {row.method for row in of_variants}
    others = [row for row in studies.rows(methods) if row.method not in there]
    rows = studies.rows(regime) or [*others, *of_variants]
    return {data: [row for row in rows if row.data == data] for data in studies.data_sets(row.data for row in rows)}


def predicted_peaks(predicted: Sequence[Record]) -> dict[str, float]:
    """Method -> bytes at the predicted peak of a step at 8B."""
    finished = [record for record in predicted if record.status == "finished"]
    return {about(record, "family"): max(record.measurements["predicted"]["phases"].values()) for record in finished}


def measured_seconds(measured: Sequence[Record]) -> dict[str, float]:
    """Method -> seconds of a step at 8B."""
    finished = [record for record in measured if record.status == "finished"]
    return {about(record, "family"): record.measurements["seconds"]["step"] for record in finished}


def option_seconds(records: Sequence[Record]) -> dict[str, float]:
    """The same from the study of cost: with our options, all activations kept where they fit."""
    rows = [row for row in cost.rows(records) if row.tokens == TOKENS and not row.key.without_tf32]
    versions = {row.family: "keep" if row.family == OURS else "options" for row in rows}
    return {row.family: row.seconds["step"] for row in rows if row.version == versions[row.family]}
