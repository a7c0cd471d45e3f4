"""Numbers in print, as LaTeX."""

from paper.read.statistics import Estimate

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def thousands(number: int) -> str:
    """12345 -> 12\\,345."""
    return f"{number:,}".replace(",", r"\,")


def scientific(value: float, digits: int = 0) -> str:
    """A number with a power of ten, for mathematics.

    Args:
        value: the number.
        digits: of the mantissa after the point.

    >>> print(scientific(3e-4), scientific(1.23e-9, digits=1))
    3 \\times 10^{-4} 1.2 \\times 10^{-9}
    """
    mantissa, exponent = f"{value:.{digits}e}".split("e")
    return f"{mantissa} \\times 10^{{{int(exponent)}}}"


def percent(share: float | None) -> str:
    """A share in per cent with one digit; a dash where there is none."""
    return "--" if share is None else f"{100 * share:.1f}"


def p_value(p: float | None) -> str:
    """A p value with three digits; a dash where there is none."""
    if p is None:
        return "--"
    return "$<0.001$" if p < 0.001 else f"${p:.3f}$"


def plus_minus(estimate: Estimate) -> str:
    """The mean with half of its interval's length, the mean alone of one run."""
    if estimate.n == 1:
        return f"${estimate.mean:.3f}$"
    return f"${estimate.mean:.3f} \\pm {estimate.high - estimate.mean:.3f}$"


def interval(estimate: Estimate) -> str:
    """The mean of a difference with its 95 % interval."""
    return f"${estimate.mean:+.3f}$ $[{estimate.low:+.3f}, {estimate.high:+.3f}]$"


def camel(name: str) -> str:
    """A part of a macro's name. Digits are spelled, because macro names of TeX hold letters only.

    >>> camel("inner_steps"), camel("badam_blocks5")
    ('InnerSteps', 'BadamBlocksFive')
    """
    spelled = "".join(f" {DIGITS[int(c)]} " if c.isdigit() else c if c.isalpha() else " " for c in name)
    return "".join(word.capitalize() for word in spelled.split())
