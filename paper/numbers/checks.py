"""The numbers of the check of one theorem and of the adversary, as macro name -> text."""

from collections.abc import Sequence

from paper.read import theorems
from paper.read.formats import thousands
from paper.read.names import source
from records import Record


def first_theorem(records: Sequence[Record]) -> dict[str, str]:
    """The check of Theorem A1 on quadratics."""
    (record,) = (r for r in records if r.name == "a1-quadratic-quick")
    measured = record.measurements
    ratios = [ratio for ratio in measured["instances"]["ratio"] if ratio is not None]
    return {
        "TheorySource": source([record]),
        "TheoryInstances": str(len(ratios)),
        "TheoryChecks": thousands(sum(line["checks"] for line in measured["lines"].values())),
        "TheoryResolved": thousands(theorems.inequality_checks(measured["lines"].values())[1]),
        "TheoryLines": str(len(measured["lines"])),
        "TheoryViolations": str(measured["violations"]),
        "TheoryControls": str(len(measured["controls"])),
        "TheoryControlsRejected": str(sum(control["rejected"] for control in measured["controls"])),
        "TheoryLargestRatio": f"{max(ratios):.3f}",
        "TheoryMedianRatio": f"{sorted(ratios)[len(ratios) // 2]:.3f}",
    }


def adversary(records: Sequence[Record]) -> dict[str, str]:
    """The search for tight instances and the mutants that it kills."""
    measured = records[0].measurements
    required = [row for row in measured["mutants"] if row["required"]]
    return {
        "AdversarySource": source(records[:1]),
        "AdversaryInstances": thousands(measured["evaluations"]),
        "AdversaryViolations": str(len(measured["violations"])),
        "AdversaryMutants": str(len(required)),
        "AdversaryMutantsKilled": str(sum(row["killed"] for row in required)),
        "AdversaryLooseMutants": str(len(measured["mutants"]) - len(required)),
        "AdversaryLooseSurvivors": str(sum(not row["killed"] for row in measured["mutants"] if not row["required"])),
        "AdversaryControls": str(len(measured["controls"])),
        "AdversaryControlsRejected": str(sum(row["killed"] for row in measured["controls"])),
    }
