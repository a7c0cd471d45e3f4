"""Theorem A5: exact block minimisation of a quadratic, its exact contraction and its rate for two blocks.

In the paper: thm:a5, proof in app:a5.

Assumptions. f(x) = x'Ax/2 - b'x, A positive definite; a visit of block i minimises f over x_i exactly; every block
epoch has the same order.

Constants, in that order: A = Dg + Lo + Lo', Dg the block diagonal, P = Dg + Lo (`theory.bounds.splitting`);
c_0 = lambda_max(A^{-1/2} Lo Dg^{-1} Lo' A^{-1/2}); for D = 2 cos(theta) = ||A_11^{-1/2} A_12 A_22^{-1/2}||_2.

Theorem.  A_{t+1} <= (1 - 1/(1 + c_0)) A_t, A_t = f(x^t) - f*, with equality for an eigenvector x^t - x*.
For D = 2 that factor is cos(theta)^2, and A_{t+1} <= cos(theta)^4 A_t for t >= 1, also attained.

Proof, by the lines of the ledger:
 visit   f(z) - f(z^+) = u_i'A_ii u_i/2 for every visit, an identity.     grad_i f(z^+) = 0.
 sweep   P (x^{t+1} - x^t) = -grad f(x^t), an identity.                   Each visit solves one block row.
 product P Dg^{-1} P' = A + Lo Dg^{-1} Lo', an identity.                  Expand.
 rate    A_{t+1} <= (1 - 1/(1+c_0)) A_t.     By visit and sweep the decrease is g'P^{-T} Dg P^{-1} g/2 with
             g = grad f(x^t), and A_t = g'A^{-1}g/2; by product the ratio is
             g'(A + Lo Dg^{-1}Lo')^{-1}g/g'A^{-1}g, at least 1/(1+c_0).
 two     D = 2, t >= 1: A_{t+1} <= cos(theta)^4 A_t.     The last block is minimal, so with
             C = A_11^{-1/2}A_12A_22^{-1/2}, w = A_11^{1/2} e_1: A_t = w'(I - CC')w/2 and w^+ = CC'w, which commute.
 bound   A_T <= A_0 times the product of the factors.    rate, two. QED

Cases of equality: `rate` at the eigenvector, `two` at the top singular vector of C.
Where it says little: 1/(1+c_0) is an eigenvalue, no formula in L_i; for D > 2 there is no better rate from t = 1.
Source: the splitting identity is the Householder-John theorem; D = 2 is alternating projection (von Neumann; the
cosine of the angle of two subspaces). Exact block minimisation with rates: Beck and Tetruashvili (SIAM J. Optim. 23,
2013).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg

from bcd import Rule
from theory.bounds.a6_quadratic import require_quadratic
from theory.bounds.bound import Bound, Control, Outcome, Statement
from theory.bounds.splitting import ROUNDING, Splitting, solve, splitting
from theory.ledger import TOLERANCE, Ledger
from theory.numbers import TYPES, Array, dot, exact, like, norm, precision
from theory.problems import Problem
from theory.problems.quadratic import Quadratic

FIXED = {"ascending": 1, "descending": -1}
"""Name of the order of every block epoch -> direction."""


@dataclass(frozen=True)
class A5Statement(Statement):
    """The statement of Theorem A5 or a false version of it.

    Attributes:
        constant: factor of the contraction and of cos(theta)^4.
    """


def minimise_blocks(problem: Quadratic, order: list[int], epochs: int) -> Array:
    """Points after every visit, shape (T D + 1, d): visits solve A_ii u_i = -grad_i f, in the problem's arithmetic."""
    x = problem.start.copy()
    points = [x]
    for block in order * epochs:
        rows = problem.slices[block]
        x = x.copy()
        x[rows] -= solve(problem.matrix[rows, rows], problem.gradient(x)[rows][:, None])[:, 0]
        points.append(x)
    return np.array(points)


def factor(split: Splitting) -> tuple[float, Array]:
    """1 - 1/(1 + c_0), rounded upwards, and the error x - x* that attains it."""
    product = split.Lo @ np.linalg.solve(split.Dg, split.Lo.T)
    values, vectors = scipy.linalg.eigh((product + product.T) / 2, split.A)
    # g = A e attains the least g'(A + W)^{-1}g/g'A^{-1}g where (A + W)^{-1} A e = e/(1 + c_0)
    error = np.linalg.solve(split.A, split.A @ vectors[:, -1] + product @ vectors[:, -1])
    return 1 - 1 / (1 + max(float(values[-1]), 0.0)) + ROUNDING, error


def cosine(problem: Quadratic) -> float:
    """cos(theta) of two blocks, rounded upwards."""
    first, second = problem.slices
    A = problem.matrix
    left, right = (np.linalg.cholesky(A[rows, rows]) for rows in (first, second))
    return float(np.linalg.norm(np.linalg.solve(left, np.linalg.solve(right, A[second, first]).T), 2)) + ROUNDING


