"""Means over seeds, differences paired by seed, equivalence, and the smallest difference that could have been found.

n paired differences d_i with mean D and standard deviation s: the interval is D ± t_{n-1, 1-alpha/2} s/sqrt(n), the
test is Student's t with n - 1 degrees of freedom. Two one-sided tests (Schuirmann 1987) show |D| < margin: both
D < margin and D > -margin at level alpha.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from scipy import optimize, special, stats

ALPHA = 0.05
POWER = 0.8


@dataclass(frozen=True)
class Estimate:
    """A mean of n values with its 95 % interval, infinite where n = 1."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Difference(Estimate):
    """A mean of n paired differences, at least two, with its standard error."""

    error: float

    def below(self, bound: float = 0.0) -> float:
        """p of the one-sided test that shows a mean difference below `bound`."""
        if not self.error:
            return float(self.mean >= bound)
        return float(stats.t.cdf((self.mean - bound) / self.error, self.n - 1))

    def above(self, bound: float = 0.0) -> float:
        """p of the one-sided test that shows a mean difference above `bound`."""
        if not self.error:
            return float(self.mean <= bound)
        return float(stats.t.sf((self.mean - bound) / self.error, self.n - 1))

    @property
    def p(self) -> float:
        """p of the two-sided test of no difference."""
        return min(1.0, 2 * min(self.below(), self.above()))

    def within(self, margin: float) -> float:
        """p of the two one-sided tests that show an absolute mean difference below `margin`."""
        return max(self.below(margin), self.above(-margin))

    def smallest_detectable(self, alpha: float = ALPHA) -> float:
        """The mean difference that the two-sided test at `alpha` finds with probability `POWER`, at this spread."""
        return self.error * _detectable(self.n - 1, alpha)


@cache
def _detectable(freedom: int, alpha: float) -> float:
    """The mean in standard errors at which the two-sided t test has `POWER`.

    With s the estimated over the true standard deviation, sqrt(chi^2/freedom), and c the critical value, the power at
    a mean of delta is E[Phi(delta - c s) + Phi(-delta - c s)]; scipy's noncentral t is not a number at some of these.
    """
    critical = float(stats.t.ppf(1 - alpha / 2, freedom))
    s = (np.arange(20_000) + 0.5) / 20_000 * (1 + 8 / math.sqrt(freedom))
    density = stats.chi.pdf(s * math.sqrt(freedom), freedom)
    weights = density / density.sum()

    def lacking(delta: float) -> float:
        return POWER - float(weights @ (special.ndtr(delta - critical * s) + special.ndtr(-delta - critical * s)))

    return float(np.asarray(optimize.brentq(lacking, 0.0, 3 * critical + 3)))


def mean(values: Sequence[float]) -> Estimate:
    """The mean of the values with its t interval.

    Raises:
        ValueError: when there is none.
    """
    if not values:
        raise ValueError("values=[] is not possible: a mean needs one value at least")
    average, n = float(np.mean(values)), len(values)
    half = float(stats.t.ppf(1 - ALPHA / 2, n - 1)) * _error(values) if n > 1 else math.inf
    return Estimate(average, average - half, average + half, n)


def contrast(weights: Mapping[str, float], cells: Mapping[str, Mapping[int, float]]) -> Difference | None:
    """The mean over seeds of sum_c weights[c] cells[c][seed]; weights that sum to 0 make it a paired difference.

    None when a cell is missing or fewer than two seeds have a value in all cells.

    Args:
        cells: cell -> seed -> value.

    >>> contrast({"a": 1, "b": -1}, {"a": {0: 3.0, 1: 5.0, 7: 9.0}, "b": {0: 1.0, 1: 1.0}}).mean
    3.0
    """
    if not weights.keys() <= cells.keys():
        return None
    seeds = sorted(set.intersection(*(set(cells[cell]) for cell in weights)))
    if len(seeds) < 2:
        return None
    values = [sum(weight * cells[cell][seed] for cell, weight in weights.items()) for seed in seeds]
    estimate = mean(values)
    return Difference(estimate.mean, estimate.low, estimate.high, estimate.n, _error(values))


