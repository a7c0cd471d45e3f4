"""What the verify command may ask of a bound."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from theory.ledger import Ledger
from theory.problems import Problem


@dataclass(frozen=True)
class Outcome:
    """A theorem on one instance.

    measured: the quantity that the theorem bounds, from the trajectory.     bound: the theorem's number.
    kind: "upper" if measured <= bound is claimed, "lower" if >=, "tight" if equality.
    ledger: every line of the proof.     series: what a figure of this run shows, one number an epoch.
    """

    measured: float
    bound: float
    kind: Literal["tight", "upper", "lower"]
    ledger: Ledger
    series: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Control:
    """A false statement that the ledger must reject, beside the true one on the same instance.

    name: what was changed.     line: the line that it breaks.
    ratio: largest lhs/rhs of that line for the false statement.     violations: of that line; must be positive.
    true_ratio, true_violations: the same for the true statement; no violation allowed.
    """

    name: str
    line: str
    ratio: float
    violations: int
    true_ratio: float
    true_violations: int

    @property
    def rejected(self) -> bool:
        """The false statement was caught and the true one was not."""
        return self.violations > 0 and self.true_violations == 0


class Bound(Protocol):
    """One theorem and the sweep over its own parameters that a yaml in conf/bound describes."""

    def settings(self, problem: Problem) -> Iterator[dict[str, Any]]:
        """Every setting of the sweep for this problem, once; keyword arguments of `evaluate`."""
        ...

    def evaluate(self, problem: Problem, **setting: Any) -> Outcome:
        """Run bcd and check every line of the proof.

        Raises ValueError when a hypothesis does not hold.
        """
        ...

    def showcase(self, problem: Problem) -> Outcome:
        """The run for the figures, with the whole series of every line."""
        ...

    def controls(self) -> Iterator[Control]:
        """The negative controls."""
        ...
