"""Scores of generated answers."""

import pytest

from experiments.evaluate import scoring


@pytest.mark.parametrize(
    ("text", "gold", "right"),
    [
        ("So 3 + 4 = 7.", "7", 1),
        ("7 apples, no, 8", "7", 0),
        ("It costs $1,234.50", "1234.5", 1),
        ("minus: -3", "3", 0),
        ("minus: −3", "-3", 1),
        ("5-3 is 2", "2", 1),
        ("7.", 7.0, 1),
        ("", "7", 0),
        ("seven", "7", 0),
        ("1,2", "12", 0),
        (".5", "0.5", 1),
    ],
)
def test_the_last_number_counts(text, gold, right):
    assert scoring.last_number(text, gold) == {"exact_match": right}


@pytest.mark.parametrize(
    ("solution", "text", "right"),
    [
        (r"$\boxed{\frac{1}{2}}$", r"so \boxed{0.5}", 1),
        (r"$\boxed{\frac{1}{2}}$", r"first \boxed{3}, then \boxed{\dfrac12}", 1),
        (r"$\boxed{x^2+2x+1}$", r"$\boxed{(x+1)^2}$", 1),
        (r"$\boxed{(3,4)}$", r"$\boxed{(4,3)}$", 0),
        (r"$\boxed{12}$", "The answer is 12", 1),
        (r"$\boxed{12}$", r"\boxed{", 0),
        (r"$\boxed{12}$", "", 0),
    ],
)
def test_math_is_compared_by_math_verify(solution, text, right):
    assert scoring.mathematics({"solution": solution}, [text]) == {"exact_match": right}
