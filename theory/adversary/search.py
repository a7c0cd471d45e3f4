"""The search: differential evolution over a bounded space, then gradient ascent from its best point.

What is maximised is the ratio lhs/rhs of a line of the ledger, whose supremum is 1 for a tight true line and whose
values above 1 are violations. Every value comes from `Bound.evaluate`: float64, and 60 digits where float64 is close.
"""

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.optimize

from theory.adversary.spaces import Axis, Point, decode
from theory.bounds import Bound, Statement
from theory.ledger import Ledger
from theory.measure import NEAR
from theory.numbers import Array
from theory.problems import Problem

CEILING = 1e6
"""Ratios are cut here: a violated line whose right side is not positive has the ratio infinity."""

SMALLEST_STEP = 1e-6
"""Step of the finite differences of the ascent, in coordinates of [0, 1]."""


@dataclass(frozen=True)
class Target:
    """Where one theorem is attacked.

    Attributes:
        name: unique.
        bound: the theorem.
        problem: point -> instance.
        problem_axes: the part of the space that `problem` takes.
        setting_axes: the rest of it, whose values go to `Bound.evaluate`, beside `fixed`.
        lines: lines that must be nearly tight here: their constant improved by 2 must be refuted.
        loose: lines whose mutants may survive.
        spared: fields of the statement whose mutants may survive.
        by_hand: fields that only the controls attack.
        least: line -> ratio that the adversary must reach.
        equal: lines whose two sides have one ratio on all of these instances, because they are so special.
        exact: of a quadratic and a setting, the largest ratio of the line `exact_line` over all starts; None without.
    """

    name: str
    bound: Bound
    problem: Callable[[Point], Problem]
    problem_axes: tuple[Axis, ...]
    setting_axes: tuple[Axis, ...]
    fixed: Mapping[str, Any]
    lines: tuple[str, ...]
    loose: tuple[str, ...] = ()
    spared: tuple[str, ...] = ()
    by_hand: tuple[str, ...] = ()
    least: Mapping[str, float] = field(default_factory=dict)
    equal: tuple[str, ...] = ()
    exact: Callable[[Any, Mapping[str, Any]], float] | None = None
    exact_line: str = "epoch"

    @property
    def axes(self) -> tuple[Axis, ...]:
        return self.problem_axes + self.setting_axes

    def instance(self, coordinates: Array) -> tuple[Problem, dict[str, Any]]:
        """The problem and the setting at a point of the space."""
        point = decode(self.axes, coordinates)
        return self.problem(point), {**self.fixed, **{axis.name: point[axis.name] for axis in self.setting_axes}}


def judge(
    target: Target,
    coordinates: Array,
    statement: Statement | None = None,
    *,
    lines: Sequence[str] = (),
    precise: bool = False,
) -> Ledger:
    """The ledger of one instance with the verdicts that count.

    In float64; again in 60 digits if a line is violated or one of `lines` is close to its bound, or if `precise`.
    """
    problem, setting = target.instance(coordinates)
    screen = target.bound.evaluate(problem, statement=statement, **setting).ledger
    if not (precise or screen.violations or ratio_of(screen, lines) > NEAR):
        return screen
    ledger = target.bound.evaluate(problem, statement=statement, arithmetic="mp", **setting).ledger
    # a line between constants is evaluated in float64 alone
    ledger.lines = {name: ledger.lines.get(name, line) for name, line in screen.lines.items()}
    return ledger


def ratio_of(ledger: Ledger, lines: Sequence[str]) -> float:
    """Largest ratio of the lines that the ledger has, cut at `CEILING`."""
    return min(max((ledger.lines[name].largest_ratio for name in lines if name in ledger.lines), default=0.0), CEILING)


def raised(target: Target, coordinates: Array, false: Ledger, lines: Sequence[str]) -> tuple[str, ...]:
    """The lines whose ratio a false statement raises at an instance: the others show nothing about it."""
    problem, setting = target.instance(coordinates)
    true = target.bound.evaluate(problem, **setting).ledger
    return tuple(name for name in lines if ratio_of(false, (name,)) > ratio_of(true, (name,)) * (1 + 1e-9))


