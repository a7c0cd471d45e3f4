"""The ledger of a proof: every line is an inequality lhs <= rhs that is evaluated, counted and never trusted."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from typing import Any, Literal, TypeAlias

import mpmath
import numpy as np
from numpy.typing import ArrayLike

from theory.numbers import like

TOLERANCE = 1e-12
"""A float64 line is violated when lhs > rhs + TOLERANCE * scale. The caller's scale is the size of the terms whose
rounding enters, so this is some thousand roundings. No line has a tolerance of its own."""

SMALLEST = float(np.finfo(np.float64).tiny)
"""Smallest normal float64. Below it rounding is absolute, and products of small numbers lose all their digits; so a
float64 line is violated when lhs > rhs + TOLERANCE * scale + SMALLEST. Longer numbers do not underflow."""

PRECISE = mpmath.mpf("1e-45")
"""The same for multi-precision numbers of 60 digits. Fractions have no rounding and no tolerance."""

RESOLVED = 1000
"""A ratio lhs/rhs is reported when rhs is above RESOLVED times what is allowed: below, it would measure rounding."""


SPREAD = 1e-9
"""Relative difference of the ratios of a line below which they count as one."""


def tolerance(*sides: np.ndarray) -> Any:
    """Tolerance of the arithmetic in which the sides are compared: float64, multi-precision or exact.

    >>> tolerance(np.ones(2)), tolerance(np.array([Fraction(1, 3)]))
    (1e-12, 0)
    """
    if all(side.dtype != object for side in sides):
        return TOLERANCE
    kinds = {type(number) for side in sides if side.dtype == object for number in side.ravel()}
    return 0 if kinds <= {Fraction, int} else PRECISE


class Terms:
    """A right side as the sum of its terms, so that the ledger sees where each of them decides.

    A term that no check needs may be wrong unseen: the line holds with half of it, too.

    >>> ledger = Ledger()
    >>> ledger.check("triangle", [3.0, 1.0], Terms(first=[2.0, 2.0], second=[1.0, 0.0]), scale=1.0)
    >>> ledger.lines["triangle"].decisive
    {'first': (1, 2), 'second': (1, 1)}
    """

    def __init__(self, **terms: ArrayLike) -> None:
        self.terms = {name: _numbers(term) for name, term in terms.items()}

    def total(self) -> np.ndarray:
        """The right side."""
        first, *rest = self.terms.values()
        return sum(rest, start=first)


Side: TypeAlias = ArrayLike | Terms


@dataclass
class Line:
    """Summary of one line.

    Attributes:
        kind: "inequality", or "identity" where both sides must agree.
        checks: evaluations of the line.
        resolved: those with a right side far above rounding.
        zeros: those whose right side is exactly 0, and the left side too or else by the constants of the line.
        instances: ledgers that were merged into this one.
        largest_ratio: largest lhs/rhs among the resolved checks; infinity if a violated check has rhs <= 0.
        smallest_ratio: smallest lhs/rhs among them; infinity if there is none.
        smallest_slack: smallest (rhs - lhs)/scale, of an identity -|rhs - lhs|/scale.
        violations: how many checks failed.
        first_violation: where the first of them is.
        decisive: term of the right side -> how many checks fail with half of it, and without it; see `Terms`.
        series: the ratio of every check in order, None where it is not resolved; only if the ledger keeps it.
    """

    kind: Literal["inequality", "identity"] = "inequality"
    checks: int = 0
    resolved: int = 0
    zeros: int = 0
    instances: int = 1
    largest_ratio: float = 0.0
    smallest_ratio: float = np.inf
    smallest_slack: float = np.inf
    violations: int = 0
    first_violation: str = ""
    decisive: dict[str, tuple[int, int]] = field(default_factory=dict)
    series: list[float | None] = field(default_factory=list)

    @property
    def unresolved(self) -> bool:
        """Whether an inequality was evaluated and says nothing: not one check is above rounding.

        A line of zeros alone, such as the coupling of a single block, says 0 <= 0 and is not meant.
        """
        return self.kind == "inequality" and not self.resolved and self.zeros < self.checks

    @property
    def indistinct(self) -> bool:
        """Whether no check tells the two sides apart, as if one expression were compared with itself.

        Of an inequality that is one and the same ratio in all checks. Of an identity it is equality to the last bit:
        two ways to compute a number differ by rounding.
        """
        if self.kind == "identity":
            return self.checks > 0 and self.smallest_slack == 0
        spread = self.largest_ratio - self.smallest_ratio
        return self.resolved > 1 and 0 < self.largest_ratio < np.inf and spread <= SPREAD * self.largest_ratio

    def summary(self) -> dict[str, Any]:
        """The line as JSON values, without the series; infinity becomes None."""
        values = {name: value for name, value in asdict(self).items() if name != "series"}
        for name in ("largest_ratio", "smallest_ratio", "smallest_slack"):
            values[name] = values[name] if np.isfinite(values[name]) else None
        return values


class Ledger:
    """Collects the lines of one proof on one instance, or by `merge` on many.

    Sides are float64 arrays or object arrays of mpmath.mpf or Fraction; they are compared in their own arithmetic,
    and only ratios and slacks become floats.

    Args:
        label: names the instance in messages.
        keep_series: keep the ratio of every single check.
        stronger: line -> factor above 1 of its left side: max(lhs, factor lhs) <= rhs, a false claim for mutation
            testing.

    >>> ledger = Ledger("example")
    >>> ledger.check("triangle", [1.0, 3.0], [2.0, 2.0], scale=1.0)
    >>> ledger.lines["triangle"].violations, ledger.lines["triangle"].first_violation
    (1, 'example at (1,): 3 > 2')
    """

    def __init__(
        self, label: str = "", *, keep_series: bool = False, stronger: Mapping[str, float] | None = None
    ) -> None:
        self.label = label
        self.keep_series = keep_series
        self.stronger = dict(stronger or {})
        self.lines: dict[str, Line] = {}

    @property
    def violations(self) -> int:
        """Violated checks over all lines."""
        return sum(line.violations for line in self.lines.values())

    def check(self, name: str, lhs: ArrayLike, rhs: Side, *, scale: ArrayLike, zero: ArrayLike = False) -> None:
        """Evaluate lhs <= rhs elementwise; NaN on any side is a violation.

        Args:
            name: of the line.
            lhs: of one common shape with the next two after broadcasting.
            rhs: see `lhs`.
            scale: size of the terms that were rounded.
            zero: where the right side is 0 by its constants, such as for K = 1, so that the left side is rounding.
        """
        self._add(name, "inequality", lhs, rhs, scale, zero)

    def equal(self, name: str, lhs: ArrayLike, rhs: ArrayLike, *, scale: ArrayLike) -> None:
        """Evaluate lhs = rhs elementwise, up to the tolerance in both directions; otherwise as `check`."""
        self._add(name, "identity", lhs, rhs, scale)

    def _add(self, name: str, kind: Any, lhs: Side, rhs: Side, scale: ArrayLike, zero: ArrayLike = False) -> None:
        left, right, unit = np.broadcast_arrays(*map(_numbers, (lhs, rhs, scale)))
        if not left.size:
            return
        if name in self.stronger:  # at a negative left side the multiple would be the weaker claim
            left = np.maximum(left, left * like(self.stronger[name], left))
        line = self.lines.setdefault(name, Line(kind))
        allowed = tolerance(left, right)
        if allowed is PRECISE:  # a norm of Fractions is an mpf; the two do not subtract
            left, right = _precise(left), _precise(right)
        excess = left - right if kind == "inequality" else abs(left - right)
        # Only differences are compared with 0: a Fraction and an mpf do not compare.
        margin = allowed * unit if allowed else 0
        if allowed == TOLERANCE:
            margin = margin + SMALLEST
        violated = ~(excess - margin <= 0).astype(bool)
        resolved = (right - RESOLVED * margin > 0).astype(bool)
        ratio = np.full(left.shape, np.nan)
        ratio[resolved] = (left[resolved] / right[resolved]).astype(np.float64)
        ratio[violated & ~resolved] = np.inf
        slack, unit = np.full(left.shape, np.inf), unit.astype(np.float64)
        np.divide(-excess.astype(np.float64), unit, out=slack, where=unit > 0)
        line.checks += left.size
        line.resolved += int(resolved.sum())
        line.zeros += int((((left == 0) | np.asarray(zero, dtype=bool)) & (right == 0)).sum())
        line.largest_ratio = max(line.largest_ratio, float(np.nanmax(ratio, initial=0.0)))
        line.smallest_ratio = min(line.smallest_ratio, float(np.nanmin(ratio[resolved], initial=np.inf)))
        line.smallest_slack = min(line.smallest_slack, float(slack.min()))
        line.violations += int(violated.sum())
        for term, value in (rhs.terms if isinstance(rhs, Terms) else {}).items():
            part = np.broadcast_to(_precise(value) if allowed is PRECISE else value, left.shape)
            fails = [int((~(left - (right - less) - margin <= 0).astype(bool)).sum()) for less in (part / 2, part)]
            line.decisive[term] = _added(line.decisive.get(term), fails)
        if violated.any() and not line.first_violation:
            index = tuple(int(axis) for axis in np.argwhere(violated)[0])
            sign = ">" if kind == "inequality" else "!="
            line.first_violation = f"{self.label} at {index}: {_shown(left[index])} {sign} {_shown(right[index])}"
        if self.keep_series:
            line.series += [float(f"{r:.6g}") if np.isfinite(r) else None for r in ratio.ravel()]

    def close(self, threshold: float) -> bool:
        """Whether this arithmetic does not decide every line.

        What asks for more digits is a violation, and of an inequality a ratio above `threshold` or no resolved check.
        """
        return any(
            line.violations or line.unresolved or (line.kind == "inequality" and line.largest_ratio > threshold)
            for line in self.lines.values()
        )

    def decided_by(self, precise: "Ledger") -> "Ledger":
        """This ledger with the verdicts of the same instance in a better arithmetic.

        A line without a violation in this arithmetic keeps its counts and its ratios, unless none of its checks is
        resolved: then it is the better one.
        """
        decided = Ledger(self.label, keep_series=self.keep_series)
        for name, line in self.lines.items():
            better = precise.lines.get(name)
            if better is not None and line.unresolved:
                decided.lines[name] = replace(better, series=[])
                continue
            if better is None or not (line.violations or better.violations):
                decided.lines[name] = line
                continue
            verdict = {n: getattr(better, n) for n in ("violations", "first_violation", "largest_ratio")}
            decided.lines[name] = replace(line, smallest_slack=better.smallest_slack, **verdict)
        return decided

    def merge(self, other: "Ledger") -> None:
        """Add the lines of another instance; its series are not taken over."""
        for name, new in other.lines.items():
            line = self.lines.setdefault(name, Line(new.kind, instances=0))
            line.checks += new.checks
            line.resolved += new.resolved
            line.zeros += new.zeros
            line.instances += new.instances
            line.largest_ratio = max(line.largest_ratio, new.largest_ratio)
            line.smallest_ratio = min(line.smallest_ratio, new.smallest_ratio)
            line.smallest_slack = min(line.smallest_slack, new.smallest_slack)
            line.violations += new.violations
            for term, fails in new.decisive.items():
                line.decisive[term] = _added(line.decisive.get(term), fails)
            line.first_violation = line.first_violation or new.first_violation


def _added(old: Sequence[int] | None, new: Sequence[int]) -> tuple[int, int]:
    return (new[0], new[1]) if old is None else (old[0] + new[0], old[1] + new[1])


def _numbers(values: Side) -> np.ndarray:
    """Object arrays as they are, everything else as float64; a number becomes an array of one."""
    if isinstance(values, Terms):
        return values.total()
    array = np.atleast_1d(np.asarray(values))
    # A list of 0-d arrays, which reductions return, is an array of arrays.
    return _bare(array) if array.dtype == object else array.astype(np.float64)


_bare = np.frompyfunc(lambda value: value.item() if isinstance(value, np.ndarray) else value, 1, 1)

_precise = np.frompyfunc(mpmath.mpmathify, 1, 1)  # mpf takes no Fraction


def _shown(value: Any) -> str:
    return str(mpmath.nstr(value, 20)) if isinstance(value, mpmath.mpf) else f"{float(value):.9g}"
