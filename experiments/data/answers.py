"""Whether a generated answer is right: final numbers and boxed expressions, compared in one normal form."""

import re
from fractions import Fraction

from experiments.data import math_verifier

MINUS = "-\N{MINUS SIGN}\N{EN DASH}\N{FULLWIDTH HYPHEN-MINUS}"
NUMBER = re.compile(
    rf"""(?<![\d.])                                   # where a number begins
    (?P<minus>(?<![\w)])[{MINUS}][$\u20ac\u00a3]?)?     # a sign; subtracted from nothing before it
    (?P<digits>(?:\d{{1,3}}(?:,\d{{3}})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)
    (?P<exponent>[eE][+-]?\d{{1,3}}(?![\w.]))?""",
    re.VERBOSE,
)
PLAIN = re.compile(r"-?\d{1,300}(\.\d{1,300})?([eE][+-]?\d{1,3}|/\d{1,300})?")
"""A number that is turned into a fraction at once: what a model rambles may have as many digits as it likes."""
ARABIC = str.maketrans("\N{ARABIC DECIMAL SEPARATOR}\N{ARABIC THOUSANDS SEPARATOR}", ".,")


def numbers(text: str) -> list[Fraction | None]:
    """The numbers of a text in order, thousands separators left out; None for one of more than 300 digits.

    A minus sign counts only where nothing stands before it that it could be subtracted from.

    >>> numbers("She pays $1,250.50, which is 8 - 3 more"), numbers("It fell by 2 to \N{MINUS SIGN}.5")
    ([Fraction(2501, 2), Fraction(8, 1), Fraction(3, 1)], [Fraction(2, 1), Fraction(-1, 2)])
    """
    return [
        _fraction(("-" if match["minus"] else "") + match["digits"].replace(",", "") + (match["exponent"] or ""))
        for match in NUMBER.finditer(text.translate(ARABIC))
    ]


def number(text: str) -> Fraction | None:
    """The last number of a text; None when there is none, or one of more than 300 digits.

    >>> number("8 - 3 = 5"), number("It is -2"), number("none")
    (Fraction(5, 1), Fraction(-2, 1), None)
    """
    return next(reversed(numbers(text)), None)


def _fraction(text: str) -> Fraction | None:
    """The fraction that a text writes, at once; None when it writes none, has too many digits or divides by zero."""
    text = re.sub(r"^(-?)\.", r"\g<1>0.", text)
    try:
        return Fraction(text) if PLAIN.fullmatch(text) else None
    except ZeroDivisionError:
        return None


def boxed(text: str) -> str | None:
    r"""What the last ``\boxed{...}`` (or ``\fbox{...}``, ``\boxed x``) holds; None when there is none.

    >>> boxed(r"so \boxed{1} or rather \boxed{\frac{1}{2}}")
    '\\frac{1}{2}'
    """
    starts = list(re.finditer(r"\\f?boxed\s*|\\fbox\s*", text))
    if not starts:
        return None
    rest = text[starts[-1].end() :]
    if not rest.startswith("{"):
        return re.match(r"[^\s$.,]*", rest).group() or None  # pyright: ignore[reportOptionalMemberAccess]
    depth = 0
    for i, character in enumerate(rest):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return rest[1:i]
    return None


WRITTEN_AWAY = ("\\left", "\\right", "\\!", "\\,", "\\;", "\\:", "\\ ", "\\$", "$", "\\%", "%", "^\\circ", "^{\\circ}")


def normal(expression: str) -> str:
    r"""One spelling of a final answer in LaTeX: what only concerns its looks, units of degree, percent and dollar, a
    variable before "=", and braces that may be left out are made alike; plain numbers become reduced fractions.

    >>> normal(r"x = \dfrac12"), normal("0.50"), normal(r"1,\!000"), normal(r"\text{Monday}")
    ('1/2', '1/2', '1000', 'Monday')
    """
    text = expression.strip().rstrip(".")
    for mark in WRITTEN_AWAY:
        text = text.replace(mark, "")
    text = re.sub(r"\\[dt]frac", r"\\frac", text)
    text = re.sub(r"\\(?:text|mbox|textbf|mathrm|textrm)\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"\s+", "", text)
    text = re.sub(r"^[A-Za-z]=(?=.)", "", text)
    text = re.sub(r"\\frac(\d)(\d)", r"\\frac{\1}{\2}", text)
    text = re.sub(r"\\frac(\d)\{", r"\\frac{\1}{", text)
    text = re.sub(r"(\\frac\{[^{}]*\})(\d)", r"\1{\2}", text)
    text = re.sub(r"\\sqrt(\w)", r"\\sqrt{\1}", text)
    text = re.sub(r"^(-?)\\frac\{(-?\d+)\}\{(\d+)\}$", r"\1\2/\3", text)
    plain = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text) if re.fullmatch(r"-?\d{1,3}(,\d{3})+(\.\d+)?", text) else text
    value = _fraction(plain)
    return text if value is None else str(value)


def same_number(answer: str, truth: str) -> bool:
    """Whether the last numbers of both texts are equal."""
    return number(truth) is not None and number(answer) == number(truth)


def same_expression(answer: str, truth: str) -> bool:
    r"""Whether two solutions end with one result: the last ``\boxed{...}`` of each, or the last expression if none.

    Results in one normal form are the same; of others the library math-verify decides, which gives up after seconds.
    """
    expression, wanted = boxed(answer), boxed(truth)
    if answer == truth:
        return True
    if expression is not None and wanted is not None and normal(expression) == normal(wanted):
        return True
    texts = (text if box is None else rf"$\boxed{{{box}}}$" for text, box in ((truth, wanted), (answer, expression)))
    return math_verifier.equal(*texts)
