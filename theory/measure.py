"""One bound on one problem family: every instance through the rigor ladder, then one set of measurements.

The ladder: an instance is screened in float64; if that finds a violation, or in a line that is no identity a ratio
above `NEAR` or no check above rounding, the instance is run again in 60 digits and those verdicts count.
"""

import functools
import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import hydra
import numpy as np
import torch

from theory.bounds import Bound, Control, Outcome
from theory.ledger import TOLERANCE, Ledger
from theory.problems import Problem, ProblemFamily

NEAR = 1 - 1e-6
"""Ratio from which on float64 does not decide."""

SHOWN = 100
"""Ratios of a line of the showcase that the record keeps, for the figures."""

ENOUGH_CHECKS, ENOUGH_INSTANCES = 1000, 50
"""What a line that is no identity should have in the full tier."""


@dataclass
class Part:
    """Results of some instances: merged ledgers, one outcome an instance, and what was run again."""

    ledger: Ledger = field(default_factory=Ledger)
    precise: Ledger = field(default_factory=Ledger)
    rows: list[dict[str, Any]] = field(default_factory=list)
    kind: str = "upper"
    reruns: int = 0
    screened: int = 0
    left_out: list[str] = field(default_factory=list)


@functools.lru_cache(maxsize=64)
def _built(config: str) -> Any:
    return hydra.utils.instantiate(json.loads(config), _convert_="all")


def instantiate(config: Mapping[str, Any]) -> tuple[Bound, ProblemFamily]:
    """Bound and family of a resolved config; kept, because a process gets many parts of the same sweep."""
    return _built(json.dumps(config["bound"])), _built(json.dumps(config["problem"]))


@functools.lru_cache(maxsize=4)
def _instances(config: str) -> list[Problem]:
    return list(_built(config).instances())


def cases(config: Mapping[str, Any]) -> list[tuple[Problem, dict[str, Any]]]:
    """Every problem with every setting; if there are more than `config["cases"]`, that many of them.

    The choice is a fixed random permutation, so that every value of every axis appears with every other.

    Raises:
        ValueError: when the sweep is empty.
    """
    bound, _ = instantiate(config)
    if not (pairs := _pairs(config)):
        # what is left out is left out for its length, where the grid has one
        axes = {name: bound.grid[name] for name in ("inner_steps",) if name in bound.grid} or bound.grid
        grid = ", ".join(f"{name}={list(values)}" for name, values in axes.items())
        family = config["problem"]["_target_"].rpartition(".")[2]
        raise ValueError(f"{grid} is not possible on {family}: {bound.leaves_out or 'the grid is empty'}")
    limit = config["cases"]
    if limit is None or limit >= len(pairs):
        return pairs
    chosen = np.random.default_rng(0).permutation(len(pairs))[:limit]
    return [pairs[index] for index in sorted(chosen)]


def _pairs(config: Mapping[str, Any]) -> list[tuple[Problem, dict[str, Any]]]:
    bound, _ = instantiate(config)
    problems = _instances(json.dumps(config["problem"]))
    return [(problem, setting) for problem in problems for setting in bound.settings(problem)]


def require_cases(config: Mapping[str, Any]) -> None:
    """Raise ValueError when a value is not possible or the sweep is empty."""
    bound, _ = instantiate(config)
    if bound.leaves_out:  # elsewhere every problem has a setting, and instances take time
        cases(config)


def left_out(config: Mapping[str, Any]) -> list[str]:
    """The values of the grid that no instance has, with the reason."""
    bound, _ = instantiate(config)
    settings = [setting for _, setting in _pairs(config)] if bound.leaves_out else []
    return [
        f"{name}={value}: {bound.leaves_out}"
        for name, values in bound.grid.items()
        for value in values
        if settings and all(setting[name] != value for setting in settings)
    ]


def run_part(config: Mapping[str, Any], part_index: int, parts: int) -> Part:
    """Every `parts`-th instance of the sweep, from `part_index`, in this process."""
    torch.set_num_threads(1)  # blocks have a few coordinates; threads only wait for each other
    bound, part = instantiate(config)[0], Part(left_out=left_out(config))
    for index, (problem, setting) in list(enumerate(cases(config)))[part_index::parts]:
        identity = {**problem.parameters, **setting}
        label = ", ".join(f"{name}={value}" for name, value in identity.items())
        outcome = bound.evaluate(problem, label=label, **setting)
        part.ledger.merge(climb(bound, problem, setting, label, outcome, part))
        part.kind = outcome.kind
        row = {"index": index, "identity": identity, "measured": outcome.measured, "bound": outcome.bound}
        part.rows.append(row)
    return part


def climb(
    bound: Bound, problem: Problem, setting: Mapping[str, Any], label: str, outcome: Outcome, part: Part
) -> Ledger:
    """The verdicts that count: the screen's, or those of 60 digits where the screen is too close."""
    if not (bound.precise and outcome.ledger.close(NEAR)):
        return outcome.ledger
    # A violation is decided where it happened. A line that is attained is attained by construction, at one block epoch
    # as at all; 60 digits cost a hundred times what float64 costs.
    epochs = bound.epochs if outcome.ledger.violations else 1
    precise = bound.evaluate(problem, arithmetic="mp", epochs=epochs, label=label, **setting).ledger
    part.reruns += 1
    part.screened += outcome.ledger.violations
    part.precise.merge(precise)
    return outcome.ledger.decided_by(precise)


