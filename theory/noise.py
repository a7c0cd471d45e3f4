"""Exact expectations under gradient noise: trees of all outcomes, and second moments on quadratics.

A step in block i uses g + xi with g = grad_i f and, for every coordinate c of the block, xi_c = (-1)^c s, where s is
drawn anew for every step: s = `up` with probability p, -p up/(1-p) otherwise. So E xi = 0 and
E||xi||^2 = d_i p up^2/(1-p) =: d_i sigma^2, in every number type without a root; p = 1/2 is symmetric noise.

`grow` follows all 2^K outcomes of a visit at once, one row a node; nothing is sampled. `SecondMoment` follows
E (x - x*)(x - x*)' of SGD on a quadratic, which determines E f and E||grad f||^2, for any number of steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np

from bcd import Adam, Rule
from theory.moments import require_plain
from theory.numbers import Array, exact, like, sqrt
from theory.problems import Problem
from theory.problems.quadratic import Quadratic
from theory.problems.validation import at_least

MOST_LEAVES = 2**12
"""Most leaves of a tree; a deeper one is refused instead of filling the memory."""


@dataclass(frozen=True)
class TwoPoint:
    """Noise s in {up, -down} with probabilities p, 1 - p and mean 0.

    Attributes:
        p: in (0, 1).
        up: finite and >= 0.
        down: p up/(1-p), the only unbiased choice, unless given.

    Raises:
        ValueError: when the noise is unbounded or biased, or p is outside (0, 1).
    """

    p: float
    up: float
    down: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.p < 1:
            raise ValueError(f"p={self.p!r} is not possible: a probability of two outcomes is in (0, 1)")
        at_least("up", self.up, 0)
        if self.down is not None:
            at_least("down", self.down, 0)
            mean = self.p * self.up - (1 - self.p) * self.down
            if abs(mean) > 1e-12 * self.up:
                raise ValueError(f"down={self.down!r} is not possible: the noise has mean {mean:.3g}, it must be 0")

    @classmethod
    def of(cls, p: float, sigma: float) -> "TwoPoint":
        """The noise with variance sigma^2, up to the rounding of a float.

        >>> round(TwoPoint.of(0.3, 1.0).outcomes(np.ones(1))[0][1], 4)
        -0.6547
        """
        if not 0 < p < 1:
            raise ValueError(f"p={p!r} is not possible: a probability of two outcomes is in (0, 1)")
        return cls(p, at_least("sigma", sigma, 0) * ((1 - p) / p) ** 0.5)

    def outcomes(self, x: Array) -> tuple[list, list]:
        """Both values of s and their probabilities, in the number type of x."""
        p, up = like(self.p, x), like(self.up, x)
        return [up, -p * up / (1 - p)], [p, 1 - p]

    def variance(self, x: Array) -> float:
        """E s^2 in the number type of x."""
        p = like(self.p, x)
        return like(self.up, x) ** 2 * p / (1 - p)


def signs(num_coordinates: int) -> Array:
    """(-1)^c for c = 0, 1, ...; integers, so that every number type is kept."""
    return 1 - 2 * (np.arange(num_coordinates) % 2)


@dataclass(frozen=True)
class Visit:
    """The tree of one visit. Level k has n 2^k nodes for n roots; node m has the parent m // 2, outcome m % 2.

    Attributes:
        points: K+1 arrays (n 2^k, d), z^k.
        gradients: K+1 arrays (n 2^k, d), grad f(z^k).
        probability: K+1 arrays (n 2^k,).
        used: K arrays (n 2^k, d_i), the noisy gradients of step k that led to the nodes of level k = 1, ..., K.
        m_hat: K arrays as `used`; the step is -lr H m_hat.
        H: K arrays as `used`.
    """

    points: list[Array]
    gradients: list[Array]
    probability: list[Array]
    used: list[Array]
    m_hat: list[Array]
    H: list[Array]


def expectation(values: Array, noise: TwoPoint) -> Array:
    """E[values | parent]: (2n, ...) -> (n, ...)."""
    _, (p, q) = noise.outcomes(values)
    return p * values[0::2] + q * values[1::2]


def grow(
    problem: Problem,
    points: Array,
    probability: Array,
    *,
    block: int,
    inner_steps: int,
    rule: Rule,
    lr: float,
    noise: TwoPoint,
) -> Visit:
    """K noisy steps of SGD or Adam with fresh state on one block, from every root, along all outcomes.

    Args:
        points: (n, d), roots.
        probability: (n,).
        lr: step size, in the number type of the points or a float.

    Raises:
        ValueError: for rules other than SGD and Adam without weight decay, and above `MOST_LEAVES` leaves.
    """
    require_plain(rule)
    if not isinstance(rule, Adam) and "momentum" in rule.hyperparameters():
        raise ValueError(f"rule={rule!r} is not possible: noise trees have SGD and Adam")
    if (leaves := len(points) * 2**inner_steps) > MOST_LEAVES:
        raise ValueError(f"{leaves} leaves are not possible: a tree has at most {MOST_LEAVES}")
    rows = problem.slices[block]
    lr, (values, chances) = like(lr, points), noise.outcomes(points)
    pattern = signs(problem.sizes[block])
    tree = Visit([points], [problem.gradient(points)], [probability], [], [], [])
    m = v = 0 * points[:, rows]
    for k in range(1, inner_steps + 1):
        g = np.repeat(tree.gradients[-1][:, rows], 2, axis=0)
        for outcome, value in enumerate(values):
            g[outcome::2] += value * pattern
        m_hat, H, one = g, 0 * g + like(1.0, points), like(1.0, points)
        if isinstance(rule, Adam):
            b1, b2 = (like(beta, points) for beta in rule.betas)
            m = b1 * np.repeat(m, 2, axis=0) + (one - b1) * g
            v = b2 * np.repeat(v, 2, axis=0) + (one - b2) * g * g
            m_hat = m / (1 - b1**k)
            H = 1 / (sqrt(v / (1 - b2**k)) + like(rule.eps, points))
        z = np.repeat(tree.points[-1], 2, axis=0)
        z[:, rows] -= lr * H * m_hat
        chance = np.repeat(tree.probability[-1], 2)
        for outcome, share in enumerate(chances):
            chance[outcome::2] *= share
        for levels, new in (
            (tree.points, z),
            (tree.gradients, problem.gradient(z)),
            (tree.probability, chance),
            (tree.used, g),
            (tree.m_hat, m_hat),
            (tree.H, H),
        ):
            levels.append(new)
    return tree


class SecondMoment:
    """Sigma = E (x - x*)(x - x*)' of SGD on f(x) = x'Ax/2 - b'x, from the problem's start, in its number type.

    A step on block i is x - x* <- M (x - x*) - lr xi, M the identity minus lr times the rows i of A, hence
    Sigma <- M Sigma M' + lr^2 E xi xi'. Nothing about the noise enters but its mean 0 and its variance.
    """

    def __init__(self, problem: Quadratic, noise: TwoPoint, Sigma: Array | None = None) -> None:
        self.problem, self.noise = problem, noise
        self.A = problem.matrix
        if Sigma is None:
            y = problem.start - minimiser(problem)
            Sigma = y[:, None] * y
        self.Sigma = Sigma

    def step(self, block: int, lr: float) -> "SecondMoment":
        """After one step."""
        return SecondMoment(self.problem, self.noise, self._moved(self.Sigma, self.A, block, lr))

    def _moved(self, Sigma: Array, A: Array, block: int, lr: float) -> Array:
        rows = self.problem.slices[block]
        M_Sigma = Sigma.copy()
        M_Sigma[rows] -= lr * (A[rows] @ Sigma)
        moved = M_Sigma.copy()
        moved[:, rows] -= lr * (M_Sigma @ A[rows].T)
        pattern = signs(self.problem.sizes[block])
        moved[rows, rows] += lr**2 * self.noise.variance(A) * pattern[:, None] * pattern
        return moved

    def visit(self, block: int, lr: float, inner_steps: int) -> "list[SecondMoment]":
        """At z^0, ..., z^K."""
        states: list[SecondMoment] = [self]
        for _ in range(inner_steps):
            states.append(states[-1].step(block, lr))
        return states

    def gap(self) -> float:
        """E f(x) - f(x*) = tr(A Sigma)/2."""
        return (self.A * self.Sigma).sum() / 2

    def squares(self, block: int | None = None) -> Any:
        """(D,), E||grad_i f(x)||^2, or the one of a block."""
        if block is None:
            return block_squares(self.problem, self.Sigma)
        rows = self.A[self.problem.slices[block]]
        return (rows @ self.Sigma * rows).sum()

    def mixed(self, others: "Sequence[SecondMoment]") -> "SecondMoment":
        """The uniform mixture of several states."""
        mean = np.sum([other.Sigma for other in others], axis=0) / len(others)
        return SecondMoment(self.problem, self.noise, mean)


class Epoch(SecondMoment):
    """The second moment of the pair (x - x*, x^t - x*), x^t the point at the start of the block epoch."""

    @classmethod
    def begin(cls, at: SecondMoment) -> "Epoch":
        return cls(at.problem, at.noise, np.block([[at.Sigma, at.Sigma], [at.Sigma, at.Sigma]]))

    def step(self, block: int, lr: float) -> "Epoch":
        wide = np.hstack([self.A, 0 * self.A])  # the second half of the pair stays
        return Epoch(self.problem, self.noise, self._moved(self.Sigma, wide, block, lr))

    @property
    def now(self) -> SecondMoment:
        """The second moment of x alone."""
        d = len(self.A)
        return SecondMoment(self.problem, self.noise, self.Sigma[:d, :d])

    def moved_squares(self, block: int) -> Any:
        """E||grad_i f(x^t) - grad_i f(x)||^2 of a block."""
        d, S = len(self.A), self.Sigma
        rows = self.A[self.problem.slices[block]]
        return (rows @ (S[:d, :d] - S[:d, d:] - S[d:, :d] + S[d:, d:]) * rows).sum()


def block_squares(problem: Quadratic, Sigma: Array) -> Array:
    """(D,), E||A_i y||^2 for E yy' = Sigma, A_i the rows of block i."""
    each = (problem.matrix @ Sigma * problem.matrix).sum(axis=1)
    return np.array([each[rows].sum() for rows in problem.slices], dtype=each.dtype)


def minimiser(problem: Quadratic) -> Array:
    """Solution of A x = b at the precision of the problem's numbers."""
    if not exact(problem.matrix):
        return np.linalg.solve(problem.matrix, problem.linear)
    solution = mpmath.lu_solve(mpmath.matrix(problem.matrix.tolist()), mpmath.matrix(problem.linear.tolist()))
    return np.array(list(solution), dtype=object)
