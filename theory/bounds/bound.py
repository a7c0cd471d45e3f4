"""What all bounds share: the sweep over their parameters, the run, and the form of their results.

A bound is one file, a subclass of `Bound` that says which parameters are possible (`require`), which rule and step
sizes they mean (`method`) and how every line of the proof is evaluated on a trajectory (`prove`), and one yaml in
conf/bound. A theorem that is not about trajectories overrides `evaluate` itself.
"""

import inspect
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from bcd import Rule
from bcd.checks import refuse, require_whole
from theory.ledger import Ledger
from theory.numbers import Array, precision
from theory.problems import Problem
from theory.problems.validation import positive_integer
from theory.trajectory import ORDERS, Trajectory, require_block_epochs, require_inside, require_steps, trajectory


@dataclass(frozen=True)
class Outcome:
    """A theorem on one instance.

    Attributes:
        measured: the quantity that the theorem bounds, from the trajectory.
        bound: the theorem's number.
        kind: "upper" if measured <= bound is claimed, "lower" if >=, "tight" if equality.
        ledger: every line of the proof.
        series: what a figure of this run shows, one number an epoch.
    """

    measured: float
    bound: float
    kind: Literal["tight", "upper", "lower"]
    ledger: Ledger
    series: dict[str, list[float]] = field(default_factory=dict)


HALVED = 2.5
"""Largest ratio of a control that changes something by a factor of 2, which is what most of them do."""


@dataclass(frozen=True)
class Control:
    """A false statement that the ledger must reject, beside the true one on the same instance.

    Attributes:
        name: what was changed.
        line: the line that it breaks.
        ratio: largest lhs/rhs of that line for the false statement.
        violations: of that line; must be positive.
        true_ratio: largest lhs/rhs of that line for the true statement.
        true_violations: of that line for the true statement; none is allowed.
        most: the ratio that the change explains; above, the statement is another and weaker test than its name says.
    """

    name: str
    line: str
    ratio: float
    violations: int
    true_ratio: float
    true_violations: int
    most: float = HALVED

    @property
    def rejected(self) -> bool:
        """The false statement was caught, is no falser than its name says, and the true one was not caught."""
        return self.violations > 0 and self.true_violations == 0 and self.ratio <= self.most


@dataclass(frozen=True)
class Statement:
    """Which statement is checked: the theorem's own with the defaults, a false one in a negative control.

    A bound whose controls change something else derives from it.

    Attributes:
        constant: factor of the theorem's final constant, in the direction that strengthens it.
        stronger: line -> factor above 1 of its left side, for mutations of single lines of the proof.
    """

    constant: float = 1.0
    stronger: Mapping[str, float] = field(default_factory=dict, kw_only=True)


