"""What producers share about theorems: names in print, the records of each bound, and sums over its families."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from records import Record

NAMES = {
    "a6_quadratic": "A6",
    "b1_corollary": "Corollary B1",
    "b1_plus": "B1+",
    "c_long": "C1--C3, drawn runs",
    "badam_d4_printed": "D.4, printed",
    "badam_d4_repaired": "D.4, repaired",
    "badam_d5_printed": "D.5, printed",
    "f1_order": "F1, fixed order",
}
"""Statements whose name is not that of their module; D.4 and D.5 are those of arXiv 2404.02827v3."""

LINES = {"A0*": "A0$^*$", "A0'": "A0$'$", "A0''": "A0$''$", "B.3'": "B.3$'$", "T": "Lemma T"}
"""Lines of a ledger whose names need mathematics in print."""

TIERS = ("full", "quick")

COUNTS = ("checks", "resolved", "violations")
"""What adds up over the families of a line."""


def title(bound: str) -> str:
    """The statement's name in print; a bound that is not in `NAMES` has that of its module.

    >>> title("a1"), title("b1_plus")
    ('A1', 'B1+')
    """
    return NAMES.get(bound, bound.replace("_", " ").upper())


def theorem(bound: str) -> str:
    """The name in print of a theorem, given the name of its class.

    >>> theorem("A6Quadratic")
    'A6'
    """
    return title(re.sub(r"(?<!^)(?=[A-Z])", "_", bound).lower())


def line(name: str) -> str:
    """A line of a ledger in print."""
    return LINES.get(name, name)


def parts(record: Record) -> tuple[str, str, str]:
    """Bound, family and tier: the three parts of the record's name."""
    bound, family, tier = record.name.split("-")
    return bound, family, tier


def by_bound(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Bound -> one record for each family, in the order of its configuration; the full tier where there is one."""
    best: dict[tuple[str, str], Record] = {}
    for record in records:
        bound, family, tier = parts(record)
        recorded = best.get((bound, family))
        if recorded is None or TIERS.index(tier) < TIERS.index(parts(recorded)[2]):
            best[bound, family] = record
    groups: dict[str, list[Record]] = {}
    for (bound, _), record in sorted(best.items()):
        groups.setdefault(bound, []).append(record)
    for group in groups.values():
        order = list(group[0].config["bound"]["problems"])
        group.sort(key=lambda record: order.index(parts(record)[1]) if parts(record)[1] in order else len(order))
    return groups


def lines(group: Sequence[Record]) -> dict[str, dict[str, Any]]:
    """Lines of a bound over all of its families: kind, checks, those that are resolved, violations, largest ratio.

    The ratio is None for none.
    """
    totals: dict[str, dict[str, Any]] = {}
    for record in group:
        for name, line in record.measurements["lines"].items():
            total = totals.setdefault(name, {"kind": line["kind"], "ratio": None} | dict.fromkeys(COUNTS, 0))
            for count in COUNTS:
                total[count] += line[count]
            ratios = [ratio for ratio in (total["ratio"], line["largest_ratio"]) if ratio is not None]
            total["ratio"] = max(ratios, default=None)
    return totals


def terms(records: Iterable[Record]) -> dict[tuple[str, str, str], bool]:
    """Bound, line and term of a right side that is a sum -> whether some check fails with half of the term."""
    needed: dict[tuple[str, str, str], bool] = {}
    for record in records:
        for name, found in record.measurements["lines"].items():
            for term, (half, _) in found["decisive"].items():
                key = (parts(record)[0], name, term)
                needed[key] = needed.get(key, False) or half > 0
    return needed


def inequality_checks(every_line: Iterable[Mapping[str, Any]]) -> tuple[int, int]:
    """Checks of the lines that are no identities, and how many of them are resolved: far enough above rounding."""
    claims = [line for line in every_line if line["kind"] == "inequality"]
    return sum(line["checks"] for line in claims), sum(line["resolved"] for line in claims)


def inequalities(every_line: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Largest ratio of each line of `lines` that is no identity and has one, from the largest to the smallest."""
    ratios = {
        name: line["ratio"]
        for name, line in every_line.items()
        if line["kind"] == "inequality" and line["ratio"] is not None
    }
    return dict(sorted(ratios.items(), key=lambda item: -item[1]))


def ratios(group: Sequence[Record]) -> list[float]:
    """Of every instance, how much of the statement is used: measured/bound, of a lower bound bound/measured."""
    used = []
    for record in group:
        for ratio in record.measurements["instances"]["ratio"]:
            if ratio is not None:
                used.append(1 / ratio if record.measurements["kind"] == "lower" and ratio else ratio)
    return used


def controls(group: Sequence[Record]) -> list[dict[str, Any]]:
    """The negative controls of a bound, which are the same beside every family."""
    return group[0].measurements["controls"]


@dataclass(frozen=True)
class Summary:
    """A bound over all of its families.

    Attributes:
        lines: of the proof.
        checks: of all lines.
        resolved: share of the checks of inequalities that are resolved, None without any.
        instances: of all families.
        median: of `ratios`, None without any.
        largest: of `ratios`, None without any.
        rejected: negative controls that are rejected.
        controls: negative controls.
        violations: of all lines.
    """

    lines: int
    checks: int
    resolved: float | None
    instances: int
    median: float | None
    largest: float | None
    rejected: int
    controls: int
    violations: int


def summary(group: Sequence[Record]) -> Summary:
    """What tables say of a bound."""
    every, used, false = lines(group), sorted(ratios(group)), controls(group)
    claims, resolved = inequality_checks(every.values())
    return Summary(
        lines=len(every),
        checks=sum(line["checks"] for line in every.values()),
        resolved=resolved / claims if claims else None,
        instances=sum(len(record.measurements["instances"]["ratio"]) for record in group),
        median=used[len(used) // 2] if used else None,
        largest=used[-1] if used else None,
        rejected=sum(control["rejected"] for control in false),
        controls=len(false),
        violations=sum(record.measurements["violations"] for record in group),
    )


def refuted(group: Sequence[Record]) -> bool:
    """Whether the statement is a published one that is false."""
    return group[0].measurements["refuted"]


def verdict(group: Sequence[Record]) -> str:
    """holds, FAILS, or UNRESOLVED where nothing fails and a line has no check above rounding.

    Of a refuted statement refuted or NOT REFUTED.
    """
    violations = sum(record.measurements["violations"] for record in group)
    rejected = all(control["rejected"] for record in group for control in record.measurements["controls"])
    if refuted(group):
        return "refuted" if violations and rejected else "NOT REFUTED"
    if violations or not rejected:
        return "FAILS"
    return "UNRESOLVED" if any(record.measurements["unresolved"] for record in group) else "holds"


def escaped(name: str) -> str:
    """The name of a line in LaTeX.

    >>> escaped("A0''"), escaped("A0*"), escaped("C_BT")
    ("A0$''$", 'A0$^*$', 'C\\\\_BT')
    """
    bare = name.rstrip("'*")
    tail = name[len(bare) :].replace("*", "^*")
    return bare.replace("_", r"\_") + (f"${tail}$" if tail else "")
