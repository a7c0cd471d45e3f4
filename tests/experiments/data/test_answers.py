"""Schemas of rows, and what counts as the same answer."""

import time

import pytest

from experiments.data import math_verifier
from experiments.data.answers import boxed, normal, number, same_expression, same_number
from experiments.data.schemas import GSM8K, MATH, Alpaca, Instruction, Text
from experiments.evaluate import scoring
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


def test_results_are_compared_boxed_or_not():
    assert same_expression(r"I get \boxed{0.25}", r"thus \boxed{\frac14}")
    assert same_expression("so it is 0.25", r"thus \boxed{\frac14}")
    assert same_expression(r"\boxed{\text{Monday}}", r"\boxed{Monday}")
    assert not same_expression(r"\boxed{0.26}", r"thus \boxed{\frac14}")
    assert not same_expression(r"\boxed{1}", "no box")


RAMBLED = [
    r"\boxed{1e999999999}", r"\boxed{10^{999999999}}", r"\boxed{\binom{10^{9}}{5\cdot 10^8}}", r"\boxed{9^{9^{9^9}}}",
    r"\boxed{" + "9" * 5000 + "}", "9" * 5000, "1e999999999", "-" * 5000, "1," * 5000, r"\boxed{" + "{" * 5000,
    r"\boxed{1/0}", "\ud83d", "\0", "\n" * 100,
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("text", RAMBLED, ids=lambda text: ascii(text[:20]))
def test_every_text_is_scored_in_seconds_and_the_next_one_too(text):
    begin = time.perf_counter()
    for right in (MATH().right, GSM8K().right, Instruction().right):
        assert not right(text, r"so \boxed{7}")
    assert time.perf_counter() - begin < 4 * math_verifier.SECONDS
    assert same_expression("so it is 0.25", r"thus \boxed{\frac14}")


def test_a_comparison_that_takes_too_long_is_ended(monkeypatch):
    monkeypatch.setattr(math_verifier, "SECONDS", 0.2)
    verify = math_verifier.Verifier()
    assert not verify("$7$", r"$\boxed{9^{9^{9^{9}}}}$")
    monkeypatch.setattr(math_verifier, "SECONDS", 30.0)
    assert verify("$x + 1$", "$1 + x$")
    verify.end()


@pytest.mark.parametrize(
    ("text", "truth", "right"),
    [
        ("The temperature is \N{MINUS SIGN}5 degrees.", "-5", True),
        ("The temperature is \N{MINUS SIGN}5 degrees.", "5", False),
        ("It is \N{EN DASH}5.", "-5", True),
        ("pages 3\N{EN DASH}5", "5", True),
        ("The change is -.5", "-0.5", True),
        ("The change is -$5", "-5", True),
        ("She pays $1,250.50.", "1250.5", True),
        ("8 - 3 = 5", "5", True),
        ("It is 8-3", "3", True),
        ("**42**", "42", True),
        ("Answer: 42.", "42", True),
        ("the pair 1,2", "12", False),
        ("1.5e3 grams", "1500", True),
        ("\u0664\u0662", "42", True),  # Arabic digits
        ("\u0661\u066b\u0665", "1.5", True),  # with the Arabic decimal separator
        ("9" * 400, "9" * 400, False),
    ],
)
def test_the_scores_of_training_and_of_evaluation_agree(text, truth, right):
    assert same_number(text, truth) is right
    if len(truth) < 300:
        assert scoring.last_number(text, truth) == {"exact_match": int(right)}
