"""The ledger counts, finds violations and does not report rounding as a ratio."""

import numpy as np
import pytest

from theory.ledger import TOLERANCE, Ledger


def test_a_violation_is_found_and_located() -> None:
    ledger = Ledger("run 7")
    lhs = np.ones((3, 4))
    ledger.check("line", lhs, 2.0, scale=1.0)
    assert ledger.violations == 0
    lhs[1, 2] = 2.0 + 1e-9
    ledger.check("line", lhs, 2.0, scale=1.0)
    line = ledger.lines["line"]
    assert (line.checks, line.violations) == (24, 1)
    assert line.first_violation.startswith("run 7 at (1, 2): ")
    assert line.largest_ratio == pytest.approx(1 + 5e-10, rel=1e-12)
    assert line.smallest_slack == pytest.approx(-1e-9, rel=1e-6)


def test_tolerance_is_relative_to_the_scale() -> None:
    ledger = Ledger()
    ledger.check("within", 1.0 + TOLERANCE / 2, 1.0, scale=1.0)
    ledger.check("beyond", 1.0 + TOLERANCE * 2, 1.0, scale=1.0)
    assert [line.violations for line in ledger.lines.values()] == [0, 1]


def test_nan_and_positive_over_nonpositive_are_violations() -> None:
    ledger = Ledger()
    ledger.check("nan", [np.nan, 1.0, 0.0], [1.0, np.nan, 1.0], scale=1.0)
    ledger.check("sign", 1.0, -1.0, scale=1.0)
    assert ledger.lines["nan"].violations == 2
    assert ledger.lines["sign"].violations == 1
    assert ledger.lines["sign"].summary()["largest_ratio"] is None


def test_ratios_of_rounding_are_not_reported() -> None:
    ledger = Ledger(keep_series=True)
    ledger.check("line", [0.0, 3e-13, 0.5], [0.0, 1e-13, 1.0], scale=1.0)
    line = ledger.lines["line"]
    assert (line.checks, line.resolved, line.violations) == (3, 1, 0)
    assert line.series == [None, None, 0.5]
    assert line.largest_ratio == 0.5


def test_merge_adds_up() -> None:
    total = Ledger()
    for value in (0.25, 0.75, 2.0):
        part = Ledger(f"instance {value}")
        part.check("line", [value, 0.1], 1.0, scale=1.0)
        total.merge(part)
    line = total.lines["line"]
    assert (line.checks, line.instances, line.violations, line.largest_ratio) == (6, 3, 1, 2.0)
    assert line.first_violation.startswith("instance 2.0")
