"""The measurements on a real model, as the figure, the table and the numbers of the paper read them."""

from collections.abc import Iterator, Sequence
from typing import Any

from paper.runs import source
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
    """The visit with gradients of f itself. Raises RecordError when it was not measured."""
    wanted = (block, lr, inner_steps, "full")
    for found in state["visits"]:
        if (found["block"], found["lr"], found["inner_steps"], found["gradients"]) == wanted:
            return found
    raise RecordError(
        f"no visit of block {block} with lr={lr}, K={inner_steps} and full gradients was measured; "
        f"`python -m experiments.curvature` with its own visits has it"
    )


def step_of(state: dict[str, Any], inner_steps: int) -> dict[str, Any]:
    """What Theorem B1 says for that K. Raises RecordError when it was not measured."""
    for found in state["b1"]:
        if found["inner_steps"] == inner_steps:
            return found
    raise RecordError(f"no visit of K={inner_steps} steps was measured; it belongs to visits.inner_steps")


def pooled(state: dict[str, Any], name: str, inner_steps: int) -> list[float]:
    """A quantity of the mean field at that K: one number for each coordinate, or for each block."""
    found: list[float] = []
    for part in state["field"]:
        value = part[name][part["inner_steps"].index(inner_steps)]
        found += value if isinstance(value, list) else [value]
    return found


def share(state: dict[str, Any], name: str, inner_steps: int) -> float:
    """A share of coordinates over all blocks, in percent; the blocks have the same number of coordinates."""
    values = pooled(state, name, inner_steps)
    return 100 * sum(values) / len(values)


def median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def power_of_ten(value: float) -> str:
    """1.23e-09 -> 1.2 \\times 10^{-9}, for mathematics."""
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa} \\times 10^{{{int(exponent)}}}"


def measured_source(record: Record) -> str:
    """The sentence of captions: the measurement on its device, and the commit of the analysis."""
    measured = record.measurements["measured"]
    origin = measured["provenance"]
    commit = origin["commit"][:10] + ("+changes" if origin["dirty"] else "")
    return (
        f"study {record.study}, one measurement on {origin['device']}, {origin['date'][:10]}, commit {commit}; "
        f"analysis: {source([record])}"
    )


def numbers(records: Sequence[Record]) -> Iterator[tuple[str, str]]:
    """Name and value of every macro; ranges are over measured blocks and both states unless the name says one."""
    (record,) = records
    both = states(records)
    after = both[-1]
    config = record.config["measured_config"]
    yield "PracticeSource", measured_source(record)
    yield "PracticeExamples", str(config["examples"])
    yield "PracticeNoiseExamples", str(config["noise"]["examples"])
    yield "PracticeBatch", str(config["batch_size"])
    yield "PracticeSteps", str(after["steps"])
    yield "PracticeBlocks", ", ".join(str(i) for i in config["blocks"])
    yield "PracticeCoordinates", str(sum(part["coordinates"] for part in after["field"]))
    yield "PracticeShownSteps", str(SHOWN_STEPS)
    yield "PracticeShownRate", power_of_ten(SHOWN_RATE)
    yield from _first_theorem(both, max(config["visits"]["lr"]))
    yield from _second_theorem(both, min(config["visits"]["lr"]))
    pairs = [state["coupling"] for state in both]
    relative = [value for pair in pairs for value in pair["relative"]]
    yield from _range("PracticeCoupling", relative, ".2f")
    yield from _range("PracticeLambda", [pair["Lambda_measured"] / pair["L_tau_measured"] for pair in pairs], ".2f")
    yield from _floor(both)


def _range(name: str, values: Sequence[float], how: str) -> Iterator[tuple[str, str]]:
    yield f"{name}Least", format(min(values), how)
    yield f"{name}Most", format(max(values), how)


def _first_theorem(both: Sequence[dict[str, Any]], largest_rate: float) -> Iterator[tuple[str, str]]:
    shown = [step_of(state, SHOWN_STEPS) for state in both]
    orders = [order for state in both for entry in state["b1"] for order in entry["orders_too_large"]]
    promised = [value for entry in shown for value in entry["promised"].values()]
    observed = [
        visit(state, block["block"], SHOWN_RATE, SHOWN_STEPS)["observed"]
        for state in both
        for block in state["sources"]
    ]
    yield "PracticeEpsOverGradient", power_of_ten(max(state["constants"]["eps_over_entry"] for state in both))
    yield "PracticeLargestRate", power_of_ten(largest_rate)
    yield "PracticeAllowedRate", power_of_ten(max(entry["largest_alpha"] for entry in shown))
    yield from _range("PracticeOrders", orders, ".1f")
    yield from _range("PracticeEpsNeeded", [entry["eps_needed"][-1] for entry in shown], ".1f")
    yield "PracticeOnePromised", power_of_ten(max(promised))
    yield from _range("PracticeObserved", observed, ".2f")


def _second_theorem(both: Sequence[dict[str, Any]], smallest_rate: float) -> Iterator[tuple[str, str]]:
    visits = [v for state in both for v in state["visits"] if v["gradients"] == "full"]
    informative = [v for v in visits if v["b2"] > 0]
    yield "PracticeVisits", str(len(visits))
    yield "PracticeInformative", str(len(informative))
    yield "PracticeSmallestRate", power_of_ten(smallest_rate)
    yield "PracticeInformativeRate", power_of_ten(max(v["lr"] for v in informative))
    yield "PracticeInformativeSteps", str(max(v["inner_steps"] for v in informative))
    ratios = [100 * v["b2"] / v["observed"] for v in informative]
    yield from _range("PracticeInformative", ratios, ".0f")
    bends = [
        100 * block["bend"] / (block["curvature"]["value"] * block["size"])
        for state in both
        for block in state["sources"]
    ]
    yield from _range("PracticeBend", bends, ".1f")
    first = [v for v in visits if v["inner_steps"] == 1 and v["lr"] == smallest_rate]
    yield "PracticeQuadraticError", f"{max(abs(100 * v['quadratic'] / v['observed'] - 100) for v in first):.1f}"
    yield "PracticeIncreases", str(sum(v["observed"] < 0 for v in visits))


def _floor(both: Sequence[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    words = {1: "One", SHOWN_STEPS: "Shown", 50: "Fifty"}
    yield "PracticeUndecided", f"{max(share(state, 'undecided', K) for state in both for K in words):.1f}"
    for K, word in words.items():
        yield from _range(f"PracticeCorrelation{word}", [r for s in both for r in pooled(s, "correlation", K)], ".2f")
        yield from _range(f"PracticeSlope{word}", [r for s in both for r in pooled(s, "slope", K)], ".2f")
        yield f"PracticeZero{word}", f"{median([abs(z) for z in pooled(both[-1], 'zero', K)]):.3f}"
        yield f"PracticeWrong{word}", f"{share(both[-1], 'wrong', K):.1f}"
        yield f"PracticeWrongBefore{word}", f"{share(both[0], 'wrong', K):.1f}"
        yield f"PracticeWrongWeight{word}", f"{share(both[-1], 'wrong_weight', K):.1f}"