@dataclass(frozen=True, kw_only=True)
class Bound:
    """One theorem and the sweep over its own parameters that a yaml in conf/bound describes.

    Without a grid the bound has no sweep and is only evaluated at given settings.

    Attributes:
        problems: names of the yamls in conf/problem to which the theorem applies.
        grid: parameter -> list of its values; every combination is a setting.
        epochs: T of the sweep.
        example: the setting of the run for the figures, with `epochs`; empty for none.
        least: family -> instances that it gets at least, where an equal share of the tier is not enough.
        refuted: the statement is published and false; verify succeeds if it finds the violation, or leaves out a
            family.
        leaves_out: why `settings` leaves out values of the grid for some problems, if it does.
        precise: whether the bound can be evaluated in multi-precision.
        true: the statement of the theorem.

    Raises:
        ValueError: when the grid is no mapping of lists with the parameters of `require`, or when a value is outside
            the hypotheses.
    """

    problems: Sequence[str] = ()
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    epochs: int = 1
    example: Mapping[str, Any] = field(default_factory=dict)
    least: Mapping[str, int] = field(default_factory=dict)

    refuted: ClassVar[bool] = False
    leaves_out: ClassVar[str] = ""
    precise: ClassVar[bool] = True
    kind: ClassVar[Literal["tight", "upper", "lower"]] = "upper"
    true: ClassVar[Statement] = Statement()

    def __post_init__(self) -> None:
        positive_integer("epochs", self.epochs)
        for family, count in self.least.items():
            require_whole(f"least.{family}", count, least=0)
            if family not in self.problems:
                refuse(f"least.{family}", count, f"the problems of the bound are {', '.join(self.problems)}")
        for name, values in self.grid.items():
            if isinstance(values, int | float | str) or not len(values):
                raise ValueError(f"{name}={values!r} is not possible: it must be a list of values")
        for setting in self._combinations():
            self.check_setting(setting)
        if self.example:
            # The showcase runs after the sweep; a mistake in it must not cost the sweep's time.
            setting = dict(self.example)
            if "epochs" not in setting:
                raise ValueError(f"example={setting} is not possible: it must have epochs")
            positive_integer("epochs", setting.pop("epochs"))
            self.check_setting(setting, "example")

    def check_setting(self, setting: Mapping[str, Any], name: str = "setting") -> None:
        """Raise ValueError unless the setting has exactly the parameters of `require`, with possible values."""
        try:
            inspect.signature(self.require).bind(**setting)
        except TypeError as error:
            raise ValueError(f"{name}={dict(setting)} is not possible: {error}") from error
        self.require(**setting)

    def _combinations(self) -> Iterator[dict[str, Any]]:
        if self.grid:
            for values in itertools.product(*self.grid.values()):
                yield dict(zip(self.grid, values, strict=True))

    def settings(self, problem: Problem) -> Iterator[dict[str, Any]]:
        """Every setting of the sweep for this problem, once; keyword arguments of `evaluate`."""
        for setting in self._combinations():
            # one block has one order
            if len(problem.sizes) > 1 or setting.get("order") in (None, *self.grid.get("order", [])[:1]):
                yield setting

    # What a theorem says. Subclasses name their parameters: `def require(self, *, gamma, inner_steps, order)`.

    def require(self, *args: Any, **setting: Any) -> None:
        """Raise ValueError, with the value, when a parameter is outside the hypotheses; names all parameters."""
        raise NotImplementedError

    def require_problem(self, problem: Problem) -> None:
        """Raise ValueError when the problem does not satisfy the hypotheses; every smooth problem does here."""

    def method(self, problem: Problem, *args: Any, **setting: Any) -> tuple[Rule, list[float]]:
        """The rule and the step size of each block that a setting means."""
        raise NotImplementedError

    def prove(
        self, problem: Problem, path: Trajectory, ledger: Ledger, statement: Any, *args: Any, **setting: Any
    ) -> tuple[Array, Array]:
        """Evaluate every line of the proof on the path; returns measured and bound for T = 0, ..., epochs.

        Args:
            problem: with float64 constants (of `path.problem` the data are in the arithmetic of the path).
        """
        raise NotImplementedError

    def controls(self) -> Iterator[Control]:
        """The negative controls."""
        raise NotImplementedError

    # How it is checked.

    def evaluate(
        self,
        problem: Problem,
        *,
        arithmetic: str = "float64",
        statement: Any = None,
        rule: Rule | None = None,
        epochs: int | None = None,
        label: str = "",
        keep_series: bool = False,
        **setting: Any,
    ) -> Outcome:
        """Run block coordinate descent on `problem` and check every line of the proof.

        Args:
            arithmetic: as in `theory.trajectory.trajectory`.
            epochs: T, that of the sweep unless given.
            statement: a false one in negative controls, which may also leave the hypotheses on the setting.
            rule: what is run, the theorem's own unless given; another one is refused when a step shows it.
            label: names the instance in messages.
            keep_series: keep the ratio of every check.

        Raises:
            ValueError: when a hypothesis does not hold: on the setting, on the problem, on the order of the blocks, on
                the steps, or when an iterate leaves the set on which the constants are certified.
        """
        if statement is None:
            self.check_setting(setting)
            self.require_problem(problem)
        prescribed, lr = self.method(problem, **setting)
        seed = problem.parameters.get("seed") or 0  # instances differ in their permutations too
        with precision(arithmetic):
            path = trajectory(
                problem,
                order=ORDERS[setting["order"]](seed),
                inner_steps=setting["inner_steps"],
                lr=lr,
                epochs=epochs or self.epochs,
                rule=rule or prescribed,
                arithmetic=arithmetic,
            )
            require_block_epochs(path.visited)
            require_steps(path, prescribed)
            require_inside(path)
            claim = statement or self.true
            ledger = Ledger(label, keep_series=keep_series, stronger=claim.stronger)
            measured, bound = self.prove(problem, path, ledger, claim, **setting)
        return self.outcome(measured, bound, ledger)

    def outcome(self, measured: Array, bound: Array, ledger: Ledger) -> Outcome:
        """Outcome at the last epoch, with both series."""
        series = {"measured": _floats(measured), "bound": _floats(bound)}
        return Outcome(series["measured"][-1], series["bound"][-1], self.kind, ledger, series)

    def showcase(self, problem: Problem) -> Outcome | None:
        """The run for the figures, with the whole series of every line."""
        return self.evaluate(problem, label="showcase", keep_series=True, **self.example) if self.example else None

    def control(
        self,
        name: str,
        line: str,
        problem: Problem,
        false: Statement,
        *,
        true: Mapping[str, Any] | None = None,
        most: float = HALVED,
        **setting: Any,
    ) -> Control:
        """A false and the true statement on one instance; `true` changes the setting of the true one."""
        wrong = self.evaluate(problem, statement=false, label=name, **setting).ledger.lines[line]
        right = self.evaluate(problem, label=name, **{**setting, **(true or {})}).ledger.lines[line]
        false_side, true_side = ((each.largest_ratio, each.violations) for each in (wrong, right))
        return Control(name, line, *false_side, *true_side, most)


def require_between(name: str, value: Any, low: float, high: float, *, closed: bool = False, who: str = "") -> None:
    """Raise ValueError unless `value` is a number in (low, high), with closed=True in [low, high).

    Args:
        who: the statement that needs it, for the message.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not (low <= value < high if closed else low < value < high):
        needs = f"{who} needs" if who else "it must be"
        raise ValueError(
            f"{name}={value!r} is not possible: {needs} a number in {'[' if closed else '('}{low:g}, {high:g})"
        )


def _floats(values: Array) -> list[float]:
    return np.asarray(values).astype(np.float64).tolist()
