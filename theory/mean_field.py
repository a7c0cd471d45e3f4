"""What BAdam does on average at a point with gradient g, in the limit of small steps, under two-point noise.

A visit starts with m = v = 0 and sees the gradients g + s_j, j = 1, ..., K, s_j independent with the two values of
`theory.noise.TwoPoint`. As alpha -> 0 the gradient does not change inside a visit: the mean step is -alpha F_K(g),

    F_K(g) = sum_{k<=K} E[ m_hat^k/(sqrt(v_hat^k) + eps) ],
    m_hat^k = sum_j w_kj (g + s_j),   v_hat^k = sum_j u_kj (g + s_j)^2

(w, u: `theory.moments.weights` of b1, b2). Both ways to compute it are exact; neither samples. Both return the parts
of the samples with g + s_j > 0 and of those with g + s_j < 0, two nonnegative numbers whose difference is F_K(g).

`by_tree`      all 2^K outcomes.
`by_laplace`   1/(sqrt(v) + eps) = int_0^inf exp(-s v) phi(s) ds, phi(s) = 1/sqrt(pi s) - eps erfcx(eps sqrt(s)): under
               the integral the expectation is a product over j. The integral is taken by the trapezoidal rule in
               log s, whose error falls exponentially with the number of nodes.
"""

import functools

import numpy as np
import scipy.optimize
import scipy.special

from theory.noise import TwoPoint
from theory.numbers import Array

Betas = tuple[float, float]
Parts = tuple[float, float]

SPACING = 0.25
NODES = np.exp(np.arange(-75.0, 62.0, SPACING))
"""Nodes of the trapezoidal rule, in units of 1/E(g + s)^2; below the first the integral is 1e-16 of itself."""

DEEPEST = 10
"""Steps up to which the tree is the cheaper way."""


def by_tree(g: float, noise: TwoPoint, inner_steps: int, betas: Betas, eps: float) -> Parts:
    """Both parts of F_K(g) from all outcomes.

    >>> by_tree(0.0, TwoPoint(0.25, 1.0), 1, (0.9, 0.999), 0.0)
    (0.25, 0.75)
    """
    values, chances = noise.outcomes(np.ones(1))
    used = g + np.array(values)
    means = [np.zeros(1), np.zeros(1), np.zeros(1)]  # of the positive parts, the negative parts, the squares
    chance, total = np.ones(1), np.zeros(2)
    for k in range(1, inner_steps + 1):
        new = (np.maximum(used, 0), np.maximum(-used, 0), used**2)
        decay = (betas[0], betas[0], betas[1])
        means = [(b * x[:, None] + (1 - b) * y).ravel() for b, x, y in zip(decay, means, new, strict=True)]
        chance = np.outer(chance, chances).ravel()
        share = chance / ((np.sqrt(means[2] / (1 - betas[1] ** k)) + eps) * (1 - betas[0] ** k))
        total += [share @ means[0], share @ means[1]]
    return float(total[0]), float(total[1])


def by_laplace(g: float, noise: TwoPoint, inner_steps: int, betas: Betas, eps: float) -> Parts:
    """Both parts of F_K(g) by the integral, for any number of steps.

    With s = s' (1 - b2^k)/(1 - b2) the factor of sample j is E exp(-s' b2^{k-j} (g + s_j)^2): the same for all k.

    Raises:
        ValueError: at eps = 0, where v_hat = 0 has no direction.
    """
    if not eps > 0:
        raise ValueError(f"eps={eps!r} is not possible: the integral needs eps > 0")
    K, (b1, b2) = inner_steps, betas
    values, chances = noise.outcomes(np.ones(1))
    used, lag, k = g + np.array(values), np.arange(K), np.arange(1, K + 1)
    s = NODES / (np.array(chances) @ used**2)
    damped = np.exp(-((b2**lag)[:, None, None] * s[:, None] * used**2)) * chances  # (K, nodes, 2)
    factor = damped.sum(axis=2)
    product = factor.cumprod(axis=0)
    measure = s * ((1 - b2**k) / (1 - b2))[:, None]
    weight = _phi(measure, eps) * measure * product * SPACING
    parts = []
    for side in (np.maximum(used, 0), np.maximum(-used, 0)):
        conditional = np.divide(damped @ side, factor, out=np.zeros_like(factor), where=factor > 0)
        mean = ((1 - b1) * (b1**lag)[:, None] * conditional).cumsum(axis=0) / (1 - b1**k)[:, None]
        parts.append(float((weight * mean).sum()))
    return parts[0], parts[1]


def _phi(s: Array, eps: float) -> Array:
    """1/sqrt(pi s) - eps erfcx(eps sqrt(s)), by its expansion where the two terms agree to many digits."""
    root = eps * np.sqrt(s)
    plain = (1 / np.sqrt(np.pi) - root * scipy.special.erfcx(root)) / np.sqrt(s)
    far = np.divide(1, 2 * root**2, out=np.zeros_like(root), where=root > 1e3)
    return np.where(root > 1e3, far * (1 - 3 * far) / np.sqrt(np.pi * s), plain)


def parts(g: float, noise: TwoPoint, inner_steps: int, betas: Betas, eps: float) -> Parts:
    """Both parts of F_K(g), by the cheaper way."""
    way = by_tree if inner_steps <= DEEPEST else by_laplace
    return way(g, noise, inner_steps, betas, eps)


@functools.cache
def zero(noise: TwoPoint, inner_steps: int, betas: Betas, eps: float) -> float:
    """A zero of F_K in [0, down], for p <= 1/2: all samples are nonnegative at g = down.

    Raises:
        ValueError: when F_K(0) > 0 beyond rounding.
    """

    def field(g: float) -> float:
        positive, negative = parts(g, noise, inner_steps, betas, eps)
        return positive - negative

    down = -noise.outcomes(np.ones(1))[0][1]
    at_zero = field(0.0)
    if at_zero > 1e-12 * inner_steps:
        raise ValueError(f"F(0)={at_zero} is not possible: a zero above 0 needs noise that is skewed upwards")
    if at_zero > -1e-12 * inner_steps:
        return 0.0
    return float(scipy.optimize.brentq(field, 0.0, down, xtol=1e-13))  # pyright: ignore[reportArgumentType]
