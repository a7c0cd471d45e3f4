"""The report of the verify command, from the measurements of records."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from theory.ledger import Ledger, Line
from theory.measure import ENOUGH_CHECKS, ENOUGH_INSTANCES, summary


def verdict(measurements: Mapping[str, Any]) -> str:
    """HOLDS, FAILS, or UNRESOLVED where nothing fails and a line has no check above rounding.

    For a published statement that is false REFUTED, or NOT REFUTED where it was not violated.
    """
    if not all(control["rejected"] for control in measurements["controls"]):
        return "FAILS"
    if measurements["refuted"]:
        return "REFUTED" if measurements["violations"] else "NOT REFUTED"
    if measurements["violations"]:
        return "FAILS"
    return "HOLDS" if measurements["holds"] else "UNRESOLVED"


def header() -> str:
    """Column names of `row`."""
    return (
        f"{'bound':20}{'problem':12}{'lines':>6}{'checks':>9}{'resolved':>9}{'instances':>10}  {'tightest line':20}"
        f"{'loosest line':20}{'median':>8}{'largest':>9}{'60 digits':>10}{'controls':>9}  verdict"
    )


def row(bound: str, problem: str, measurements: Mapping[str, Any]) -> str:
    """One line a bound and family; median and largest are those of measured/bound."""
    totals = summary(measurements)
    named = [
        f"{name} {totals['ratios'][name]:.3g}" if name else "none" for name in (totals["tightest"], totals["loosest"])
    ]
    return (
        f"{bound:20}{problem:12}{totals['lines']:>6}{totals['checks']:>9}{share(totals):>9}{totals['instances']:>10}"
        f"  {named[0]:20}"
        f"{named[1]:20}{number(totals['median'], 3):>8}{number(totals['largest'], 3):>9}{totals['reruns']:>10}"
        f"{totals['rejected']:>5} of {totals['controls']:<2} {verdict(measurements)}"
    )


def share(totals: Mapping[str, int]) -> str:
    """How much of the checks of inequalities is above rounding: what the others say is below the arithmetic's reach.

    >>> share({"resolved": 305506, "claims": 323802}), share({"resolved": 0, "claims": 0})
    ('94.3 %', 'none')
    """
    return f"{100 * totals['resolved'] / totals['claims']:.1f} %" if totals["claims"] else "none"


def number(value: float | None, digits: int = 4) -> str:
    """`value` for the table; a ratio with a right side that is not positive has none."""
    if value is None:
        return "none"
    return f"{value:.{digits}f}" if abs(value) < 1000 else f"{value:.{digits}g}"


def details(title: str, measurements: Mapping[str, Any]) -> list[str]:
    """Every line of the proof and every control."""
    rows = [
        title,
        f"{'line':10}{'checks':>10}{'resolved':>10}{'instances':>11}{'largest ratio':>15}{'violations':>12}",
    ]
    for name, line in measurements["lines"].items():
        rows.append(
            f"{name:10}{line['checks']:>10}{line['resolved']:>10}{line['instances']:>11}"
            f"{number(line['largest_ratio'], 6):>15}{line['violations']:>12}"
            f"{remark(name, line, measurements['unresolved'])}"
        )
        if line["first_violation"]:
            rows.append(f"  first violation: {line['first_violation']}")
    totals, precise = summary(measurements), measurements["precise"]
    if idle := [f"{name}: {term}" for name, line in measurements["lines"].items() for term in unneeded(line)]:
        rows.append(f"half of these terms of right sides is enough on these instances: {', '.join(idle)}")
    rows += [
        "",
        f"measured/bound on {totals['instances']} instances ({measurements['kind']}): "
        f"median {number(totals['median'])}, largest {number(totals['largest'])}",
        f"run again in 60 digits: {precise['instances']} instances, {precise['checks']} checks, "
        f"{precise['violations']} violations ({precise['violations_of_the_screen']} in float64)",
        "",
        f"{'negative control':36}{'line':10}{'ratio':>10}{'true':>8}",
    ]
    for control in measurements["controls"]:
        word = "REJECTED" if control["rejected"] else "NOT REJECTED"
        if control["ratio"] is not None and control["most"] is not None and control["ratio"] > control["most"]:
            word = f"FALSER THAN ITS NAME SAYS: at most {number(control['most'], 3)}"
        both = f"{number(control['ratio'], 3):>10}{number(control['true_ratio'], 3):>8}"
        rows.append(f"{control['name']:36}{control['line']:10}{both}  {word}")
    last = f"{verdict(measurements)}: {measurements['violations']} violations"
    if measurements["unresolved"]:
        last += f", nothing above rounding in {', '.join(measurements['unresolved'])}, also in 60 digits"
    return [*rows, last]


def unneeded(line: Mapping[str, Any]) -> list[str]:
    """The terms of a right side without which, or with half of which, no check fails."""
    return [term for term, (half, _) in line["decisive"].items() if not half]


def remark(name: str, line: Mapping[str, Any], unresolved: Sequence[str]) -> str:
    """What the numbers of a line of the proof do not say."""
    if line["kind"] == "identity":
        return "  identity"
    if line["zeros"] == line["checks"]:
        return "  0 <= 0"
    if line["resolved"] > 1 and line["largest_ratio"] == line["smallest_ratio"]:
        return f"  always {number(line['largest_ratio'])}"
    return "  UNRESOLVED" if name in unresolved else ""


def totals_of(results: Iterable[Mapping[str, Any]]) -> dict[str, Line]:
    """The lines of measurements of one bound, merged as far as their summaries have them."""
    merged = Ledger()
    for measurements in results:
        part = Ledger()
        for name, line in measurements["lines"].items():
            known: dict[str, Any] = {key: math.inf if value is None else value for key, value in line.items()}
            part.lines[name] = Line(**known)
        merged.merge(part)
    return merged.lines


def indistinct(results: Iterable[Mapping[str, Any]]) -> list[str]:
    """Lines of one bound whose two sides no check on any of its families tells apart."""
    return [name for name, line in totals_of(results).items() if line.indistinct]


def thin_lines(results: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """Lines, other than identities, that over all families were checked too rarely to mean much.

    A line between constants has one check an instance; of a refuted statement one violation is enough.
    """
    total: dict[tuple[str, str], Line] = {}
    for bound, measurements in results:
        if measurements["refuted"]:
            continue
        for name, line in measurements["lines"].items():
            line_total = total.setdefault((bound, name), Line(line["kind"], instances=0))
            line_total.checks += line["checks"]
            line_total.resolved += line["resolved"]
            line_total.instances += line["instances"]
    return [
        f"thin: line {name} of {bound} has {line.resolved} resolved checks on {line.instances} instances "
        f"(wanted: {ENOUGH_CHECKS} on {ENOUGH_INSTANCES})"
        for (bound, name), line in total.items()
        if line.kind == "inequality"
        and (
            line.resolved < (ENOUGH_CHECKS if line.checks > line.instances else 0) or line.instances < ENOUGH_INSTANCES
        )
    ]