@functools.lru_cache(maxsize=64)
def controls_of(config: str) -> list[Control]:
    """The controls have their own instances, the same beside every family."""
    return list(_built(config).controls())


def run_extras(config: Mapping[str, Any]) -> tuple[Mapping[str, Any], Outcome | None, list[Control]]:
    """Parameters of the showcase, the showcase, and the negative controls."""
    torch.set_num_threads(1)
    bound, family = instantiate(config)
    example = family.showcase()
    return example.parameters, bound.showcase(example), controls_of(json.dumps(config["bound"]))


def assemble(
    bound: Bound, parts: Sequence[Part], extras: tuple[Mapping[str, Any], Outcome | None, list[Control]]
) -> dict[str, Any]:
    """Measurements of a record, as JSON values."""
    total, precise = Ledger(), Ledger()
    for part in parts:
        total.merge(part.ledger)
        precise.merge(part.precise)
    rows = sorted((row for part in parts for row in part.rows), key=lambda row: row["index"])
    # One column for each quantity: a list of mappings would be several times longer in the file.
    names = dict.fromkeys(name for row in rows for name in row["identity"])
    columns = {name: [row["identity"].get(name) for row in rows] for name in names}
    parameters, showcase, controls = extras
    violations = total.violations + (showcase.ledger.violations if showcase else 0)
    return {
        "tolerance": TOLERANCE,
        "lines": {name: line.summary() for name, line in total.lines.items()},
        "kind": parts[0].kind,
        "instances": {
            **columns,
            "measured": [finite(row["measured"]) for row in rows],
            "bound": [finite(row["bound"]) for row in rows],
            "ratio": [finite(row["measured"] / row["bound"]) if row["bound"] else None for row in rows],
        },
        "precise": {
            "instances": sum(part.reruns for part in parts),
            "violations_of_the_screen": sum(part.screened for part in parts),
            "checks": sum(line.checks for line in precise.lines.values()),
            "violations": precise.violations,
        },
        "showcase": showcase and {"parameters": dict(parameters), **shown(showcase)},
        "controls": [
            {
                "name": control.name,
                "line": control.line,
                "ratio": finite(control.ratio),
                "true_ratio": finite(control.true_ratio),
                "most": finite(control.most),
                "rejected": control.rejected,
            }
            for control in controls
        ],
        "left_out": parts[0].left_out,
        "violations": violations,
        "unresolved": (unresolved := [name for name, line in total.lines.items() if line.unresolved]),
        "refuted": bound.refuted,
        "holds": not violations and not unresolved and all(control.rejected for control in controls),
    }


def shown(outcome: Outcome) -> dict[str, Any]:
    """The showcase as JSON values."""
    lines = outcome.ledger.lines
    return {
        **{name: [finite(value) for value in values] for name, values in outcome.series.items()},
        "ratios": {name: thinned(line.series) for name, line in lines.items()},
        "lines": {name: line.summary() for name, line in lines.items()},
    }


def thinned(series: list[float | None]) -> list[float | None]:
    """At most `SHOWN` of the ratios of a line, evenly spaced, and the largest one besides.

    >>> len(thinned([0.0] * 1000)), max(thinned([0.0, 1.0] + [0.5] * 1000)), thinned([0.5, None])
    (101, 1.0, [0.5, None])
    """
    step = -(-len(series) // SHOWN)
    shown_ratios = series[:: max(1, step)]
    largest = max((ratio for ratio in series if ratio is not None), default=None)
    return shown_ratios if step <= 1 else [*shown_ratios, largest]


def finite(value: float) -> float | None:
    """JSON has no infinity and no NaN."""
    return float(f"{value:.9g}") if math.isfinite(value) else None


def inequality_checks(lines: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """How many checks the lines have that are no identities, and how many of them are resolved."""
    claims = [line for line in lines if line["kind"] == "inequality"]
    return {"claims": sum(line["checks"] for line in claims), "resolved": sum(line["resolved"] for line in claims)}


def summary(measurements: Mapping[str, Any]) -> dict[str, Any]:
    """One row: sums over the lines, the tightest and the loosest of them, and the theorem's own ratio."""
    lines = measurements["lines"]
    ratios = {
        name: line["largest_ratio"]
        for name, line in lines.items()
        if line["kind"] == "inequality" and line["resolved"] and line["largest_ratio"] is not None
    }
    bound_ratios = [ratio for ratio in measurements["instances"]["ratio"] if ratio is not None]
    return {
        "lines": len(lines),
        "checks": sum(line["checks"] for line in lines.values()),
        **inequality_checks(lines.values()),
        "instances": len(measurements["instances"]["ratio"]),
        "tightest": max(ratios, key=ratios.__getitem__, default=None),
        "loosest": min(ratios, key=ratios.__getitem__, default=None),
        "ratios": ratios,
        "median": statistics.median(bound_ratios) if bound_ratios else None,
        "largest": max(bound_ratios, default=None),
        "reruns": measurements["precise"]["instances"],
        "controls": len(measurements["controls"]),
        "rejected": sum(control["rejected"] for control in measurements["controls"]),
    }