@dataclass
class Archive:
    """The best instance of every line so far, of one target.

    Attributes:
        best: line -> (ratio, coordinates).
        violations: messages of violated lines of the true theorem.
        seen: every line over all instances.
    """

    best: dict[str, tuple[float, Array]] = field(default_factory=dict)
    evaluations: int = 0
    violations: list[str] = field(default_factory=list)
    seen: Ledger = field(default_factory=Ledger)

    def add(self, ledger: Ledger, coordinates: Array) -> None:
        self.evaluations += 1
        self.seen.merge(ledger)
        for name, line in ledger.lines.items():
            if line.violations:
                self.violations.append(f"{name}: {line.first_violation}")
            ratio = min(line.largest_ratio, CEILING)
            if name not in self.best or ratio > self.best[name][0]:
                self.best[name] = ratio, np.array(coordinates)


class Enough(Exception):  # noqa: N818, it is no error
    """The wanted ratio is reached."""


def maximise(
    target: Target,
    lines: Sequence[str],
    archive: Archive,
    *,
    budget: int,
    seed: int,
    stop: float,
    statement: Statement | None = None,
) -> tuple[float, Array]:
    """Largest ratio of the lines over the space of the target, and where.

    Args:
        budget: about how many instances are evaluated, a third of them by the ascent.
        stop: a ratio that is enough.
        statement: a false one; the archive then only counts.

    Raises:
        ValueError: when the budget is not positive.
    """
    if budget < 1:
        raise ValueError(f"budget={budget} is not possible: the search needs at least one evaluation")
    axes = target.axes
    upper = np.array([axis.upper for axis in axes])
    best: tuple[float, Array] = (0.0, upper / 2)

    def loss(coordinates: Array) -> float:
        nonlocal best
        ledger = judge(target, coordinates, statement, lines=lines)
        if statement is None:
            archive.add(ledger, coordinates)
        else:
            archive.evaluations += 1
        ratio = ratio_of(ledger, lines if statement is None else raised(target, coordinates, ledger, lines))
        if ratio > best[0]:
            best = ratio, np.array(coordinates)
        if ratio >= stop:
            raise Enough
        # the logarithm, so that an ascent does not die in the flat part far below 1
        return -math.log(max(ratio, 1e-12))

    try:
        _evolve(loss, axes, upper, budget - budget // 3, _seed(seed, target.name, *lines))
        _ascend(loss, axes, upper, best[1], budget // 3)
    except Enough:
        pass
    return best


def _seed(seed: int, *words: str) -> np.random.Generator:
    # not hash(), which differs from process to process
    return np.random.default_rng([seed, zlib.crc32(" ".join(words).encode())])


def _evolve(
    loss: Callable[[Array], float], axes: Sequence[Axis], upper: Array, budget: int, rng: np.random.Generator
) -> None:
    """Differential evolution; choices are integers."""
    population = max(8, 2 * len(axes))
    start = rng.uniform(size=(min(population, max(budget, 5)), len(axes))) * upper
    scipy.optimize.differential_evolution(
        loss,
        list(zip(0 * upper, np.maximum(upper, 1e-9), strict=True)),  # a choice of one has no width
        integrality=np.array([bool(axis.values) for axis in axes]),
        init=start,  # type: ignore[arg-type]
        maxiter=max(budget // len(start) - 1, 0),
        tol=0.0,
        polish=False,
        rng=rng,
    )


def _ascend(loss: Callable[[Array], float], axes: Sequence[Axis], upper: Array, start: Array, budget: int) -> None:
    """Gradient ascent (L-BFGS, finite differences) in the numbers; the choices stay."""
    free = np.array([not axis.values for axis in axes])
    if not free.any() or budget < 1:
        return

    def moved(numbers: Array) -> Array:
        point = start.copy()
        point[free] = numbers
        return point

    scipy.optimize.minimize(
        lambda numbers: loss(moved(numbers)),
        start[free],
        method="L-BFGS-B",
        bounds=[(0.0, 1.0)] * int(free.sum()),
        options={"maxfun": budget, "eps": SMALLEST_STEP},
    )
