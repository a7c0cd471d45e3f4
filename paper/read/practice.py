"""The measurements on a real model, as the figure, the table and the numbers of the paper read them."""

from collections.abc import Sequence
from typing import Any

from paper.read.names import source
from records import Record, RecordError

SHOWN_STEPS = 10
"""K of the table and of the scatter plot."""

SHOWN_RATE = 1e-4
"""Learning rate of the table."""


def states(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Before and after training, from the one record."""
    (record,) = records
    return record.measurements["states"]


def visit(state: dict[str, Any], block: int, lr: float, inner_steps: int) -> dict[str, Any]:
    """The visit with gradients of f itself.

    Raises:
        RecordError: when it was not measured.
    """
    wanted = (block, lr, inner_steps, "full")
    for measured in state["visits"]:
        if (measured["block"], measured["lr"], measured["inner_steps"], measured["gradients"]) == wanted:
            return measured
    raise RecordError(
        f"no visit of block {block} with lr={lr}, K={inner_steps} and full gradients was measured; "
        f"`python -m experiments.curvature` with its own visits has it"
    )


def step_of(state: dict[str, Any], inner_steps: int) -> dict[str, Any]:
    """What Theorem B1 says for that K.

    Raises:
        RecordError: when it was not measured.
    """
    for promised in state["b1"]:
        if promised["inner_steps"] == inner_steps:
            return promised
    raise RecordError(f"no visit of K={inner_steps} steps was measured; it belongs to visits.inner_steps")


def pooled(state: dict[str, Any], name: str, inner_steps: int) -> list[float]:
    """A quantity of the mean field at that K: one number for each coordinate, or for each block."""
    values: list[float] = []
    for part in state["field"]:
        value = part[name][part["inner_steps"].index(inner_steps)]
        values += value if isinstance(value, list) else [value]
    return values


def share(state: dict[str, Any], name: str, inner_steps: int) -> float:
    """A share of coordinates over all blocks, in percent; the blocks have the same number of coordinates."""
    values = pooled(state, name, inner_steps)
    return 100 * sum(values) / len(values)


def measured_source(record: Record) -> str:
    """The sentence of captions: the measurement on its device, and the commit of the analysis."""
    measured = record.measurements["measured"]
    origin = measured["provenance"]
    commit = origin["commit"][:10] + ("+changes" if origin["dirty"] else "")
    return (
        f"study {record.study}, one measurement on {origin['device']}, {origin['date'][:10]}, commit {commit}; "
        f"analysis: {source([record])}"
    )
