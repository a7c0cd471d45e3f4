"""The ledger of a proof: every line is an inequality lhs <= rhs that is evaluated, counted and never trusted."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

TOLERANCE = 1e-12
"""A line is violated when lhs > rhs + TOLERANCE * scale. The caller's scale is the size of the terms whose rounding
enters, so this is some thousand float64 roundings. No line has a tolerance of its own."""

RESOLVED = 1e3
"""A ratio lhs/rhs is reported when rhs > RESOLVED * TOLERANCE * scale: below, it would measure rounding."""


@dataclass
class Line:
    """Summary of one inequality.

    checks: evaluations of the inequality.     resolved: those with both sides far above rounding.
    instances: ledgers that were merged into this one.
    largest_ratio: largest lhs/rhs among the resolved checks; infinity if a violated check has rhs <= 0.
    smallest_slack: smallest (rhs - lhs)/scale.
    violations, first_violation: how many, and where the first one is.
    series: the ratio of every check in order, None where it is not resolved; only if the ledger keeps it.
    """

    checks: int = 0
    resolved: int = 0
    instances: int = 1
    largest_ratio: float = 0.0
    smallest_slack: float = np.inf
    violations: int = 0
    first_violation: str = ""
    series: list[float | None] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """The line as JSON values, without the series; infinity becomes None."""
        return {
            "checks": self.checks,
            "resolved": self.resolved,
            "instances": self.instances,
            "largest_ratio": self.largest_ratio if np.isfinite(self.largest_ratio) else None,
            "smallest_slack": self.smallest_slack if np.isfinite(self.smallest_slack) else None,
            "violations": self.violations,
            "first_violation": self.first_violation,
        }


class Ledger:
    """Collects the lines of one proof on one instance, or by `merge` on many.

    label: names the instance in messages.     keep_series: keep the ratio of every single check.

    >>> ledger = Ledger("example")
    >>> ledger.check("triangle", [1.0, 3.0], [2.0, 2.0], scale=1.0)
    >>> ledger.lines["triangle"].violations, ledger.lines["triangle"].first_violation
    (1, 'example at (1,): 3 > 2')
    """

    def __init__(self, label: str = "", *, keep_series: bool = False) -> None:
        self.label = label
        self.keep_series = keep_series
        self.lines: dict[str, Line] = {}

    @property
    def violations(self) -> int:
        """Violated checks over all lines."""
        return sum(line.violations for line in self.lines.values())

    def check(self, name: str, lhs: ArrayLike, rhs: ArrayLike, *, scale: ArrayLike) -> None:
        """Evaluate lhs <= rhs elementwise; NaN on any side is a violation.

        name: of the line.     lhs, rhs, scale: arrays of one common shape after broadcasting.
        """
        left, right, unit = np.broadcast_arrays(*(np.asarray(v, dtype=np.float64) for v in (lhs, rhs, scale)))
        if not left.size:
            return
        line = self.lines.setdefault(name, Line())
        violated = ~(left <= right + TOLERANCE * unit)
        resolved = right > RESOLVED * TOLERANCE * unit
        ratio = np.divide(left, right, out=np.full(left.shape, np.nan), where=resolved)
        ratio[violated & ~resolved] = np.inf
        slack = np.divide(right - left, unit, out=np.full(left.shape, np.inf), where=unit > 0)
        line.checks += left.size
        line.resolved += int(resolved.sum())
        line.largest_ratio = max(line.largest_ratio, float(np.nanmax(ratio, initial=0.0)))
        line.smallest_slack = min(line.smallest_slack, float(slack.min()))
        line.violations += int(violated.sum())
        if violated.any() and not line.first_violation:
            index = tuple(int(axis) for axis in np.argwhere(violated)[0])
            line.first_violation = f"{self.label} at {index}: {left[index]:.9g} > {right[index]:.9g}"
        if self.keep_series:
            line.series += [float(f"{r:.6g}") if np.isfinite(r) else None for r in ratio.ravel()]

    def merge(self, other: "Ledger") -> None:
        """Add the lines of another instance; its series are not taken over."""
        for name, new in other.lines.items():
            line = self.lines.setdefault(name, Line(instances=0))
            line.checks += new.checks
            line.resolved += new.resolved
            line.instances += new.instances
            line.largest_ratio = max(line.largest_ratio, new.largest_ratio)
            line.smallest_slack = min(line.smallest_slack, new.smallest_slack)
            line.violations += new.violations
            line.first_violation = line.first_violation or new.first_violation