class A5(Bound):
    """Theorem A5."""

    true = A5Statement()

    def require(self, *, order: str) -> None:
        """Raise ValueError unless Theorem A5 covers the setting.

        Args:
            order: "ascending" or "descending".
        """
        if order not in FIXED:
            raise ValueError(f"order={order!r} is not one of {', '.join(FIXED)}")

    def require_problem(self, problem: Problem) -> None:
        require_quadratic(problem, "Theorem A5")

    def evaluate(
        self,
        problem: Problem,
        *,
        arithmetic: str = "float64",
        statement: A5Statement | None = None,
        rule: Rule | None = None,
        epochs: int | None = None,
        label: str = "",
        keep_series: bool = False,
        **setting: Any,
    ) -> Outcome:
        """Minimise block after block; there is no rule and no step size.

        Args:
            arithmetic: "float64", "mp" or "exact"; with Fractions every identity holds without any rounding.
        """
        if rule is not None:
            raise ValueError(f"rule={rule!r} is not possible: Theorem A5 minimises exactly")
        if statement is None:
            self.check_setting(setting)
            self.require_problem(problem)
        assert isinstance(problem, Quadratic)  # for the type checker
        order = list(range(len(problem.sizes)))[:: FIXED[setting["order"]]]
        with precision(arithmetic):
            lifted = problem if arithmetic == "float64" else problem.lifted(TYPES[arithmetic])
            points = minimise_blocks(lifted, order, epochs or self.epochs)
            claim = statement or self.true
            ledger = Ledger(label, keep_series=keep_series, stronger=claim.stronger)
            measured, bound = self._lines(problem, lifted, points, order, ledger, claim)
        return self.outcome(measured, bound, ledger)

    def _lines(
        self,
        problem: Quadratic,
        lifted: Quadratic,
        points: Array,
        order: list[int],
        ledger: Ledger,
        statement: Statement,
    ) -> tuple[Array, Array]:
        split = splitting(lifted, order)
        u, starts = np.diff(points, axis=0), points[:: len(order)]
        size = lifted.gradient_scale(points).max()
        scale = size * (norm(u) + norm(points[:-1]))
        ledger.equal("visit", dot(u @ split.Dg, u) / 2, lifted.decrease(points[:-1], points[1:]), scale=scale)
        largest = 1 + float(np.abs(problem.matrix).sum(axis=1).max())
        rounding = size + largest * norm(points).max()
        ledger.equal("sweep", np.diff(starts, axis=0) @ split.P.T, -lifted.gradient(starts[:-1]), scale=rounding)
        middle = solve(split.Dg, split.Lo.T)
        left = split.P @ solve(split.Dg, split.P.T)
        ledger.equal("product", left, split.A + split.Lo @ middle, scale=largest**2 / problem.mu)

        gap = lifted.gap(starts)
        gap_scale = size * norm(starts) + gap
        pair = gap_scale[1:] + gap_scale[:-1]
        worst = factor(split if not exact(gap) else splitting(problem, order))[0]
        factors = np.full(len(gap) - 1, worst * statement.constant)
        ledger.check("rate", gap[1:], like(factors, gap) * gap[:-1], scale=pair)
        if len(order) == 2:
            factors[1:] = cosine(problem) ** 4 * statement.constant
            ledger.check("two", gap[2:], like(factors[1:], gap) * gap[1:-1], scale=pair[1:])
        bound = gap[0] * np.concatenate([0 * gap[:1] + 1, np.cumprod(like(factors, gap))])
        ledger.check("bound", gap[1:], bound[1:], scale=gap_scale[0] + gap_scale[1:])
        # separate blocks are solved at once: below rounding the quotient of the two series would mean nothing
        return gap, bound if exact(gap) else np.maximum(bound, TOLERANCE * gap_scale[0])

    def controls(self) -> Iterator[Control]:
        """At the starts that attain the factors."""
        once: dict[str, Any] = {"order": "ascending", "epochs": 2}
        half = A5Statement(constant=0.5)
        three = worst_start(Quadratic([1, 2, 1], coupling=0.9, condition=10, seed=1))
        yield self.control("factor halved", "rate", three, half, **once)
        pair = Quadratic.from_matrix(np.array([[1.0, 0.9], [0.9, 1.0]]), sizes=[1, 1], start=np.array([0.0, 1.0]))
        yield self.control("cos^4 halved", "two", pair, half, **once)


def worst_start(problem: Quadratic) -> Quadratic:
    """The same matrix with minimiser 0 and the start that attains the factor of an ascending block epoch."""
    error = factor(splitting(problem, range(len(problem.sizes))))[1]
    return Quadratic.from_matrix(problem.matrix, sizes=problem.sizes, start=error)
