"""Every number in the text of the paper, as LaTeX macros made from records.

\\newcommand names hold letters only: Quick + method + quantity, for example \\QuickBadamLoss.
"""

from collections.abc import Sequence

from paper import practice as measured_practice
from paper.runs import label, method, ordered, source
from records import Record, RecordError

SOURCES = {"quick": ("train", "quick"), "theory": ("verify", "theory"), "practice": ("verify", "practice")}
REQUIRED = {"badam", "bsgd", "adamw", "sgd", "lora"}  # methods whose numbers the text quotes


def text(quick: Sequence[Record], theory: Sequence[Record], practice: Sequence[Record]) -> str:
    if missing := REQUIRED - {method(record) for record in quick}:
        raise RecordError(
            f"no finished record of {', '.join(sorted(missing))}, which the text quotes; run `make study`"
        )
    numbers = {**_quick(ordered(quick)), **_theory(theory), **dict(measured_practice.numbers(practice))}
    return "".join(f"\\newcommand{{\\{name}}}{{{value}}}\n" for name, value in numbers.items())


DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def camel(name: str) -> str:
    """badam_all -> BadamAll; digits are spelled, because TeX macro names have none."""
    spelled = "".join(f" {DIGITS[int(c)]} " if c.isdigit() else c if c.isalpha() else " " for c in name)
    return "".join(part.capitalize() for part in spelled.split())


def _quick(records: Sequence[Record]) -> dict[str, str]:
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
        seconds = [step["seconds"] for step in record.measurements["steps"]]
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
        "TheoryChecks": f"{sum(line['checks'] for line in measured['lines'].values()):,}".replace(",", "\\,"),
        "TheoryLines": str(len(measured["lines"])),
        "TheoryViolations": str(measured["violations"]),
        "TheoryControls": str(len(measured["controls"])),
        "TheoryControlsRejected": str(sum(control["rejected"] for control in measured["controls"])),
        "TheoryLargestRatio": f"{max(ratios):.3f}",
        "TheoryMedianRatio": f"{sorted(ratios)[len(ratios) // 2]:.3f}",
    }
