"""Whether a generated answer is right: final numbers and boxed expressions, compared in one normal form."""

import re
from fractions import Fraction

NUMBER = re.compile(r"(?<![\d.])(?:(?<![\w)])-)?\d[\d,]*(?:\.\d+)?|(?<!\d)\.\d+")


def number(text: str) -> Fraction | None:
    """The last number of a text, thousands separators left out; None when there is none.

    A minus sign counts only where nothing stands before it that it could be subtracted from.

    >>> number("She pays $1,250.50."), number("8 - 3 = 5"), number("It is -2"), number("none")
    (Fraction(2501, 2), Fraction(5, 1), Fraction(-2, 1), None)
    """
    numbers = NUMBER.findall(text)
    return Fraction(numbers[-1].replace(",", "")) if numbers else None


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
    try:
        return str(Fraction(plain))
    except (ValueError, ZeroDivisionError):
        return text


def same_number(answer: str, truth: str) -> bool:
    """Whether the last numbers of both texts are equal."""
    return number(truth) is not None and number(answer) == number(truth)


def same_boxed(answer: str, truth: str) -> bool:
    """Whether the boxed expressions of both texts have one normal form."""
    expression, wanted = boxed(answer), boxed(truth)
    return expression is not None and wanted is not None and normal(expression) == normal(wanted)
