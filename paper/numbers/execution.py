"""The study of execution in numbers: does training end elsewhere when a step is computed in another way?"""

from collections.abc import Sequence

from paper.read import studies
from paper.read.names import source
from records import Record

VERSIONS = {"plain": "Off", "all": "On", "fp8": "Float"}
"""Execution -> its name in the macros: all options off, all on, and on with 8-bit products of frozen weights."""


def losses(records: Sequence[Record]) -> dict[str, dict[int, float]]:
    """Execution -> seed -> final loss after training."""
    rows = studies.rows(records)
    return {name: studies.losses(row for row in rows if row.choice("execution") == name) for name in VERSIONS}


def numbers(execution: Sequence[Record]) -> dict[str, str]:
    """Losses by seed, the largest difference that an option makes at the same seed, and how far seeds lie apart.

    Needs finished runs of every version with a seed in common.
    """
    by_version = losses(execution)
    plain = by_version["plain"]
    spread = max(plain.values()) - min(plain.values())
    macros = {"ExecutionSource": source(execution), "ExecutionSteps": str(execution[0].config["steps"])}
    for version, name in VERSIONS.items():
        by_seed = by_version[version]
        macros[f"Execution{name}Losses"] = ", ".join(f"{by_seed[seed]:.3f}" for seed in sorted(by_seed))
        largest = max(abs(by_seed[seed] - plain[seed]) for seed in by_seed.keys() & plain.keys())
        macros[f"Execution{name}Difference"] = f"{largest:.3f}"
        macros[f"Execution{name}Mean"] = f"{sum(by_seed.values()) / len(by_seed):.3f}"
        macros[f"Execution{name}Verdict"] = "less than" if largest <= spread else "more than"
    macros["ExecutionSeedDifference"] = f"{spread:.3f}"
    return macros
