"""Equations between formulas with symbols, and a routine that proves them or does not.

A difference of two sides is brought to one fraction whose numerator is expanded. It must vanish as a polynomial in its
symbols, where every b^k with a symbolic exponent k is one more, independent symbol. That proves the equation for all
values of the symbols for which no denominator vanishes; what is not proved counts as false. Sums with a symbolic
number of terms are proved by induction (`total`), inequalities by a slack that is nonnegative because its symbols are.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import sympy
from sympy import Add, Pow, Symbol

Formula: TypeAlias = Any
"""A formula or a matrix of sympy, whose own annotations are too wide for a type checker."""


@dataclass(frozen=True)
class Equation:
    """left = right; with a slack left + slack = right, hence left <= right.

    Attributes:
        slack: must be nonnegative by the assumptions on its symbols.
        where: symbol -> the expression that it stands for, which has its sign under the hypotheses of the theorem.
        roots: symbol -> its square.
    """

    left: Formula
    right: Formula
    slack: Formula = sympy.S.Zero
    where: Mapping[Symbol, Any] = field(default_factory=dict)
    roots: Mapping[Symbol, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Identity:
    """What a proof uses: equations that together are the statement.

    Attributes:
        theorem: module of theory.bounds.
        name: of the function that builds it.
        statement: docstring of that function.
    """

    theorem: str
    name: str
    statement: str
    build: Callable[[], list[Equation]]


def identity(theorem: str) -> Callable[[Callable[[], list[Equation]]], Identity]:
    """Decorator: a function that returns equations, with the statement as its docstring, becomes an `Identity`."""

    def decorate(build: Callable[[], list[Equation]]) -> Identity:
        return Identity(theorem, build.__name__, " ".join((build.__doc__ or "").split()), build)

    return decorate


def proved(equation: Equation) -> bool:
    """Whether the equation is proved.

    >>> x, y = sympy.symbols("x y", positive=True)
    >>> proved(Equation((x + y) ** 2, x**2 + 2 * x * y + y**2)), proved(Equation((x + y) ** 2, x**2 + y**2))
    (True, False)
    >>> proved(Equation(2 * x * y, x**2 + y**2, slack=(x - y) ** 2))
    True
    """
    if not sympy.sympify(equation.slack).is_nonnegative:
        return False
    difference: Formula = sympy.sympify(equation.right - equation.left - equation.slack)
    difference = difference.subs(dict(equation.where))
    if difference.has(sympy.nan, sympy.zoo, sympy.oo):
        return False
    numerator = sympy.expand(sympy.fraction(sympy.together(_independent(difference)))[0])
    for root, square in equation.roots.items():
        numerator = sympy.rem(numerator, root**2 - square, root)
    return sympy.expand(numerator) == 0


def _independent(expression: Formula) -> Formula:
    """b^(k + 2) -> (a symbol for b^k) b^2."""
    names: dict[tuple[Formula, Formula], Formula] = {}

    def split(power: Pow) -> Formula:
        product: Formula = sympy.S.One
        for term in Add.make_args(sympy.expand(power.exp)):
            number, symbol = term.as_coeff_Mul()
            base = power.base if symbol == 1 else names.setdefault((power.base, symbol), sympy.Dummy())
            product *= base**number
        return product

    return expression.replace(lambda part: isinstance(part, Pow) and bool(part.exp.free_symbols), split)


def total(term: Formula, closed: Formula, index: Symbol) -> list[Equation]:
    """sum of `term` over 1, ..., index is `closed`, by induction: true for no terms, and the increments agree."""
    return [Equation(closed.subs(index, 0), sympy.S.Zero), Equation(closed - closed.subs(index, index - 1), term)]


def entries(left: Formula, right: Formula, **rest: Any) -> list[Equation]:
    """One equation an entry of two matrices."""
    return [Equation(x, y, **rest) for x, y in zip(left, right, strict=True)]


def mutations(equation: Equation) -> Iterator[Equation]:
    """The equation with the right side doubled, and with each number in the right side or the slack raised by one."""
    if equation.right != 0:
        yield Equation(equation.left, 2 * equation.right, equation.slack, equation.where, equation.roots)
    for right in _raised(sympy.sympify(equation.right)):
        yield Equation(equation.left, right, equation.slack, equation.where, equation.roots)
    if equation.slack != 0:
        for slack in _raised(equation.slack):
            yield Equation(equation.left, equation.right, slack, equation.where, equation.roots)


def _raised(expression: Formula) -> Iterator[Formula]:
    if expression.is_Number:
        yield expression + 1
    for place, part in enumerate(expression.args):
        for changed in _raised(part):
            yield expression.func(*expression.args[:place], changed, *expression.args[place + 1 :])
