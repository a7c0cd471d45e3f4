"""The ledger counts, finds violations and does not report rounding as a ratio."""

from fractions import Fraction

import mpmath
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


def test_underflow_is_no_violation_and_small_violations_are_found() -> None:
    ledger = Ledger(keep_series=True)
    slope = 1.3e-157  # its square has ten digits left
    left, right = slope * slope / 1e-5, slope / 1e-5 * slope
    assert left > right * (1 + TOLERANCE)
    ledger.check("underflow", left, right, scale=right)
    ledger.check("denormal", 5e-324, 0.0, scale=0.0)
    ledger.check("small", 2e-300, 1e-300, scale=1e-300)
    ledger.equal("identity", 1e-300, 2e-300, scale=1e-300)
    assert [line.violations for line in ledger.lines.values()] == [0, 0, 1, 1]
    assert ledger.lines["denormal"].resolved == ledger.lines["underflow"].resolved == 0
    assert ledger.lines["small"].largest_ratio == 2.0
    with mpmath.workdps(60):
        ledger.check("mp", mpmath.mpf("5e-324"), mpmath.mpf(0), scale=0.0)
    ledger.check("exact", Fraction(5, 10**324), Fraction(0), scale=0.0)
    assert ledger.lines["mp"].violations == ledger.lines["exact"].violations == 1


@pytest.mark.parametrize("number", [mpmath.mpf, Fraction, float])
def test_numbers_and_arrays_without_axes_are_accepted(number: type) -> None:
    ledger = Ledger()
    for value in (number(2), np.array(number(2)), np.array(number(2), dtype=object), [np.array(number(2))]):
        for other in (number(1), np.array(number(1), dtype=object), [np.array(number(1), dtype=object)]):
            ledger.check("rises", other, value, scale=1.0)
            ledger.check("falls", value, other, scale=1.0)
            ledger.equal("differs", [value], [other], scale=value)
    verdicts = {name: (line.checks, line.violations, line.largest_ratio) for name, line in ledger.lines.items()}
    assert verdicts == {"rises": (12, 0, 0.5), "falls": (12, 12, 2.0), "differs": (12, 12, 2.0)}


def test_roots_of_fractions_compare_with_fractions() -> None:
    ledger = Ledger("exact")
    with mpmath.workdps(60):
        root = np.array([mpmath.sqrt(mpmath.mpf(2))])
        ledger.check("below", np.array([Fraction(7, 5)]), root, scale=1.0)
        ledger.check("above", np.array([Fraction(3, 2)]), root, scale=1.0)
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


def test_a_line_without_a_check_above_rounding_is_unresolved() -> None:
    ledger = Ledger()
    ledger.check("below", 1e-20, 2e-20, scale=1.0)
    ledger.check("above", [1e-20, 0.5], [2e-20, 1.0], scale=1.0)
    ledger.check("nothing", [0.0, 0.0], [0.0, 0.0], scale=1.0)
    ledger.check("nearly", [0.0, 1e-20], [0.0, 0.0], scale=1.0)
    ledger.check("by its constants", [1e-20, 0.5], [0.0, 1.0], scale=1.0, zero=[True, False])
    ledger.check("absorbed", [1e-20, 1e-20], [0.0, 1e-18], scale=1.0, zero=[True, True])
    ledger.equal("identity", 1e-20, 1e-20, scale=1.0)
    assert [name for name, line in ledger.lines.items() if line.unresolved] == ["below", "nearly", "absorbed"]
    assert (ledger.lines["nothing"].zeros, ledger.lines["nearly"].zeros) == (2, 1)
    assert ledger.close(1 - 1e-6), "it asks for more digits"
    total = Ledger()
    for value in (1e-20, 1.0):
        part = Ledger()
        part.check("line", value / 2, value, scale=1.0)
        total.merge(part)
        assert total.lines["line"].unresolved == (value < 1)


def test_more_digits_resolve_what_rounding_hides() -> None:
    screen, precise = Ledger(), Ledger()
    screen.check("hidden", [1e-20, 1e-20], [2e-20, 2e-20], scale=1.0)
    screen.check("seen", [0.5, 0.5], [1.0, 1.0], scale=1.0)
    with mpmath.workdps(60):
        precise.check("hidden", mpmath.mpf("1e-20"), mpmath.mpf("2e-20"), scale=1.0)
        precise.check("seen", mpmath.mpf("0.5"), mpmath.mpf(1), scale=1.0)
    decided = screen.decided_by(precise).lines
    assert (decided["hidden"].checks, decided["hidden"].resolved) == (1, 1)
    assert decided["hidden"].largest_ratio == 0.5
    assert (decided["seen"].checks, decided["seen"].resolved) == (2, 2)


