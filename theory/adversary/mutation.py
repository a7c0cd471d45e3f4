"""Mutation testing of theorems: every stronger statement must be refuted by an instance on which the true one holds.

Two kinds of mutants, only in the direction that strengthens the claim:

line    the constant of one line of the proof improved by 2: 2 lhs <= rhs, where lhs is positive.
field   a field of the `Statement` of the theorem doubled or halved, whichever strengthens; a coupling set to 0 and a
        flag turned, which drop a hypothesis or a term. Which direction strengthens is measured: at the best instances
        of every line and at some random ones no ratio may fall, and one must rise.

What a field cannot say (steps that are too long, constants of another order) is in the controls of the bounds.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from theory.adversary.search import CEILING, Archive, Target, judge, maximise, ratio_of
from theory.adversary.spaces import decode
from theory.bounds import Statement
from theory.ledger import Ledger
from theory.numbers import Array

FACTOR = 2.0
DROPPABLE = ("coupling", "moved")
"""Fields that leave a term out at 0."""

CLEAR = 1.05
"""A mutant whose best known instance is below this ratio gets a search of its own."""

PATIENCE = 5
"""A second search with so many times the budget, where a survivor is a failure."""

MOST_WITNESSES = 4
"""Instances of the archive that a mutant is tried on."""

RANDOM_PROBES = 6
"""Random instances beside the best ones: those may all have one block, where no coupling matters."""

NEARLY_TIGHT = 1.005
LARGEST_FACTOR = 1024.0
"""A mutant that lives at this factor is said to have no factor at which it dies."""


@dataclass(frozen=True)
class Mutant:
    """A stronger statement.

    Attributes:
        name: what was changed.
        statement: the claim.
        lines: those whose ratios it raises.
        field: the field of the statement that was changed, "stronger" for a line.
        value: what it was changed to.
        required: whether a survivor is a failure.
    """

    name: str
    statement: Statement
    lines: tuple[str, ...]
    field: str
    value: Any
    required: bool

    def at(self, factor: float) -> Statement:
        """The same change with another factor than 2."""
        if self.field == "stronger":
            return replace(self.statement, stronger={self.lines[0]: factor})
        return replace(self.statement, **{self.field: factor if self.value > 1 else 1 / factor})


def mutants(target: Target, archive: Archive) -> list[Mutant]:
    """All mutants of the theorem of a target; the archive has the instances at which directions are measured."""
    true = target.bound.true
    all_mutants = [
        Mutant(
            "left side x 2",
            replace(true, stronger={line: FACTOR}),
            (line,),
            "stronger",
            FACTOR,
            line in target.lines,
        )
        for line in (*target.lines, *target.loose)
        if line in archive.best
    ]
    probes = _points(archive, archive.best)
    upper = np.array([axis.upper for axis in target.axes])
    probes += list(np.random.default_rng(0).uniform(size=(RANDOM_PROBES, len(upper))) * upper)
    for item in dataclasses.fields(true):
        value = getattr(true, item.name)
        if item.name in target.by_hand or not isinstance(value, bool | float):
            continue
        values: tuple[Any, ...] = (not value,) if isinstance(value, bool) else (FACTOR, 1 / FACTOR)
        if item.name in DROPPABLE:
            values += (0.0,)
        for changed in values:
            statement = replace(true, **{item.name: changed})
            if lines := strengthened(target, statement, probes):
                name = f"{item.name} = {changed:g}" if isinstance(changed, float) else f"{item.name} {changed}"
                required = bool(target.lines) and item.name not in target.spared
                all_mutants.append(Mutant(name, statement, lines, item.name, changed, required))
    return all_mutants


def strengthened(target: Target, statement: Statement, probes: Sequence[Array]) -> tuple[str, ...]:
    """The lines whose ratio the statement raises at some probe; none if it lowers one anywhere."""
    raised = set()
    for coordinates in probes:
        problem, setting = target.instance(coordinates)  # what is not changed has the same rounding in both
        before = target.bound.evaluate(problem, **setting).ledger
        after = target.bound.evaluate(problem, statement=statement, **setting).ledger
        for name in before.lines.keys() & after.lines.keys():
            old, new = (min(ledger.lines[name].largest_ratio, CEILING) for ledger in (before, after))
            if new < old * (1 - 1e-9):
                return ()
            if new > old * (1 + 1e-9):
                raised.add(name)
    return tuple(sorted(raised))


def attack(target: Target, mutant: Mutant, archive: Archive, *, budget: int, seed: int) -> dict[str, Any]:
    """Try to kill a mutant: at the best instances of its lines, then by a search of its own. A row of the table."""
    tried = _points(archive, mutant.lines)[:MOST_WITNESSES]
    best = _strongest(target, mutant, tried)
    for effort, enough in ((1, CLEAR), (PATIENCE if mutant.required else 0, 1.0)):
        if effort and (best is None or best[0] < enough):
            _, point = maximise(
                target,
                mutant.lines,
                archive,
                budget=effort * budget,
                seed=seed,
                stop=CLEAR,
                statement=mutant.statement,
            )
            tried.append(point)
            best = _strongest(target, mutant, tried)
    killed, shown = best is not None, best[1] if best else None
    if shown is None:
        shown = max(tried, key=lambda point: ratio_of(judge(target, point, mutant.statement), mutant.lines))
    false, true = (judge(target, shown, claim, precise=True) for claim in (mutant.statement, None))
    line = max(mutant.lines, key=lambda name: ratio_of(false, (name,)))
    return {
        "target": target.name,
        "bound": type(target.bound).__name__,
        "mutant": mutant.name,
        "line": line,
        "ratio": ratio_of(false, (line,)),
        "true_ratio": ratio_of(true, (line,)),
        "dies_at": dies_at(target, mutant, shown, ratio_of(true, (line,))),
        "killed": killed,
        "required": mutant.required,
        "instance": decode(target.axes, shown),
    }


def _strongest(target: Target, mutant: Mutant, tried: Sequence[Array]) -> tuple[float, Array] | None:
    """The instance that refutes the mutant most clearly, in 60 digits, among those on which the true theorem holds."""
    best = None
    for point in tried:
        false = judge(target, point, mutant.statement)
        ratio = ratio_of(false, mutant.lines)
        if (
            _violated(false, mutant.lines)
            and (best is None or ratio > best[0])
            and not judge(target, point).violations
        ):
            best = ratio, point
    return best


def dies_at(target: Target, mutant: Mutant, witness: Array, true_ratio: float) -> float | None:
    """The least factor in place of 2 that the witness refutes, to 1 %; of a line the inverse of its ratio.

    None for a flag or a factor of 0, which have none, and if even a factor of `LARGEST_FACTOR` survives.
    """
    if isinstance(mutant.value, bool) or mutant.value == 0:
        return None
    if mutant.field == "stronger":
        return max(1.0, 1 / true_ratio) if true_ratio > 1 / LARGEST_FACTOR else None

    def dead(factor: float) -> bool:
        return _violated(judge(target, witness, mutant.at(factor)), mutant.lines)

    if dead(NEARLY_TIGHT):
        return NEARLY_TIGHT
    high = FACTOR
    while not dead(high):
        high *= FACTOR
        if high > LARGEST_FACTOR:
            return None
    low = high / FACTOR
    while high / low > 1.01:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if dead(middle) else (middle, high)
    return high


def by_hand(target: Target) -> list[dict[str, Any]]:
    """The negative controls of the bound, as rows of the same table."""
    return [
        {
            "bound": type(target.bound).__name__,
            "mutant": control.name,
            "line": control.line,
            "ratio": min(control.ratio, CEILING),
            "true_ratio": control.true_ratio,
            "killed": control.rejected,
        }
        for control in target.bound.controls()
    ]


def _violated(ledger: Ledger, lines: Sequence[str]) -> bool:
    return any(ledger.lines[name].violations for name in lines if name in ledger.lines)


def _points(archive: Archive, lines: Sequence[str] | Mapping[str, Any]) -> list[Array]:
    """The best instances of these lines, the best first, each once."""
    instances = sorted((archive.best[name] for name in lines if name in archive.best), key=lambda item: -item[0])
    unique: list[Array] = []
    for _, point in instances:
        if not any(np.array_equal(point, other) for other in unique):
            unique.append(point)
    return unique
