"""Variants of BAdam and what they are compared with: loss, memory and time of each, and LoRA's as the target."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from paper.read import studies
from paper.read.statistics import Estimate
from paper.read.studies import Compared
from records import Record

STUDIES = {
    "variants": ("train", "variants"),
    "methods": ("train", "methods"),
    "steps_alone": ("profile", "steps_alone"),
}
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
