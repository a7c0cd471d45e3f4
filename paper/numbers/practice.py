"""The numbers of the section on a real model, as macro name -> text."""

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from paper.read.formats import scientific
from paper.read.practice import SHOWN_RATE, SHOWN_STEPS, measured_source, pooled, share, states, step_of, visit
from records import Record

PARTITIONS = {"by_layer": "Layer", "by_groups": "Groups", "by_module": "Module"}
"""Partitions whose chi is printed, and their names in macros."""


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
    yield "PracticeShownRate", scientific(SHOWN_RATE, digits=1)
    yield from _first_theorem(both, max(config["visits"]["lr"]))
    yield from _second_theorem(both, min(config["visits"]["lr"]))
    pairs = [state["coupling"] for state in both]
    relative = [value for pair in pairs for value in pair["relative"]]
    yield from _range("PracticeCoupling", relative, ".2f")
    yield from _range("PracticeLambda", [pair["Lambda_measured"] / pair["L_tau_measured"] for pair in pairs], ".2f")
    yield from _floor(both)
    if all("match" in state for state in both):  # measured since curvature along signs is
        yield from _chi(both)


def _chi(both: Sequence[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """chi of Theorem F1 along both kinds of directions, and the ratio of gradients that it means at K = 1."""
    yield "ChiFirstSteps", str(both[0]["match"]["by_layer"]["inner_steps"][0])
    for partition, name in PARTITIONS.items():
        parts = [state["match"][partition] for state in both]
        yield f"Chi{name}Blocks", str(parts[0]["blocks"])
        for how, word in (("adam", "Step"), ("climbed", "Climbed")):
            chi = [part["chi"][how] for part in parts]
            said = " and ".join("no value" if value is None else f"{value:.2f}" for value in chi)
            yield f"Chi{name}{word}", said
        ratios = [value[0] for part in parts for value in part["ratio"].values() if value]
        yield from _range(f"Chi{name}Ratio", ratios, ".1f")


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
    yield "PracticeEpsOverGradient", scientific(max(state["constants"]["eps_over_entry"] for state in both), digits=1)
    yield "PracticeLargestRate", scientific(largest_rate, digits=1)
    yield "PracticeAllowedRate", scientific(max(entry["largest_alpha"] for entry in shown), digits=1)
    yield from _range("PracticeOrders", orders, ".1f")
    yield from _range("PracticeEpsNeeded", [entry["eps_needed"][-1] for entry in shown], ".1f")
    yield "PracticeOnePromised", scientific(max(promised), digits=1)
    yield from _range("PracticeObserved", observed, ".2f")


def _second_theorem(both: Sequence[dict[str, Any]], smallest_rate: float) -> Iterator[tuple[str, str]]:
    visits = [v for state in both for v in state["visits"] if v["gradients"] == "full"]
    informative = [v for v in visits if v["b2"] > 0]
    yield "PracticeVisits", str(len(visits))
    yield "PracticeInformative", str(len(informative))
    yield "PracticeSmallestRate", scientific(smallest_rate, digits=1)
    yield "PracticeInformativeRate", scientific(max(v["lr"] for v in informative), digits=1)
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
