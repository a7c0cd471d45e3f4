"""Standard errors, chance levels, tests and smallest detectable differences of shares and means.

n items are right or wrong. Of one model: the share p = r/n, its standard error sqrt(p (1 - p)/(n - 1)), Wilson's 95%
interval, and the exact binomial test against guessing. Of two models on the same items: b of them only the first one
has right, c only the second; McNemar's exact test is the binomial test of c among b + c with probability 1/2. The
smallest detectable difference d is the smallest one that this test finds with probability `POWER` when a share
(b + c)/n of the items (or d, if that is more) differs between the models. What is below it is not testable here.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

ALPHA = 0.05
POWER = 0.8
NOT_TESTABLE = "not testable at this scale"


def share(right: Sequence[bool], *, chance: float, constant: float | None = None) -> dict[str, Any]:
    """The share of right items of one model, and whether it is better than guessing.

    Args:
        right: whether each item is right.
        chance: expected share of uniform guesses.
        constant: share of the best answer that looks at no question (always "yes"), None where there is no such
            answer.

    Returns:
        JSON values; `right` as a text of 0 and 1, so that later comparisons can be made item by item.
    """
    n, r = len(right), sum(right)
    guess = max(chance, constant or 0.0)
    low, high = stats.binomtest(r, n).proportion_ci(method="wilson")
    p = float(stats.binomtest(r, n, guess, alternative="greater").pvalue)
    return {
        "items": n,
        "share": r / n,
        "standard_error": math.sqrt(r / n * (1 - r / n) / (n - 1)) if n > 1 else None,
        "interval": [float(low), float(high)],
        "chance": chance,
        "constant_answer": constant,
        "p_guessing": p,
        "above_guessing": p <= ALPHA,
        "right": "".join("1" if item else "0" for item in right),
    }


def paired(before: Sequence[bool], after: Sequence[bool], alpha: float = ALPHA) -> dict[str, Any]:
    """Difference of two shares on the same items (after - before), by McNemar's exact test.

    Args:
        before: whether each item is right by the first model.
        after: the same by the second model.
        alpha: level of the test, the family's level divided by the number of comparisons.

    Raises:
        ValueError: when the numbers of items differ.
    """
    n = len(before)
    if len(after) != n:
        raise ValueError(f"{n} and {len(after)} items cannot be paired")
    gained = sum(not a and b for a, b in zip(before, after, strict=True))
    lost = sum(a and not b for a, b in zip(before, after, strict=True))
    difference = (gained - lost) / n
    spread = (gained + lost) / n - difference**2
    p = float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    return {
        "kind": "same items",
        "items": n,
        "difference": difference,
        "standard_error": math.sqrt(spread / (n - 1)) if n > 1 else None,
        "gained": gained,
        "lost": lost,
        "p": p,
        "smallest_detectable": smallest_paired(n, (gained + lost) / n, alpha),
    }


def unpaired(before: Sequence[bool], after: Sequence[bool], alpha: float = ALPHA) -> dict[str, Any]:
    """Difference of two shares on different items, by Fisher's exact test.

    The smallest detectable difference is (z_{1-alpha/2} + z_POWER) sqrt(p (1-p) (1/n + 1/m)) with the pooled share p,
    one right and one wrong item added so that no variance is 0.
    """
    n, m, r, s = len(before), len(after), sum(before), sum(after)
    p, q = r / n, s / m
    pooled = (r + s + 1) / (n + m + 2)
    z = stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(POWER)
    return {
        "kind": "different items",
        "items": min(n, m),
        "difference": q - p,
        "standard_error": math.sqrt(p * (1 - p) / (n - 1) + q * (1 - q) / (m - 1)) if min(n, m) > 1 else None,
        "p": float(np.asarray(stats.fisher_exact([[r, n - r], [s, m - s]]))[1]),
        "smallest_detectable": float(z * math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))),
    }


def mean_difference(
    before: Sequence[float], after: Sequence[float], weights: Sequence[float], alpha: float = ALPHA
) -> dict[str, Any]:
    """Difference of sum(values)/sum(weights) on the same items (after - before), by the t test of a ratio.

    With d_i the difference of item i, w_i its weight and D = sum d / sum w, the standard error is
    sqrt(n/(n-1) sum (d_i - D w_i)^2) / sum w (linearised); with weights of 1 it is that of the paired t test.
    The smallest detectable difference is (t_{1-alpha/2} + t_POWER) standard errors with n - 1 degrees of freedom.
    """
    n = len(before)
    if n < 2 or len(after) != n or len(weights) != n:
        raise ValueError(f"{n}, {len(after)} and {len(weights)} items cannot be paired; two are the least")
    d, w = np.subtract(after, before), np.asarray(weights, dtype=float)
    difference = float(d.sum() / w.sum())
    error = float(np.sqrt(n / (n - 1) * np.square(d - difference * w).sum()) / w.sum())
    t = stats.t(n - 1)
    p = float(2 * t.sf(abs(difference) / error)) if error else float(difference == 0)
    return {
        "kind": "same items",
        "difference": difference,
        "standard_error": error,
        "p": p,
        "smallest_detectable": float((t.ppf(1 - alpha / 2) + t.ppf(POWER)) * error),
    }


def shares(before: dict[str, Any], after: dict[str, Any], alpha: float) -> dict[str, Any]:
    """Two results of `share`, with the hash of their items in ``rows``: paired when the items are the same."""
    test = paired if before["rows"] == after["rows"] else unpaired
    result = test([item == "1" for item in before["right"]], [item == "1" for item in after["right"]], alpha)
    guessing = not (before["above_guessing"] or after["above_guessing"])
    return result | {
        "before": before["share"],
        "after": after["share"],
        "verdict": verdict(result, alpha, above_guessing=not guessing),
    }


def power_paired(n: int, discordant: float, difference: float, alpha: float) -> float:
    """Probability that McNemar's exact test of n items rejects at `alpha`.

    Each item differs with probability `discordant`, in the better model's favour with probability
    (discordant + difference)/2.
    """
    m = np.arange(n + 1)
    # The largest x with 2 P(Binomial(m, 1/2) <= x) <= alpha; -1 where m items are too few to reject.
    x = stats.binom.ppf(alpha / 2, m, 0.5)
    x = np.where(2 * stats.binom.cdf(x, m, 0.5) <= alpha, x, x - 1)
    better = min(1.0, (1 + difference / discordant) / 2)
    reject = stats.binom.cdf(x, m, better) + stats.binom.sf(m - x - 1, m, better)
    return float(np.sum(stats.binom.pmf(m, n, discordant) * np.where(x >= 0, reject, 0.0)))


def smallest_paired(n: int, discordant: float, alpha: float = ALPHA) -> float | None:
    """The smallest difference that McNemar's exact test finds with probability `POWER`; None: not even 1 is found."""

    def power(d: float) -> float:
        return power_paired(n, max(discordant, d), d, alpha)

    low, high = 0.0, 1.0
    if power(high) < POWER:
        return None
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle) >= POWER else (middle, high)
    return high


def verdict(
    result: dict[str, Any], alpha: float, *, larger_is_better: bool = True, above_guessing: bool = True
) -> str:
    """The words for a difference: "better", "worse" or `NOT_TESTABLE`.

    Args:
        result: the test's result, with `difference`, `p` and `smallest_detectable`.
        alpha: level of the test.
        larger_is_better: False for a loss.
        above_guessing: whether one of the two models does better than guessing; two that guess cannot be compared.
    """
    least = result["smallest_detectable"]
    if not above_guessing or least is None or abs(result["difference"]) < least or result["p"] > alpha:
        return NOT_TESTABLE
    return "better" if (result["difference"] > 0) == larger_is_better else "worse"


def holm(p: Sequence[float]) -> list[float]:
    """p values adjusted by Holm's method, in the order given (Holm 1979).

    >>> holm([0.04, 0.01, 0.03])
    [0.06, 0.03, 0.06]
    """
    order = np.argsort(p)
    stepped = np.maximum.accumulate(np.arange(len(p), 0, -1) * np.asarray(p, dtype=float)[order])
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1.0, stepped)
    return adjusted.tolist()
