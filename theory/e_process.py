"""Anytime-valid tests of "E[X] <= bound" for X >= 0 that cannot be computed exactly: betting against the bound.

Start with wealth 1 and stake lambda_n on sample n: W_n = prod_{m<=n} (1 + lambda_m (X_m - bound)). If the bound holds,
E[X_n | past] <= bound, and lambda_n >= 0 depends on the past alone, then W is a nonnegative supermartingale, and by
Ville's inequality P(W_n >= 1000 for some n) <= 1/1000: the bound is rejected when the wealth reaches `THRESHOLD`, at
any time, however often one looks. Stakes in [0, 1/(2 bound)] keep every factor at 1/2 or above for every X >= 0; no
upper bound of X and no distribution is assumed. A bound can only be rejected in this way, never proved.

Stakes follow the best fixed bet to second order, (mean of X - bound)/(mean of (X - bound)^2) over the past.
Source: betting as testing is due to Shafer (2021) and Waudby-Smith and Ramdas (arXiv 2010.09686).
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from theory.numbers import Array

THRESHOLD = 1000.0
"""Wealth that rejects: the chance to reject a true bound is at most 1/THRESHOLD."""

LARGEST = 1e100
"""Samples are cut off at LARGEST times the bound, so that their squares do not overflow; that only lowers a mean."""


def log_wealth(samples: ArrayLike, bound: ArrayLike) -> Array:
    """Natural logarithm of the wealth after every sample.

    Args:
        samples: (n, ...), independent given the past, along axis 0; other axes are separate processes.
        bound: > 0, of the shape of one sample or a number.

    Returns:
        An array of the shape of the samples.

    Raises:
        ValueError: when the bound is not positive and finite, or a sample is negative or NaN.

    >>> log_wealth([3.0, 3.0, 3.0], 1.0).round(3).tolist()
    [0.0, 0.588, 1.224]
    """
    bound, values = np.asarray(bound, dtype=np.float64), np.asarray(samples, dtype=np.float64)
    if not (np.isfinite(bound) & (bound > 0)).all():
        raise ValueError(f"bound={bound} is not possible: it must be positive and finite")
    if not (values >= 0).all():
        raise ValueError(f"samples with the least value {values.min()} are not possible: each must be at least 0")
    with np.errstate(over="ignore"):
        gain = np.minimum(values / bound, LARGEST) - 1  # in units of the bound
    total, squares = (np.cumsum(np.concatenate([0 * y[:1], y[:-1]]), axis=0) for y in (gain, gain**2))  # the past
    stake = np.clip(total / (1 + squares), 0, 0.5)
    return np.cumsum(np.log1p(stake * gain), axis=0)


def rejects(samples: ArrayLike, bound: ArrayLike) -> Array:
    """Whether the wealth reached `THRESHOLD` at some time; of the shape of one sample."""
    return log_wealth(samples, bound).max(axis=0) >= math.log(THRESHOLD)
