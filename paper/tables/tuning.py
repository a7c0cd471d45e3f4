"""The learning rates that the tuning studies chose, and which of them lie at the edge of what was tried."""

from collections.abc import Sequence

from paper.read import studies, tuning
from paper.read.formats import scientific
from paper.read.names import LABELS, data_named, named
from records import Record

STUDIES = {"tuned": ("tuning", "tuned")}


def text(tuned: Sequence[Record]) -> str:
    """A row a method, a column a data set and length of training; a star marks the edge."""
    chosen = {(choice.method, choice.over_epochs, choice.data): choice for choice in tuning.choices(tuned)}
    lengths = sorted({over_epochs for _, over_epochs, _ in chosen})
    sets = [
        (over, data)
        for over in lengths
        for data in studies.data_sets(data for _, other, data in chosen if other == over)
    ]
    methods = sorted({name for name, *_ in chosen}, key=lambda name: (name not in LABELS, [*LABELS, name].index(name)))
    lines = [rf"\begin{{tabular}}{{@{{}}l{'rr' * len(sets)}@{{}}}}", r"\toprule"]
    lines.append(
        " & ".join(["method", *(rf"{data_named(data)}{', epochs' * over} & failed" for over, data in sets)]) + r" \\"
    )
    lines.append(r"\midrule")
    for name in methods:
        cells = [_cells(chosen.get((name, *place))) for place in sets]
        lines.append(" & ".join([named(name), *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _cells(choice: tuning.Choice | None) -> str:
    if choice is None:
        return "-- & --"
    return f"${scientific(choice.rate)}${'*' if choice.at_edge else ''} & {choice.failed} of {choice.tried}"
