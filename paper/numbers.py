"""Every number in the text of the paper, as LaTeX macros made from records.

\\newcommand names hold letters only: Quick + method + quantity, for example \\QuickBadamLoss.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from paper import ablations, cost, evidence, execution, practice
from paper.audit_numbers import audit
from paper.runs import label, method, ordered, source, thousands
from paper.studies import steps
from records import Record, RecordError

REQUIRED = {"badam", "bsgd", "adamw", "sgd", "lora"}  # methods whose numbers the text quotes


@dataclass(frozen=True)
class Part:
    """Numbers that come from the same records.

    sources: argument -> (kind, study) of the records, in the order of the arguments of `numbers`.
    numbers: the records -> name and value of every macro.
    studies: argument by name -> (kind, study) of records that may be missing.
    """

    sources: Mapping[str, tuple[str, str]]
    numbers: Callable[..., Any]
    studies: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def text(**records: Sequence[Record]) -> str:
    numbers: dict[str, str] = {}
    for part in PARTS:
        optional = {name: records.get(name, ()) for name in part.studies}
        numbers |= dict(part.numbers(*(records[name] for name in part.sources), **optional))
    return "".join(f"\\newcommand{{\\{name}}}{{{value}}}\n" for name, value in numbers.items())


DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def camel(name: str) -> str:
    """badam_all -> BadamAll; digits are spelled, because TeX macro names have none."""
    spelled = "".join(f" {DIGITS[int(c)]} " if c.isdigit() else c if c.isalpha() else " " for c in name)
    return "".join(part.capitalize() for part in spelled.split())


def _quick(records: Sequence[Record]) -> dict[str, str]:
    if missing := REQUIRED - {method(record) for record in records}:
        raise RecordError(
            f"no finished record of {', '.join(sorted(missing))}, which the text quotes; run `make study`"
        )
    records = ordered(records)
    first = records[0]
    after = {record.name: record.measurements["after"] for record in records}
    best = min(records, key=lambda record: after[record.name]["heldout_loss"])
    numbers = {
        "QuickSource": source(records),
        "QuickMethods": str(len(records)),
        "QuickSteps": str(first.config["steps"]),
        "QuickBatch": str(first.config["batch_size"]),
        "QuickTrainSize": str(first.config["data"]["train_size"]),
        "QuickHeldoutItems": str(first.measurements["before"]["items"]),
        "QuickMaxTokens": str(first.config["data"]["max_tokens"]),
        "QuickLossBefore": f"{first.measurements['before']['heldout_loss']:.3f}",
        "QuickBestMethod": label(best),
        "QuickBestLoss": f"{after[best.name]['heldout_loss']:.3f}",
    }
    for record in records:
        name = f"Quick{camel(method(record))}"
        measured = record.measurements["measured_bytes"]
        seconds = steps(record)["seconds"]
        numbers |= {
            f"{name}Loss": f"{after[record.name]['heldout_loss']:.3f}",
            f"{name}Match": f"{100 * after[record.name]['exact_match']:.1f}",
            f"{name}StateMB": f"{measured['state'] / 1e6:.1f}",
            f"{name}GradientMB": f"{measured['gradients'] / 1e6:.1f}",
            f"{name}StepSeconds": f"{sorted(seconds)[len(seconds) // 2]:.2f}",
        }
        if "inner_steps" in record.config["method"]:
            numbers[f"{name}InnerSteps"] = str(record.config["method"]["inner_steps"])
    exact = all(r.measurements["measured_bytes"] == r.measurements["predicted_bytes"] for r in records)
    numbers["QuickBytesVerdict"] = "agree to the byte" if exact else "differ for at least one method"
    return numbers


def _theory(records: Sequence[Record]) -> dict[str, str]:
    (record,) = (r for r in records if r.name == "a1-quadratic-quick")
    measured = record.measurements
    ratios = [ratio for ratio in measured["instances"]["ratio"] if ratio is not None]
    return {
        "TheorySource": source([record]),
        "TheoryInstances": str(len(ratios)),
        "TheoryChecks": thousands(sum(line["checks"] for line in measured["lines"].values())),
        "TheoryLines": str(len(measured["lines"])),
        "TheoryViolations": str(measured["violations"]),
        "TheoryControls": str(len(measured["controls"])),
        "TheoryControlsRejected": str(sum(control["rejected"] for control in measured["controls"])),
        "TheoryLargestRatio": f"{max(ratios):.3f}",
        "TheoryMedianRatio": f"{sorted(ratios)[len(ratios) // 2]:.3f}",
    }


def _adversary(records: Sequence[Record]) -> dict[str, str]:
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


THEORY = {"theory": ("verify", "theory")}
PARTS = (
    Part({"quick": ("train", "quick")}, _quick),
    Part(THEORY, _theory),
    Part(THEORY, audit),
    Part(THEORY | {"worst_case": ("verify", "worst_case"), "curves": ("verify", "curves")}, evidence.numbers),
    Part({"adversary": ("verify", "adversary")}, _adversary),
    Part({"practice": ("verify", "practice")}, practice.numbers),
    Part({"cost": ("profile", "cost"), "predicted": ("profile", "cost_predicted")}, cost.numbers),
    Part({"other": ("profile", "cost_h200")}, cost.other_card),
    Part({"execution": ("train", "execution")}, execution.numbers),
    Part({"cost": ("profile", "cost")}, ablations.numbers, ablations.STUDIES),
)
SOURCES = {name: place for part in PARTS for name, place in part.sources.items()}
STUDIES = {name: place for part in PARTS for name, place in part.studies.items()}
