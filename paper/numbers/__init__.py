"""Every number in the text of the paper, as LaTeX macros made from records.

\\newcommand names hold letters only: Quick + method + quantity, for example \\QuickBadamLoss.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from paper.numbers import ablations, audit, checks, cost, evidence, execution, match, practice, quick
from records import Record


@dataclass(frozen=True)
class Macros:
    """Numbers that come from the same records.

    Attributes:
        sources: argument -> (kind, study) of the records, in the order of the arguments of `numbers`.
        numbers: the records -> name and value of every macro.
        studies: argument by name -> (kind, study) of records that may be missing.
    """

    sources: Mapping[str, tuple[str, str]]
    numbers: Callable[..., Any]
    studies: Mapping[str, tuple[str, str]] = field(default_factory=dict)


THEORY = {"theory": ("verify", "theory")}
EVERY = (
    Macros({"quick": ("train", "quick")}, quick.numbers),
    Macros(THEORY, checks.first_theorem),
    Macros(THEORY, audit.numbers),
    Macros(THEORY | {"worst_case": ("verify", "worst_case"), "curves": ("verify", "curves")}, evidence.numbers),
    Macros({"curves": ("verify", "curves")}, match.numbers),
    Macros({"adversary": ("verify", "adversary")}, checks.adversary),
    Macros({"practice": ("verify", "practice")}, practice.numbers),
    Macros({"cost": ("profile", "cost"), "predicted": ("profile", "cost_predicted")}, cost.numbers),
    Macros({"other": ("profile", "cost_h200")}, cost.other_card),
    Macros({"execution": ("train", "execution")}, execution.numbers),
    Macros({"cost": ("profile", "cost")}, ablations.numbers, ablations.STUDIES),
)
SOURCES = {name: place for macros in EVERY for name, place in macros.sources.items()}
STUDIES = {name: place for macros in EVERY for name, place in macros.studies.items()}


def text(**records: Sequence[Record]) -> str:
    """A LaTeX command for every number."""
    numbers: dict[str, str] = {}
    for macros in EVERY:
        optional = {name: records.get(name, ()) for name in macros.studies}
        numbers |= dict(macros.numbers(*(records[name] for name in macros.sources), **optional))
    return "".join(f"\\newcommand{{\\{name}}}{{{value}}}\n" for name, value in numbers.items())