def test_nothing_tells_a_number_from_itself() -> None:
    ledger = Ledger()
    values = np.random.default_rng(0).uniform(1, 2, size=50)
    ledger.check("same", values, values, scale=1.0)
    ledger.check("share", values / 3, values, scale=1.0)
    ledger.check("true", values, values**2, scale=1.0)
    ledger.check("one", 1.0, 2.0, scale=1.0)
    ledger.check("zero", 0 * values, values, scale=1.0)
    ledger.equal("itself", values, values, scale=1.0)
    ledger.equal("another way", values * 3 / 7, values / 7 * 3, scale=1.0)
    assert [name for name, line in ledger.lines.items() if line.indistinct] == ["same", "share", "itself"]
    other = Ledger()
    other.check("share", values / 2, values, scale=1.0)
    ledger.merge(other)
    assert not ledger.lines["share"].indistinct


def test_merge_adds_up() -> None:
    total = Ledger()
    for value in (0.25, 0.75, 2.0):
        part = Ledger(f"instance {value}")
        part.check("line", [value, 0.1], 1.0, scale=1.0)
        total.merge(part)
    line = total.lines["line"]
    assert (line.checks, line.instances, line.violations, line.largest_ratio) == (6, 3, 1, 2.0)
    assert line.first_violation.startswith("instance 2.0")


def test_multi_precision_sides_are_not_rounded_to_float64() -> None:
    with mpmath.workdps(60):
        one = np.array([mpmath.mpf(1)])
        more = one + mpmath.mpf("1e-40")
        ledger = Ledger()
        ledger.check("beyond", more, one, scale=1.0)
        ledger.check("within", one + mpmath.mpf("1e-46"), one, scale=1.0)
        ledger.check("mixed", one, 1.0, scale=1.0)
    assert [line.violations for line in ledger.lines.values()] == [1, 0, 0]
    assert isinstance(ledger.lines["beyond"].largest_ratio, float)


def test_fractions_have_no_tolerance() -> None:
    ledger = Ledger("exact")
    third = np.array([Fraction(1, 3)])
    ledger.check("same", third, third, scale=1.0)
    ledger.check("more", third + Fraction(1, 10**80), third, scale=1.0)
    ledger.equal("less", third - Fraction(1, 10**80), third, scale=1.0)
    assert [line.violations for line in ledger.lines.values()] == [0, 1, 1]
    assert ledger.lines["more"].first_violation.startswith("exact at (0,)")


def test_identities_are_checked_in_both_directions() -> None:
    ledger = Ledger()
    ledger.equal("line", [1.0, 2.0, 3.0], [1.0, 2.0 + 1e-9, 3.0 - 1e-9], scale=1.0)
    line = ledger.lines["line"]
    assert (line.kind, line.checks, line.violations) == ("identity", 3, 2)
    assert line.smallest_slack == pytest.approx(-1e-9, rel=1e-6)


def test_a_ratio_near_one_asks_for_more_digits_but_not_in_an_identity() -> None:
    ledger = Ledger()
    ledger.equal("same", 1.0, 1.0, scale=1.0)
    ledger.check("far", 0.5, 1.0, scale=1.0)
    assert not ledger.lines["far"].unresolved
    assert not ledger.close(1 - 1e-6)
    ledger.check("near", 1 - 1e-8, 1.0, scale=1.0)
    assert ledger.close(1 - 1e-6)


def test_better_digits_decide() -> None:
    screen, precise = Ledger(), Ledger()
    screen.check("noise", 1.1, 1.0, scale=1.0)
    screen.check("fine", 0.5, 1.0, scale=1.0)
    screen.check("missing", 2.0, 1.0, scale=1.0)
    precise.check("noise", 0.9, 1.0, scale=1.0)
    precise.check("fine", 2.0, 1.0, scale=1.0)
    decided = screen.decided_by(precise).lines
    assert {name: line.violations for name, line in decided.items()} == {"noise": 0, "fine": 1, "missing": 1}
    assert decided["noise"].largest_ratio == 0.9
