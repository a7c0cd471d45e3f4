"""What to type next after a run that failed: read from the error of its record, which names the cause."""

import re

from experiments.training.planning import Plan

LARGEST_STEP = "try a smaller method.lr"
SMALLER = 3.0
"""The learning rate is divided by this, half a decade, as tuning studies step."""


def other_values(plan: Plan, error: str) -> list[str]:
    """Options that mend the cause where the error names one that they can mend; empty for any other.

    Args:
        plan: of the run that failed.
        error: of its record.
    """
    if LARGEST_STEP in error and "lr" in plan.config.method:
        return [f"method.lr={plan.config.method.lr / SMALLER:.1g}"]
    if found := re.search(r": (accumulation=\d+) \(batch_size=", error):
        return [found[1]]
    if error.startswith("OutOfMemoryError"):
        return cheaper(plan)
    return []


def cheaper(plan: Plan) -> list[str]:
    """What takes less memory and is not chosen yet."""
    if plan.config.choices.get("execution") != "small" and plan.config.max_grad_norm is None:
        return ["execution=small"]
    if plan.config.choices.get("execution") == "plain":
        return ["execution=cheap", "execution.recompute=0"]
    return ["dtype=bfloat16"] if plan.config.dtype != "bfloat16" else []
