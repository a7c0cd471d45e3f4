"""One run of the adversary: every target and every map, from as many processes as there are cores."""

import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch
from tqdm import tqdm

from theory.adversary import maps
from theory.adversary.mutation import PATIENCE, attack, by_hand, mutants
from theory.adversary.search import Archive, Target, judge, maximise, ratio_of
from theory.adversary.spaces import decode
from theory.adversary.targets import TARGETS

ENOUGH = 0.98
"""A line that another search brought here gets none of its own."""

TIERS: dict[str, dict[str, Any]] = {
    "quick": {
        "budget": 32,
        "map_budget": 12,
        "grid": {
            "gamma": [0.25, 1.0, 1.75],
            "coupling": [0.0, 0.5, 0.9],
            "inner_steps": [1, 4],
            "eps": [0.01, 1.0, 100.0],
            "fraction": [0.05, 0.5, 0.95],
        },
    },
    "full": {
        "budget": 200,
        "map_budget": 60,
        "grid": {
            "gamma": [0.25, 1.0, 1.75],
            "coupling": [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99],
            "inner_steps": [1, 2, 3, 4, 6, 8],
            "eps": [0.001, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0],
            "fraction": [0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95],
        },
    },
}


def chosen(names: Sequence[str]) -> list[Target]:
    """The targets of these names, all for none.

    Raises:
        ValueError: for an unknown name.
    """
    by_name = {target.name: target for target in TARGETS}
    if unknown := [name for name in names if name not in by_name]:
        raise ValueError(f"target={unknown[0]!r} is not one of {', '.join(by_name)}")
    return [by_name[name] for name in dict.fromkeys(names)] if names else list(TARGETS)


def attack_target(name: str, budget: int, seed: int) -> dict[str, Any]:
    """Search every line of one target, then attack its mutants."""
    torch.set_num_threads(1)  # blocks have a few coordinates
    (target,) = chosen([name])
    archive = Archive()
    for line in (*target.lines, *target.loose):
        wanted = max(ENOUGH, target.least.get(line, 0.0))
        for effort in (1, PATIENCE if line in target.least else 0):
            if effort and archive.best.get(line, (0.0,))[0] < wanted:
                maximise(target, (line,), archive, budget=effort * budget, seed=seed, stop=1 - 1e-6)
    rows = [attack(target, mutant, archive, budget=budget, seed=seed) for mutant in mutants(target, archive)]
    return {
        "tightness": [tightness(target, line, archive) for line in (*target.lines, *target.loose)],
        "mutants": rows,
        "evaluations": archive.evaluations,
        "violations": [f"{name}, {text}" for text in archive.violations],
        "indistinct": [
            f"{name}, line {line}: nothing tells its sides apart"
            for line, seen in archive.seen.lines.items()
            if seen.indistinct and line not in target.equal
        ],
    }


def tightness(target: Target, line: str, archive: Archive) -> dict[str, Any]:
    """The best ratio of a line, in 60 digits, what it must reach, and over all starts for the same matrix."""
    _, coordinates = archive.best[line]
    problem, setting = target.instance(coordinates)
    return {
        "target": target.name,
        "bound": type(target.bound).__name__,
        "line": line,
        "ratio": ratio_of(judge(target, coordinates, precise=True), (line,)),
        "least": target.least.get(line),
        "exact": target.exact(problem, setting) if target.exact and line == target.exact_line else None,
        "instance": decode(target.axes, coordinates),
    }


def measure(names: Sequence[str], tier: Mapping[str, Any], *, seed: int, workers: int) -> dict[str, Any]:
    """Measurements of a record, as JSON values; maps only if all targets are attacked."""
    targets = chosen(names)
    grids = [] if names else maps.grids(tier["grid"])
    tasks: list[tuple[Callable[..., dict[str, Any]], tuple[Any, ...]]] = [
        (attack_target, (target.name, tier["budget"], seed)) for target in targets
    ]
    tasks += [
        (maps.row, (item["kind"], maps.cells_of(item, y), tier["map_budget"], seed))
        for item in grids
        for y in item["ys"]
    ]
    results = list(tqdm(_results(tasks, workers), total=len(tasks), unit="part", disable=None))
    attacks, rows = results[: len(targets)], iter(results[len(targets) :])
    drawn = [{**item, "ratio": [next(rows)["ratios"] for _ in item["ys"]]} for item in grids]
    first = {type(target.bound): target for target in targets}  # a theorem may be attacked in several places
    measurements = {
        "tightness": [row for part in attacks for row in part["tightness"]],
        "mutants": [row for part in attacks for row in part["mutants"]],
        "controls": [row for target in first.values() for row in by_hand(target)],
        "maps": drawn,
        "evaluations": sum(part["evaluations"] for part in results),
        "violations": [text for part in results for text in part["violations"]],
        "indistinct": [text for part in attacks for text in part["indistinct"]],
    }
    return {**measurements, "failures": failures(measurements)}


def failures(measurements: Mapping[str, Any]) -> list[str]:
    """What a run must not have, in words; empty if the theorems hold and are as tight as they claim to be."""
    missed = [row for row in measurements["tightness"] if row["least"] is not None and row["ratio"] < row["least"]]
    unresolved = [row for row in measurements["tightness"] if not row["ratio"]]
    alive = [row for row in measurements["mutants"] if row["required"] and not row["killed"]]
    accepted = [row for row in measurements["controls"] if not row["killed"]]
    return [
        *(f"violated: {text}" for text in measurements["violations"]),
        *measurements["indistinct"],
        *(f"{row['target']}: no check of line {row['line']} is resolved" for row in unresolved),
        *(f"{row['target']}: line {row['line']} reaches {row['ratio']:.6f} < {row['least']}" for row in missed),
        *(f"{row['target']}: the mutant '{row['mutant']}' of {row['line']} survives" for row in alive),
        *(f"{row['bound']}: the control '{row['mutant']}' is not rejected" for row in accepted),
    ]


def _results(
    tasks: Sequence[tuple[Callable[..., dict[str, Any]], tuple[Any, ...]]], workers: int
) -> Iterator[dict[str, Any]]:
    """Results in the order of the tasks."""
    if workers == 1:
        for function, arguments in tasks:
            yield function(*arguments)
        return
    # fresh processes: torch's threads do not survive a fork
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        started = [pool.submit(function, *arguments) for function, arguments in tasks]
        for future in started:
            yield future.result()
