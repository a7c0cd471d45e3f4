"""The mean field of BAdam under measured noise: minibatches drawn from gradients of single examples.

A visit sees g^k = shift + xi^k, k = 1, ..., K, where xi^k is the mean of B deviations from the mean gradient, drawn
with replacement, so E xi = 0, the standard deviation is sigma/sqrt(B) and the skewness S/sqrt(B) for sigma and S of
one example. As in `theory.mean_field`, in the limit of small steps a visit moves a coordinate by -alpha F_K(shift),

    F_K(shift) = sum_{k<=K} E[ m_hat^k/(sqrt(v_hat^k) + eps) ].

Here the expectation is the mean over drawn visits. m_hat^k - shift has mean zero, so (m_hat^k - shift)/(c + eps) with
c^2 = shift^2 + sigma^2/B is subtracted from each term: it changes no expectation and removes most of the variance.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from theory.bounds.d3 import BETAS
from theory.moments import weights
from theory.numbers import Array
from theory.problems.validation import positive_integer

HALVINGS = 16
"""Bisections of a zero: to 2^-16 of the largest noise, less than the error of the drawing."""


@dataclass(frozen=True)
class Field:
    """F_K for several K.

    Attributes:
        mean: (len(K), coordinates).
        error: its standard error.
    """

    mean: Array
    error: Array


class Noise:
    """Drawn minibatch noise of several coordinates.

    Args:
        gradients: (coordinates, examples), of single examples.
        batch: B.
        visits: how many are drawn.
        inner_steps: largest K.
        seed: of the generator.

    Attributes:
        signal: the mean gradient, (coordinates,).
        sigma: standard deviation of one minibatch's noise, (coordinates,).
        skewness: of the same noise, (coordinates,).
        drawn: noise of every step, (inner_steps, visits, coordinates).

    Raises:
        ValueError: for a shape that is not a table, fewer than two examples or visits, a coordinate without noise, or
            a value that is not finite.
    """

    def __init__(self, gradients: Array, *, batch: int, visits: int, inner_steps: int, seed: int) -> None:
        for name, value in (("batch", batch), ("visits", visits), ("inner_steps", inner_steps)):
            positive_integer(name, value)
        table = np.asarray(gradients, dtype=np.float64)
        if table.ndim != 2 or table.shape[1] < 2 or not len(table):
            raise ValueError(
                f"gradients of shape {table.shape} are not possible: give coordinates x examples, 2 or more"
            )
        if not np.isfinite(table).all():
            raise ValueError("gradients are not possible: a value is not finite")
        if visits < 2:
            raise ValueError(f"visits={visits!r} is not possible: a standard error needs two")
        self.signal = table.mean(axis=1)
        deviations = (table - self.signal[:, None]).T
        single = np.sqrt((deviations**2).mean(axis=0))
        if not (single > 0).all():
            raise ValueError(f"gradients of coordinate {int(np.argmin(single))} never change: it has no noise")
        self.sigma = single / np.sqrt(batch)
        self.skewness = (deviations**3).mean(axis=0) / single**3 / np.sqrt(batch)
        generator = np.random.default_rng(seed)
        total = np.zeros((inner_steps, visits, len(table)))
        for _ in range(batch):
            total += deviations[generator.integers(len(deviations), size=(inner_steps, visits))]
        self.drawn = total / batch

    def field(self, shift: Array, inner_steps: Sequence[int], eps: float, betas: tuple[float, float] = BETAS) -> Field:
        """F_K(shift) for increasing K.

        Args:
            shift: (coordinates,).
        """
        b1, b2 = betas
        m = np.zeros(self.drawn.shape[1:])
        v, total, means, errors = m.copy(), m.copy(), [], []
        denominator = np.sqrt(shift**2 + self.sigma**2) + eps
        for k in range(1, inner_steps[-1] + 1):
            g = self.drawn[k - 1] + shift
            m += (1 - b1) * (g - m)
            v += (1 - b2) * (g * g - v)
            m_hat = m / (1 - b1**k)
            total += m_hat / (np.sqrt(v / (1 - b2**k)) + eps) - (m_hat - shift) / denominator
            if k in inner_steps:
                means.append(total.mean(axis=0))
                errors.append(total.std(axis=0, ddof=1) / np.sqrt(len(total)))
        return Field(np.array(means), np.array(errors))

    def zero(self, inner_steps: int, eps: float, betas: tuple[float, float] = BETAS) -> Array:
        """A gradient of each coordinate at which F_K vanishes, by bisection with the same draws at every point.

        With a shift above all drawn noise every m_hat is positive, below all it is negative.
        """
        high = abs(self.drawn[:inner_steps]).max(axis=(0, 1)) * (1 + 1e-9)
        low = -high
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            up = self.field(middle, [inner_steps], eps, betas).mean[0] > 0
            high, low = np.where(up, middle, high), np.where(up, low, middle)
        return (low + high) / 2


def per_skewness(inner_steps: int, betas: tuple[float, float] = BETAS) -> float:
    """h_K/S of Theorem D3: to first order F_K vanishes at h_K sigma, S the skewness of the noise.

    >>> round(per_skewness(1), 3), round(per_skewness(50), 4)
    (0.5, 0.0451)
    """
    products = weights(betas[0], inner_steps) * weights(betas[1], inner_steps)
    return float(products.sum() / (2 * inner_steps))
