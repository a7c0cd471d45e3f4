"""Corollary B1: a step size for BAdam and the number of block epochs that it needs.

Assumptions and notation of Theorem B1; S_K = beta1 (1 - beta1^{K-1})/(1 - beta1).

Corollary. With alpha = min{ eps/(2 L_max (1 + S_K)), eps/(2 drift) } the constant c is at least 1/2 and

    f(x^t) - f(x^{t+1}) >= alpha K/(2G + 3 eps) ||grad f(x^t)||^2,
    min_{0<=t<T} ||grad f(x^t)||^2 <= (2G + 3 eps)(f(x^0) - f*)/(alpha K T),

so that T = ceil((2G + 3 eps)(f(x^0) - f*)/(alpha K delta^2)) block epochs reach a gradient of at most delta. (The term
1/(2L) of Theorem B1 is left out.)

Proof, by the lines of the ledger:
 sigma   sigma <= S_K.   ||W||_2 <= sqrt(||W||_1 ||W||_inf); rows and columns of W sum to at most S_K.
 c       1/2 <= c: a <= 1/(2(1+S)) gives a + a^2 S^2 <= 1/(2(1+S)) + S^2/(4(1+S)^2) <= 1/2.
 drift   alpha^2 drift^2/(c eps) <= eps/2.   alpha drift <= eps/2 and c >= 1/2.
 D       the descent: B1.10 with the last line. `bound`: its sum. QED

drift is the largest over the orders, Lambda replaced by R tau(D) and the norm of (L_ij), i < j or j < i, is not used:
the step size must not depend on the order that a block epoch will have.
Source: as Theorem B1; the analogue of Corollary D.5 of BAdam (arXiv 2404.02827v3).
In the paper: thm:b1_corollary, proof in app:b1_corollary.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from bcd import Adam, Rule
from theory.bounds import master
from theory.bounds.b1_plus import require_badam
from theory.bounds.bound import Bound, Control
from theory.bounds.master import OUTWARD, MasterStatement, recipe_of
from theory.bounds.triangular import cross_constant, tau
from theory.ledger import Ledger
from theory.numbers import Array, like, norm, sqrt
from theory.problems import Problem
from theory.problems.quadratic import Quadratic
from theory.trajectory import Trajectory


def any_drift(problem: Problem, K: int) -> float:
    """A bound of drift for every order of the blocks."""
    D, L_max, inner = len(problem.sizes), float(problem.L_i.max()), K * (K - 1) / 2
    first = K * cross_constant(problem) * tau(D) + L_max * math.sqrt(inner)
    return OUTWARD * min(first, problem.L * math.sqrt(K**2 * (D - 1) + inner))


def geometric(beta1: float, K: int) -> float:
    """S_K.

    >>> geometric(0.5, 1), geometric(0.5, 2)
    (0.0, 0.5)
    """
    return beta1 * (1 - beta1 ** (K - 1)) / (1 - beta1)


class B1Corollary(Bound):
    """Corollary B1; the step size follows from the setting."""

    true = MasterStatement()

    def require(self, *, eps: float, betas: tuple[float, float], inner_steps: int, order: str) -> None:
        """Raise ValueError unless Corollary B1 covers the setting.

        Args:
            eps: Adam's, positive.
            betas: Adam's, in [0, 1).
            inner_steps: K.
            order: a name in `ORDERS`.
        """
        require_badam("B1", fraction=0.5, eps=eps, betas=betas, inner_steps=inner_steps, order=order)

    def method(
        self, problem: Problem, *, eps: float, betas: Any, inner_steps: int, **_: Any
    ) -> tuple[Rule, list[float]]:
        limits = [float(problem.L_i.max()) * (1 + geometric(betas[0], inner_steps)), any_drift(problem, inner_steps)]
        alpha = eps / (2 * max(limits)) / OUTWARD  # rounded down, for c = 1/2 is attained
        return Adam(betas=(float(betas[0]), float(betas[1])), eps=float(eps)), [alpha] * len(problem.sizes)

    def prove(
        self,
        problem: Problem,
        path: Trajectory,
        ledger: Ledger,
        statement: MasterStatement,
        *,
        eps: float,
        betas: tuple[float, float],
        inner_steps: int,
        order: str,
    ) -> tuple[Array, Array]:
        x, T, K = path.points, len(path.visited), inner_steps
        L_max, alpha, e = (like(value, x) for value in (float(problem.L_i.max()), path.lr[0], eps))
        G = sqrt(2 * L_max * path.problem.gap(x[:1]))[0]
        epochs = master.check(problem, path, ledger, statement, gradients=np.repeat(G, T))
        sigma, length = like(recipe_of(path.rule, K).sigma, x), like(any_drift(problem, K), x)
        a = alpha * L_max / e
        c = 1 - a - a**2 * sigma**2
        if K > 1 and betas[0]:
            # both are computed in float64; the right side is rounded up further than the left
            ledger.check("sigma", sigma, geometric(betas[0], K) * OUTWARD**2, scale=1.0)
        ledger.check("c", 0.5 + 0 * c, c, scale=1.0)
        ledger.check("drift", alpha**2 * length**2 / (c * e), e / 2 * OUTWARD, scale=e)
        coef = statement.constant * alpha * K / (2 * G + 3 * e)
        full = norm(path.gradients[path.starts])
        scale = epochs.scale + coef * full[:-1] * path.gradient_scale
        ledger.check("D", coef * epochs.squares[:-1], epochs.decrease, scale=scale)
        measured = np.minimum.accumulate(epochs.squares[:-1])
        bound = epochs.gap[0] / (coef * np.arange(1, T + 1))
        ledger.check("bound", measured, bound, scale=path.gradient_scale * sqrt(measured) + bound)
        return measured, bound

    def controls(self) -> Iterator[Control]:
        """A small gradient from a point where G is small too, so that only 3 eps against eps is lost."""
        near = Quadratic.from_matrix(np.eye(1), sizes=[1], start=np.array([1e-3]))
        setting = {"eps": 1.0, "betas": (0.0, 0.999), "inner_steps": 1, "order": "cyclic", "epochs": 1}
        yield self.control("coefficient times four", "D", near, MasterStatement(constant=4.0), **setting)
