"""The learning rates that the tuning studies chose, and which of them lie at the edge of what was tried."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from paper import studies
from paper.runs import LABELS, named
from paper.tables.quick_study import power
from paper.verdicts import data_in_print
from records import Record

STUDIES = {"tuned": ("tuning", "tuned")}
METHOD = "method"


@dataclass(frozen=True)
class Choice:
    """One choice: method, data set, rate, how many were tried and failed, whether it is the least or the largest."""

    method: str
    data: str
    rate: float
    tried: int
    failed: int
    at_edge: bool


def choices(tuned: Sequence[Record]) -> Iterator[Choice]:
    """The choices of the studies that tune each method on a data set; those over model sizes too are left out."""
    for record in tuned:
        for found in record.measurements["choices"]:
            if set(found["cell"]) == {METHOD}:
                yield Choice(
                    method=found["cell"][METHOD].rpartition("/")[2],
                    data=record.config["data"],
                    rate=found["rate"],
                    tried=len(found["tried"]),
                    failed=sum(loss is None for _, loss in found["tried"]),
                    at_edge=found["at_edge"],
                )


def choices_by_model(tuned: Sequence[Record]) -> list[dict[str, Any]]:
    """What `choices` leaves out: the choices of studies that tune each method for models of several sizes."""
    found = [choice for record in tuned for choice in record.measurements["choices"]]
    return [choice for choice in found if set(choice["cell"]) != {METHOD}]


def text(tuned: Sequence[Record]) -> str:
    """A row a method, a column a data set; a star marks the edge."""
    known = {(choice.method, choice.data): choice for choice in choices(tuned)}
    sets = studies.data_sets(data for _, data in known)
    methods = sorted({name for name, _ in known}, key=lambda name: (name not in LABELS, [*LABELS, name].index(name)))
    lines = [rf"\begin{{tabular}}{{@{{}}l{'rr' * len(sets)}@{{}}}}", r"\toprule"]
    lines.append(" & ".join(["method", *(rf"{data_in_print(data)} & failed" for data in sets)]) + r" \\")
    lines.append(r"\midrule")
    for name in methods:
        cells = [_cells(known.get((name, data))) for data in sets]
        lines.append(" & ".join([named(name), *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _cells(choice: Choice | None) -> str:
    if choice is None:
        return "-- & --"
    return f"${power(choice.rate)}${'*' if choice.at_edge else ''} & {choice.failed} of {choice.tried}"
