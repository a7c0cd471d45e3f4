"""Schemas of rows, and what counts as the same answer."""

import pytest

from experiments.data.answers import boxed, normal, number, same_boxed, same_number
from experiments.data.schemas import GSM8K, MATH, Alpaca, Instruction, Text
from tests.experiments.data.conftest import ROWS


def test_schemas():
    rows = {"instruction": " Add. ", "input": "1, 2", "output": "3\n"}
    assert Alpaca().text(rows) == Text("Add.\n\n1, 2", "3")
    assert Alpaca().text(rows | {"input": ""}) == Text("Add.", "3")
    assert Instruction().text(rows) == Text("Add.", "3")
    assert GSM8K().text(ROWS[9]).answer == "It is 1 + 1 = 2.\n#### 2"
    assert "<<1+1=2>>" in GSM8K(annotations=True).text(ROWS[9]).answer
    assert MATH().text({"problem": "p", "solution": r"so \boxed{1}"}) == Text("p", r"so \boxed{1}")
    assert Alpaca().right(" yes ", "yes")
    assert not Alpaca().right("no", "yes")
    assert Instruction().right("The answer is 12.0", "so it is 12")
    assert not Instruction().right("no", "yes")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("#### 72", 72),
        ("#### 1,234", 1234),
        ("She makes $18.", 18),
        ("so 18.50 dollars", 18.5),
        ("it is .5", 0.5),
        ("minus: -3", -3),
        ("x = 8-3", 3),
        ("8 - 3", 3),
        ("5 apples, then 6 apples", 6),
        ("none", None),
    ],
)
def test_last_numbers(text, value):
    assert number(text) == value


def test_same_number():
    assert same_number("The answer is 1,000.00", "#### 1000")
    assert not same_number("", "#### 5")
    assert not same_number("none", "none")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"\frac12", r"\dfrac{1}{2}"),
        (r"\frac{1}{2}", "1/2"),
        ("0.5", "1/2"),
        (r"-\frac{1}{2}", "-0.5"),
        ("1,000", "1000"),
        (r"x = 5", "5"),
        (r"\left( 1, 2 \right)", "(1,2)"),
        (r"30^\circ", "30"),
        (r"50\%", "50"),
        (r"\$5", "5"),
        (r"\text{(C)}", "(C)"),
        (r"\sqrt2", r"\sqrt{2}"),
        (r"\frac{3}4", r"\frac{3}{4}"),
        ("10.", "10"),
    ],
)
def test_one_normal_form(one, other):
    assert normal(one) == normal(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("(1,234)", "1234"), ("1,2", "12"), (r"\frac{1}{2}", "2"), ("x", "y"), ("1/0", "0"), (r"\sqrt{2}", "2")],
)
def test_different_answers_stay_different(one, other):
    assert normal(one) != normal(other)


def test_boxes():
    assert boxed(r"\boxed{\frac{1}{2}} and \boxed{ {x} }.") == " {x} "
    assert boxed(r"\boxed 5.") == "5"
    assert boxed(r"\fbox{3}") == "3"
    assert boxed("none") is None
    assert boxed(r"\boxed{never ends") is None
    assert same_boxed(r"I get \boxed{0.25}", r"thus \boxed{\frac14}")
    assert not same_boxed("0.25", r"thus \boxed{\frac14}"), "an answer that boxes nothing is wrong"
    assert not same_boxed(r"\boxed{1}", "no box")
