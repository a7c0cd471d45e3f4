"""When a bound of BAdam begins to say more than what is known without running anything.

The problem is the unit one, L = L_i = Delta = 1 with D blocks of d/D coordinates; of f only these constants are used,
so Lambda = tau(D). Known before the first step are, with G = sqrt(2 L Delta),

    ||grad f||^2 <= 2 L Delta  (Lemma S; B1+, D.5),     ||grad f||_1 <= sqrt(2 d L Delta)  (B2).

`EPOCHS`: the least number T of block epochs after which the bound is below that, for the best step size that the
theorem permits; infinity if there is none. B1+, whose bound is never above it because of its term 1/(2L), counts
without that term, which is where the whole bound has halved.

    b1_plus   1/T < 2 L coef(alpha)
    b2        Delta/(alpha K T) + alpha B + d eps < sqrt(2 d L Delta),  B = (C + N)/K sum_i L_i d_i + R_K Lambda d
    published Corollary D.5 of arXiv 2404.02827v3 as printed in the copy we read (its decrease of one block epoch is
              refuted, `theory.bounds.badam_d5_printed`), for delta^2 = 2 L Delta and G at least 1:
              T = 128 D^{1/4} Lbar G Delta/(delta^2 eps) max{ D^{1/4} K, 6 G/eps }

`FLOORS`: stochastic bounds keep a term that neither T nor a small alpha removes. With |gradient + noise| <= R in
every coordinate, R = 2 G, and noise of standard deviation sigma = R/10, in units of d R^2, what ||grad f||^2 is at
most without any theorem; 1 and more is vacuous for every T:

    d1        2 (sqrt(1 + R/eps) - 1)^2 mean_k omega_k^2 sigma^2/R^2,  omega_k^2 = (1-b1)(1+b1^k)/((1+b1)(1-b1^k))
    d2        beta1 = 0: 2 (1 + eps/R) tau_K Q_K/K,  tau_K^2 = (1-b2^K)/(1-b2),
              Q_K = ln(1 + R^2 tau_K^2/eps^2) - (K-1) ln b2
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bcd import Adam
from theory.bounds import b2
from theory.bounds.master import best_theta, largest_a, recipe_of
from theory.bounds.triangular import tau
from theory.problems.validation import positive_integer

BETAS = (0.9, 0.999)
FRACTIONS = np.concatenate([np.geomspace(1e-6, 0.1, 60), np.linspace(0.1, 0.999, 60)])
"""Step sizes of B1+ in units of its limit, of which the best is taken."""

NOISE = 0.1
"""sigma/R."""


@dataclass(frozen=True)
class Unit:
    """The unit problem and what depends on K alone.

    Attributes:
        D: blocks.
        d: coordinates.
        K: steps a visit.

    Raises:
        ValueError: when a number is not possible.
    """

    D: int
    d: int
    K: int

    def __post_init__(self) -> None:
        for name in ("D", "d", "K"):
            positive_integer(name, getattr(self, name))
        if self.d % self.D:
            raise ValueError(f"d={self.d} is not possible: the {self.D} blocks have equally many coordinates")

    @property
    def G(self) -> float:  # noqa: N802, the letter of the theorems
        """sqrt(2 L Delta)."""
        return math.sqrt(2)

    @property
    def R(self) -> float:  # noqa: N802
        """Bound of every coordinate of a gradient with noise."""
        return 2 * self.G

    @cached_property
    def adam(self) -> b2.Constants:
        return b2.constants_of(BETAS, self.K)

    @cached_property
    def drift(self) -> float:
        """Of the master lemma."""
        K, inner = self.K, self.K * (self.K - 1) / 2
        return min(K * tau(self.D) + math.sqrt(inner), math.sqrt(K**2 * (self.D - 1) + inner))

    @cached_property
    def sigma(self) -> tuple[float, float]:
        """sigma and a_max of the master lemma for Adam, for every eps."""
        recipe = recipe_of(Adam(betas=BETAS, eps=1.0), self.K)
        return recipe.sigma, largest_a(recipe)


def b1_plus(unit: Unit, eps: float) -> float:
    """Block epochs of Theorem B1+."""
    sigma, limit = unit.sigma
    a = FRACTIONS * limit
    c, alpha = 1 - a - a**2 * sigma**2, a * eps
    p, q = alpha / (2 * (unit.G + eps)), c * eps / (2 * alpha)
    part, r = c / (1 + a * sigma) ** 2, np.full(a.shape, unit.drift)
    theta = best_theta(p, q, r, part)
    with np.errstate(divide="ignore"):  # theta = 1, where B does not help, has 1/q' = infinity unless nothing drifts
        between = np.where(r > 0, r**2 / (q * (1 - theta)), 0.0)
    coef = unit.K / (1 / (p * (1 + theta * part)) + between)
    return 1 / (2 * float(coef.max()))


def quadratic(start: float, slope: float, room: float) -> float:
    """Least T with start/(alpha T) + slope alpha <= room for some alpha > 0: 4 start slope/room^2.

    >>> quadratic(1.0, 1.0, 2.0), quadratic(1.0, 1.0, -1.0)
    (1.0, inf)
    """
    return 4 * start * slope / room**2 if room > 0 else math.inf


def b2_epochs(unit: Unit, eps: float) -> float:
    """Block epochs of Theorem B2."""
    constants, d, K = unit.adam, unit.d, unit.K
    slope = float(constants.C + constants.N) / K * d + float(constants.R) * tau(unit.D) * d
    return quadratic(1 / K, slope, math.sqrt(2 * d) - d * eps)


def published(unit: Unit, eps: float) -> float:
    """Block epochs of Corollary D.5; infinity at eps = 1, where the published assumption eps < 1 ends."""
    if not eps < 1:
        return math.inf
    root, G = unit.D**0.25, max(1.0, unit.G)
    return 128 * root * G / (2 * eps) * max(root * unit.K, 6 * G / eps)


def d1(R: float, K: int, eps: float) -> float:
    """Floor of Theorem D1.

    >>> round(d1(3.0, 1, 1.0), 6)
    0.02
    """
    powers = BETAS[0] ** np.arange(1, K + 1)
    omega = (1 - BETAS[0]) / (1 + BETAS[0]) * (1 + powers) / (1 - powers)
    return 2 * (math.sqrt(1 + R / eps) - 1) ** 2 * float(omega.mean()) * NOISE**2


def d2(R: float, K: int, eps: float) -> float:
    """Floor of Theorem D2."""
    tau_K = math.sqrt((1 - BETAS[1] ** K) / (1 - BETAS[1]))
    Q = math.log1p((R * tau_K / eps) ** 2) - (K - 1) * math.log(BETAS[1])
    return 2 * (1 + eps / R) * tau_K * Q / K


EPOCHS: dict[str, Callable[[Unit, float], float]] = {
    "b1_plus": b1_plus,
    "b2": b2_epochs,
    "published": published,
}
FLOORS: dict[str, Callable[[float, int, float], float]] = {"d1": d1, "d2": d2}


def table(D: int, d: int, steps: Sequence[int], long: Sequence[int], logs: Sequence[float]) -> dict[str, Any]:
    """log10 of `EPOCHS`, at least of 1 block epoch, and of `FLOORS`; rows eps and columns K, None for never.

    Args:
        D: blocks of the unit problem.
        d: its coordinates.
        steps: K of the epochs.
        long: K of the floors.
        logs: log10 of eps.
    """
    units = [Unit(D, d, K) for K in steps]
    R = units[0].R
    grids = {name: (steps, [[count(u, 10.0**log) for u in units] for log in logs]) for name, count in EPOCHS.items()}
    grids |= {name: (long, [[low(R, K, 10.0**log) for K in long] for log in logs]) for name, low in FLOORS.items()}
    return {
        "blocks": D,
        "coordinates": d,
        "noise": NOISE,
        "log_eps": list(logs),
        "maps": {
            name: {
                "inner_steps": list(columns),
                "epochs": name in EPOCHS,
                "values": [[_log(max(1.0, x) if name in EPOCHS else x) for x in row] for row in rows],
            }
            for name, (columns, rows) in grids.items()
        },
    }


def _log(value: float) -> float | None:
    return round(math.log10(value), 4) if math.isfinite(value) else None
