"""The study of execution in numbers: does training end elsewhere when a step is computed in another way?"""

from collections.abc import Sequence

from paper.runs import source
from records import Record

VERSIONS = {"plain": "Off", "all": "On", "fp8": "Float"}
"""Execution -> its name in the macros: all options off, all on, and on with 8-bit products of frozen weights."""


def losses(records: Sequence[Record]) -> dict[str, dict[int, float]]:
    """Execution -> seed -> held-out loss after training."""
    found: dict[str, dict[int, float]] = {name: {} for name in VERSIONS}
    for record in records:
        own = found[record.config["choices"]["execution"]]
        own[record.config["seed"]] = record.measurements["after"]["heldout_loss"]
    return found


def numbers(execution: Sequence[Record]) -> dict[str, str]:
    """Losses by seed, the largest difference that an option makes at the same seed, and how far seeds lie apart.

    Needs finished runs of every version with a seed in common.
    """
    found = losses(execution)
    plain = found["plain"]
    spread = max(plain.values()) - min(plain.values())
    macros = {"ExecutionSource": source(execution), "ExecutionSteps": str(execution[0].config["steps"])}
    for version, name in VERSIONS.items():
        own = found[version]
        macros[f"Execution{name}Losses"] = ", ".join(f"{own[seed]:.3f}" for seed in sorted(own))
        largest = max(abs(own[seed] - plain[seed]) for seed in own.keys() & plain.keys())
        macros[f"Execution{name}Difference"] = f"{largest:.3f}"
        macros[f"Execution{name}Mean"] = f"{sum(own.values()) / len(own):.3f}"
        macros[f"Execution{name}Verdict"] = "less than" if largest <= spread else "more than"
    macros["ExecutionSeedDifference"] = f"{spread:.3f}"
    return macros
