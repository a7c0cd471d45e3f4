"""Checks of arguments: what they let pass, and the whole message of what they do not."""

import pytest

from bcd.checks import require_choice, require_flag, require_number, require_positive, require_whole

NAN, INFINITE = float("nan"), float("inf")

ALLOWED = [
    lambda: require_whole("n", -3),
    lambda: require_whole("n", 1, least=1),
    lambda: require_whole("n", None, least=1, or_none=True),
    lambda: require_number("x", 0, least=0),
    lambda: require_number("x", -1e300),
    lambda: require_number("x", 0.999, least=0, below=1),
    lambda: require_number("x", 1e-9, above=0, below=1),
    lambda: require_number("x", None, or_none=True),
    lambda: require_positive("x", 2),
    lambda: require_positive("x", None, or_none=True),
    lambda: require_flag("f", True),
    lambda: require_flag("f", None, None),
    lambda: require_choice("c", "b", ("a", "b")),
]
REFUSED = [
    (lambda: require_whole("n", True), "n=True is not possible: it must be a whole number"),
    (lambda: require_whole("n", 2.0), "n=2.0 is not possible: it must be a whole number"),
    (lambda: require_whole("n", None), "n=None is not possible: it must be a whole number"),
    (lambda: require_whole("n", 0, least=1), "n=0 is not possible: it must be a whole number, at least 1"),
    (
        lambda: require_whole("n", "3", least=1, or_none=True),
        "n='3' is not possible: it must be a whole number, at least 1, or None",
    ),
    (lambda: require_whole("n", -1, least=0, why="give bytes"), "n=-1 is not possible: give bytes"),
    (lambda: require_number("x", False), "x=False is not possible: it must be a number, finite"),
    (lambda: require_number("x", "1"), "x='1' is not possible: it must be a number, finite"),
    (lambda: require_number("x", -INFINITE), "x=-inf is not possible: it must be a number, finite"),
    (lambda: require_number("x", NAN, least=0), "x=nan is not possible: it must be a number, at least 0 and finite"),
    (
        lambda: require_number("x", INFINITE, least=0),
        "x=inf is not possible: it must be a number, at least 0 and finite",
    ),
    (
        lambda: require_number("x", 1, least=0.5, below=1),
        "x=1 is not possible: it must be a number, at least 0.5 and below 1",
    ),
    (
        lambda: require_number("x", 0, above=0, below=1, or_none=True),
        "x=0 is not possible: it must be a number, above 0 and below 1, or None",
    ),
    (lambda: require_positive("x", 0), "x=0 is not possible: it must be a number, above 0 and finite"),
    (lambda: require_positive("x", None, why="give seconds"), "x=None is not possible: give seconds"),
    (lambda: require_flag("f", 1), "f=1 is not one of True, False"),
    (lambda: require_flag("f", "no", None), "f='no' is not one of True, False, None"),
    (lambda: require_choice("c", "d", ("a", "b")), "c='d' is not one of a, b"),
    (lambda: require_choice("c", ["a"], ("a", "b")), "c=['a'] is not one of a, b"),
]


@pytest.mark.parametrize("check", ALLOWED)
def test_what_is_possible_passes(check):
    check()


@pytest.mark.parametrize(("check", "message"), REFUSED)
def test_what_is_not_is_named(check, message):
    with pytest.raises(ValueError) as refusal:  # noqa: PT011  the whole message is compared
        check()
    assert str(refusal.value) == message
