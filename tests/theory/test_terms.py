"""Right sides that are sums: for each term an instance that needs it, or the word that none is known.

A line that holds with half of a term, and without it, on every instance does not test that term: a wrong factor there
would be seen by nothing.
"""

from typing import Any

import numpy as np
import pytest

from tests.cover import tiered
from tests.theory.test_bounds import PROBLEMS, Sweeps
from theory.adversary.targets import TARGETS
from theory.bounds.c4 import C4, two_samples
from theory.ledger import Ledger, Terms
from theory.measure import Part, cases, climb, instantiate
from theory.problems.finite_sum import FiniteSum

PROBES = 24
"""Random instances of every target of the adversary, beside the sweep."""

WITHOUT = ("a2", "a3", "a5", "a6_quadratic", "badam_d4_printed", "badam_d5_printed", "c_long", "d3")
"""Bounds of whose lines no right side is a sum."""

SUMS = [name for name in PROBLEMS if name not in WITHOUT]

HALF: dict[str, set[tuple[str, str]]] = {
    "a4": {("A4.5", "potential")},
    "b1": {("B1.12", "error")},
    "b1_plus": {("B1.12", "error")},
    "b2": {("B2.2", "error"), ("B2.5", "between")},
    "b3": {("B1.12", "error"), ("B1.8", "drift")},
    "badam_d4_repaired": {("B1.8", "drift")},
    "c1": {("bound", "noise"), ("tuned", "slow")},
    "d1": {("epoch", "decrease"), ("step", "curvature"), ("step", "decrease"), ("step", "noise"), ("young", "noise")},
    "d2": {("last", "descent"), ("last", "last"), ("step", "decrease"), ("step", "last")},
    "e": {("B1.12", "error")},
}
"""Bound -> line and term: half of it is enough on all of these instances, but it is needed."""

NOT_AT_ALL: dict[str, set[tuple[str, str]]] = {
    "b1_corollary": {("B1.12", "error")},
    "b2": {("B2.5", "inside"), ("bound", "between"), ("bound", "eps"), ("bound", "inside")},
    "badam_d4_repaired": {("B1.12", "error")},
    "c2": {("gradient", "noise")},
    "c4": {("square", "cross")},
    "d1": {
        ("epoch", "cross"),
        ("epoch", "curvature"),
        ("epoch", "error"),
        ("epoch", "noise"),
        ("step", "cross"),
        ("step", "error"),
        ("young", "error"),
    },
    "d2": {
        ("bound", "gap"),
        ("bound", "last"),
        ("bound", "step"),
        ("epoch", "decrease"),
        ("epoch", "last"),
        ("epoch", "step"),
        ("step", "step"),
        ("visit", "decrease"),
        ("visit", "last"),
        ("visit", "step"),
    },
}
"""Bound -> line and term that none of these instances needs: not tested."""


def runs(name: str, sweeps: Sweeps) -> Any:
    """Bound, problem and setting of every instance."""
    for problem in PROBLEMS[name]:
        job = sweeps[name, problem]
        bound = instantiate(job.config)[0]
        for instance, setting in cases(job.config):
            yield bound, instance, setting
    if name == "c4":  # from the minimum all that a step has is its noise
        plain = two_samples()
        start = np.linalg.solve(plain.matrix, plain.linear)
        still = FiniteSum.from_parts(plain.matrices, plain.linears, sizes=[1, 1], start=start)
        yield C4(), still, {"gamma": 1.0, "inner_steps": 1, "order": "cyclic"}
    for target in (target for target in TARGETS if type(target.bound) is type(bound)):
        upper = np.array([axis.upper for axis in target.axes])
        for coordinates in np.random.default_rng(0).uniform(size=(PROBES, len(upper))) * upper:
            yield (target.bound, *target.instance(coordinates))


def decisive(name: str, sweeps: Sweeps) -> Ledger:
    """All lines over all instances; a violation is decided in 60 digits."""
    total = Ledger()
    for bound, problem, setting in runs(name, sweeps):
        outcome = bound.evaluate(problem, **setting)
        ledger = outcome.ledger
        if ledger.violations and not bound.refuted:
            inside = {key: value for key, value in setting.items() if key != "epochs"}
            ledger = climb(bound, problem, inside, "", outcome, Part())
            assert not ledger.violations, [line.first_violation for line in ledger.lines.values()]
        total.merge(ledger)
    return total


@pytest.mark.integration
@pytest.mark.parametrize("name", tiered(SUMS, [name for name in SUMS if name not in ("a1", "c4")]))
def test_every_term_is_needed_somewhere_or_is_said_to_be_untested(name: str, sweeps: Sweeps) -> None:
    lines = decisive(name, sweeps).lines
    counts = {(line, term): fails for line, found in lines.items() for term, fails in found.decisive.items()}
    assert {key for key, (half, whole) in counts.items() if whole and not half} == HALF.get(name, set())
    assert {key for key, (_, whole) in counts.items() if not whole} == NOT_AT_ALL.get(name, set())


@pytest.mark.parametrize("factor", [0.0, 0.5])
def test_a_term_that_is_too_small_is_refuted(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the drift in line B1.8, or none, is a violation on an instance that needs the term."""
    (target,) = [target for target in TARGETS if target.name == "b1_plus"]
    upper = np.array([axis.upper for axis in target.axes])
    points = np.random.default_rng(0).uniform(size=(PROBES, len(upper))) * upper

    def violations() -> int:
        ledgers = [bound.evaluate(problem, **setting).ledger for bound, problem, setting in instances]
        return sum(ledger.lines["B1.8"].violations for ledger in ledgers)

    instances = [(target.bound, *target.instance(point)) for point in points]
    assert not violations()
    true = Terms.__init__

    def changed(self: Terms, **terms: Any) -> None:
        true(self, **{name: factor * term if name == "drift" else term for name, term in terms.items()})

    monkeypatch.setattr(Terms, "__init__", changed)
    assert violations()
