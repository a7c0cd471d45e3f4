"""Exact expectations under gradient noise: trees of all outcomes, and second moments on quadratics.

A step in block i uses g + xi with g = grad_i f and, for every coordinate c of the block, xi_c = (-1)^c s, where s is
drawn anew for every step: s = `up` with probability p, -p up/(1-p) otherwise. So E xi = 0 and
E||xi||^2 = d_i p up^2/(1-p) =: d_i sigma^2, in every number type without a root; p = 1/2 is symmetric noise.
`VectorNoise` has any number of outcomes, each with a value for every coordinate.

`grow` follows all outcomes of a visit at once, one row a node; nothing is sampled. `SecondMoment` follows
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

    def shifts(self, x: Array, rows: slice) -> tuple[list, list]:
        """What is added to the coordinates `rows` of a gradient, and the probabilities, in the number type of x."""
        values, chances = self.outcomes(x)
        pattern = signs(rows.stop - rows.start)
        return [value * pattern for value in values], chances

    def variance(self, x: Array) -> float:
        """E s^2 in the number type of x."""
        p = like(self.p, x)
        return like(self.up, x) ** 2 * p / (1 - p)


@dataclass(frozen=True)
class VectorNoise:
    """Noise xi in R^d with a few outcomes; a step on some coordinates sees those of xi, drawn anew for every step.

    The last outcome has the rest of the probability and the only value that makes the mean 0.

    Attributes:
        chances: of all outcomes but the last, positive, with a sum below 1.
        vectors: of these, each with d finite numbers.

    Raises:
        ValueError: when a probability or a vector is not possible.
    """

    chances: tuple[float, ...]
    vectors: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        given = len(self.chances), len(self.vectors)
        if not given[0] or given[0] != given[1]:
            raise ValueError(f"{given[0]} chances and {given[1]} vectors are not possible: give one of each or more")
        if not all(chance > 0 for chance in self.chances) or not sum(self.chances) < 1:
            raise ValueError(f"chances={self.chances} is not possible: they are positive with a sum below 1")
        if len({len(vector) for vector in self.vectors}) > 1 or not np.isfinite(np.array(self.vectors)).all():
            raise ValueError(f"vectors={self.vectors} is not possible: they are finite and of one length")

    @classmethod
    def drawn(cls, outcomes: int, d: int, *, p: float, sigma: float, seed: int) -> "VectorNoise":
        """Normal vectors, scaled so that the mean of the variances of the coordinates is sigma^2, up to rounding.

        Args:
            outcomes: how many, at least 2.
            d: coordinates.
            p: probability of the first; the others share the rest.
            sigma: at least 0.
            seed: of the vectors.
        """
        if isinstance(outcomes, bool) or not isinstance(outcomes, int) or outcomes < 2:
            raise ValueError(f"outcomes={outcomes!r} is not possible: noise has 2 outcomes or more")
        if not 0 < p < 1:
            raise ValueError(f"p={p!r} is not possible: a probability is in (0, 1)")
        at_least("sigma", sigma, 0)
        vectors = np.random.default_rng(seed).standard_normal((outcomes - 1, d))
        chances = (p, *((1 - p) / (outcomes - 1) for _ in range(outcomes - 2)))
        plain = cls(chances, tuple(map(tuple, vectors.tolist())))
        scale = sigma / float(np.sqrt(plain.variances(np.ones(1)).mean()))
        return cls(chances, tuple(map(tuple, (scale * vectors).tolist())))

    def outcomes(self, x: Array) -> tuple[Array, Array]:
        """Every vector, (n, d), and its probability, (n,), in the number type of x."""
        chances, vectors = like(np.array(self.chances), x), like(np.array(self.vectors), x)
        rest = 1 - chances.sum()
        last = -(chances[:, None] * vectors).sum(axis=0) / rest
        return np.concatenate([vectors, last[None]]), np.append(chances, rest)

    def shifts(self, x: Array, rows: slice) -> tuple[list, list]:
        """As `TwoPoint.shifts`."""
        vectors, chances = self.outcomes(x)
        return list(vectors[:, rows]), list(chances)

    def variances(self, x: Array) -> Array:
        """E xi_c^2, (d,), in the number type of x."""
        vectors, chances = self.outcomes(x)
        return (chances[:, None] * vectors**2).sum(axis=0)


def signs(num_coordinates: int) -> Array:
    """(-1)^c for c = 0, 1, ...; integers, so that every number type is kept."""
    return 1 - 2 * (np.arange(num_coordinates) % 2)


@dataclass(frozen=True)
class Visit:
    """The tree of one visit. With b outcomes level k has n b^k nodes for n roots; node m has the parent m // b.

    Attributes:
        points: K+1 arrays (n b^k, d), z^k.
        gradients: K+1 arrays (n b^k, d), grad f(z^k).
        probability: K+1 arrays (n b^k,).
        used: K arrays (n b^k, d_i), the noisy gradients of step k that led to the nodes of level k = 1, ..., K.
        m_hat: K arrays as `used`; the step is -lr H m_hat.
        H: K arrays as `used`.
    """

    points: list[Array]
    gradients: list[Array]
    probability: list[Array]
    used: list[Array]
    m_hat: list[Array]
    H: list[Array]

    @property
    def branches(self) -> int:
        """Outcomes of a step."""
        return len(self.points[1]) // len(self.points[0])


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
    noise: TwoPoint | VectorNoise,
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
    rows = problem.slices[block]
    lr, (shifts, chances) = like(lr, points), noise.shifts(points, rows)
    b = len(shifts)
    if (leaves := len(points) * b**inner_steps) > MOST_LEAVES:
        raise ValueError(f"{leaves} leaves are not possible: a tree has at most {MOST_LEAVES}")
    tree = Visit([points], [problem.gradient(points)], [probability], [], [], [])
    m = v = 0 * points[:, rows]
    for k in range(1, inner_steps + 1):
        g = np.repeat(tree.gradients[-1][:, rows], b, axis=0)
        for outcome, shift in enumerate(shifts):
            g[outcome::b] += shift
        m_hat, H, one = g, 0 * g + like(1.0, points), like(1.0, points)
        if isinstance(rule, Adam):
            b1, b2 = (like(beta, points) for beta in rule.betas)
            m = b1 * np.repeat(m, b, axis=0) + (one - b1) * g
            v = b2 * np.repeat(v, b, axis=0) + (one - b2) * g * g
            m_hat = m / (1 - b1**k)
            H = 1 / (sqrt(v / (1 - b2**k)) + like(rule.eps, points))
        z = np.repeat(tree.points[-1], b, axis=0)
        z[:, rows] -= lr * H * m_hat
        chance = np.repeat(tree.probability[-1], b)
        for outcome, share in enumerate(chances):
            chance[outcome::b] *= share
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
