"""The numbers of the quick study, as macro name -> text; the names are Quick + method + quantity."""

from collections.abc import Sequence

from paper.read import studies
from paper.read.formats import camel
from paper.read.names import source
from records import Record, RecordError

QUOTED = {"badam", "bsgd", "adamw", "sgd", "lora"}
"""Methods whose numbers the text quotes."""


def numbers(quick: Sequence[Record]) -> dict[str, str]:
    """Raises RecordError when a method that is quoted has no finished run."""
    rows = studies.rows(quick)
    if missing := QUOTED - {row.method for row in rows}:
        raise RecordError(
            f"no finished record of {', '.join(sorted(missing))}, which the text quotes; run `make study`"
        )
    first = rows[0]
    macros = {
        "QuickSource": source(quick),
        "QuickMethods": str(len(rows)),
        "QuickSteps": str(first.config["steps"]),
        "QuickBatch": str(first.config["batch_size"]),
        "QuickTrainSize": str(first.config["data"]["train_size"]),
        "QuickHeldoutItems": str(first.items),
        "QuickMaxTokens": str(first.config["data"]["max_tokens"]),
        "QuickLossBefore": f"{first.before:.3f}",
        "QuickLowestLoss": f"{min(row.loss for row in rows):.3f}",
        "QuickHighestLoss": f"{max(row.loss for row in rows):.3f}",
    }
    for row in rows:
        name = f"Quick{camel(row.method)}"
        seconds = row.steps["seconds"]
        macros |= {
            f"{name}Loss": f"{row.loss:.3f}",
            f"{name}Match": f"{100 * row.match:.1f}",
            f"{name}StateMB": f"{row.bytes['state'] / 1e6:.1f}",
            f"{name}GradientMB": f"{row.bytes['gradients'] / 1e6:.1f}",
            f"{name}StepSeconds": f"{sorted(seconds)[len(seconds) // 2]:.2f}",
        }
        if (inner_steps := row.value("method.inner_steps")) is not None:
            macros[f"{name}InnerSteps"] = str(inner_steps)
    exact = all(row.bytes == row.predicted_bytes for row in rows)
    macros["QuickBytesVerdict"] = "agree to the byte" if exact else "differ for at least one method"
    return macros