def additive(cells: Mapping[Any, Mapping[int, float]]) -> Callable[[Any, Any], Difference]:
    """The difference of any two cells under value = cell + seed + noise, whose variance all cells share.

    The fit is by least squares over all values, so that cells with few seeds borrow the spread of the others: with R
    the residuals, N values, C cells and S seeds, s^2 = |R|^2/(N - C - S + 1), and the error of a difference is s times
    the root of c'(X'X)^+ c.

    Args:
        cells: cell -> seed -> value.

    Raises:
        ValueError: when no value is left to estimate the noise from.

    >>> d = additive({"a": {0: 1.0, 1: 2.1}, "b": {0: 3.0, 1: 4.0}})("b", "a")
    >>> round(d.mean, 6), d.n
    (1.95, 2)
    """
    names, seeds = list(cells), sorted({seed for values in cells.values() for seed in values})
    values = [(names.index(name), seeds.index(seed), y) for name in names for seed, y in cells[name].items()]
    freedom = len(values) - len(names) - len(seeds) + 1
    if freedom < 1:
        raise ValueError(f"{len(values)} values of {len(names)} cells and {len(seeds)} seeds leave none for the noise")
    design = np.zeros((len(values), len(names) + len(seeds)))
    for row, (cell, seed, _) in enumerate(values):
        design[row, cell] = design[row, len(names) + seed] = 1.0
    y = np.array([value for *_, value in values])
    inverse = np.linalg.pinv(design.T @ design)
    fitted = inverse @ design.T @ y
    spread = math.sqrt(float(np.sum((y - design @ fitted) ** 2)) / freedom)
    quantile = float(stats.t.ppf(1 - ALPHA / 2, freedom))

    def difference(ours: Any, theirs: Any) -> Difference:
        weights = np.zeros(design.shape[1])
        weights[names.index(ours)] += 1.0
        weights[names.index(theirs)] -= 1.0
        estimate, error = float(weights @ fitted), spread * math.sqrt(float(weights @ inverse @ weights))
        return Difference(estimate, estimate - quantile * error, estimate + quantile * error, freedom + 1, error)

    return difference


def crossed(differences: Sequence[Sequence[float]]) -> Difference:
    """The mean of d[seed][item] with an error for both other seeds and other items, each of which meets each.

    With S seeds, I items, and the mean squares of the two-way table without repetition, MS_s of seeds, MS_i of items
    and MS_e of what is left, the variance of the mean is (MS_s + MS_i - MS_e)/(S I), taken as at least the largest
    single one of the three over S I; the degrees of freedom are Satterthwaite's, rounded down.

    Raises:
        ValueError: for fewer than two seeds or items, or rows of different lengths.

    >>> crossed([[1, 0, 1, 0], [1, 0, 0, 0]]).mean
    0.375
    """
    if len({len(row) for row in differences}) != 1 or len(differences) < 2 or len(differences[0]) < 2:
        sizes = [len(row) for row in differences]
        raise ValueError(f"rows of {sizes} items are not possible: two seeds with the same two items at least")
    d = np.asarray(differences, dtype=float)
    seeds, items = d.shape
    average, by_seed, by_item = d.mean(), d.mean(axis=1), d.mean(axis=0)
    left = d - by_seed[:, None] - by_item + average
    squares = np.array([items * by_seed.var(ddof=1), seeds * by_item.var(ddof=1), 0.0])
    squares[2] = np.sum(left**2) / ((seeds - 1) * (items - 1))
    variance = max(squares[0] + squares[1] - squares[2], squares.max())
    freedoms = np.array([seeds - 1, items - 1, (seeds - 1) * (items - 1)])
    scale = np.sum(squares**2 / freedoms)
    n = int(variance**2 / scale) + 1 if scale else seeds
    error = math.sqrt(variance / (seeds * items))
    half = float(stats.t.ppf(1 - ALPHA / 2, n - 1)) * error
    return Difference(float(average), float(average) - half, float(average) + half, n, error)


def mean_of(measured: Sequence[tuple[float, float, int]]) -> Difference:
    """The mean of independent differences, each with its standard error and the number of items that it is from.

    The error is sqrt(sum of e_i^2)/number, the degrees of freedom (sum of e_i^2)^2 / sum of e_i^4/(items_i - 1)
    (Satterthwaite 1946), rounded down.

    >>> mean_of([(0.25, 0.03, 100), (0.75, 0.04, 100)]).error
    0.025
    """
    average = float(np.mean([difference for difference, _, _ in measured]))
    squares = sum(error**2 for _, error, _ in measured)
    error = math.sqrt(squares) / len(measured)
    fourth = sum(error**4 / (items - 1) for _, error, items in measured)
    n = int(squares**2 / fourth) + 1 if fourth else sum(items for _, _, items in measured)
    half = float(stats.t.ppf(1 - ALPHA / 2, n - 1)) * error
    return Difference(average, average - half, average + half, n, error)


def holm(p: Sequence[float]) -> list[float]:
    """p values adjusted by Holm's method, in the order given (Holm 1979).

    >>> holm([0.04, 0.01, 0.03])
    [0.06, 0.03, 0.06]
    """
    adjusted, largest = [0.0] * len(p), 0.0
    for rank, place in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        largest = max(largest, min(1.0, (len(p) - rank) * p[place]))
        adjusted[place] = largest
    return adjusted


def _error(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) / math.sqrt(len(values))
