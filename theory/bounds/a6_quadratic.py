"""Theorem A6 (quadratics): the exact contraction of a block epoch with K gradient steps a visit.

In the paper: thm:a6_quadratic, proof in app:a6_quadratic.

Assumptions. f(x) = x'Ax/2 - b'x, A positive definite; block epochs in any order; visits of K >= 1 gradient steps of
size alpha_i = gamma/L_i, 0 < gamma < 2.

Constants, in the order of the epoch (`theory.bounds.splitting`): A = Dg + Lo + Lo',
Q_i = A_ii (I - (I - alpha_i A_ii)^K)^{-1}, P_K = blkdiag(Q_i) + Lo, and

    c_K = 1 - lambda_min( P_K^{-T} (P_K + P_K' - A) P_K^{-1} ; A^{-1} ).

Theorem.  f(x^{t+1}) - f* <= c_K (f(x^t) - f*), c_K < 1, with equality for an eigenvector x^t - x*; so c_K is the exact
worst case, and c_K <= 1 - 2 mu/C_t, the rate of Theorem A3 with mu_PL = mu.

Proof, by the lines of the ledger:
 sweep   P_K (x^{t+1} - x^t) = -grad f(x^t), an identity.      K steps are z^0 -> z^0 - Q_i^{-1} grad_i f(z^0); Lo
             brings the earlier blocks in.
 energy  f(x^t) - f(x^{t+1}) = u'(P_K + P_K' - A)u/2, u = x^{t+1} - x^t, an identity.     `theory.bounds.splitting`.
 rate    A_{t+1} <= c_K A_t.     energy with u = -P_K^{-1} grad f and A_t = grad f'A^{-1}grad f/2: a Rayleigh quotient.
 A3      c_K <= 1 - 2 mu/C_t.    c_K is attained, and Theorem A3 holds for that start.
 bound   A_T <= A_0 prod c_K.                                  Product of rate. QED
c_K < 1: P_K + P_K' - A = Q + Q' - Dg is positive definite, as the eigenvalues of Q_i A_ii^{-1} exceed 1/2.

Case of equality: every matrix, at the eigenvector (`worst_start`).
Where it says little: it is an eigenvalue of the whole matrix, no formula in L_i; c_K is not monotone in K.
Source: contraction of stationary splittings in the energy norm (Householder-John); with K gradient steps as the
splitting it is proved in this project; no public statement was searched for beyond the sources of Theorem A5.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from theory.bounds.a1 import A1, epoch_constants, epoch_decrease, gaps
from theory.bounds.bound import Control, Statement
from theory.bounds.splitting import ROUNDING, splitting
from theory.ledger import Ledger
from theory.numbers import Array, exact, like, norm
from theory.problems import Problem
from theory.problems.quadratic import Quadratic
from theory.trajectory import Trajectory


@dataclass(frozen=True)
class A6Statement(Statement):
    """The statement of Theorem A6 or a false version of it.

    Attributes:
        constant: factor of c_K.
        inner_steps: K to compute c_K with, instead of that of the visits.
    """

    inner_steps: int | None = None


def require_quadratic(problem: Problem, who: str) -> None:
    """Raise ValueError unless the problem is a `Quadratic`."""
    if not isinstance(problem, Quadratic):
        raise ValueError(f"problem={type(problem).__name__} is not possible: {who} needs a Quadratic")


class A6Quadratic(A1):
    """Theorem A6 on quadratics."""

    true = A6Statement()

    def require_problem(self, problem: Problem) -> None:
        require_quadratic(problem, "Theorem A6 (quadratics)")

    def prove(
        self,
        problem: Problem,
        path: Trajectory,
        ledger: Ledger,
        statement: Any,
        *,
        gamma: float,
        inner_steps: int,
        order: str,
    ) -> tuple[Array, Array]:
        lifted = path.problem
        assert isinstance(problem, Quadratic)  # for the type checker; `require_problem` refuses the others
        assert isinstance(lifted, Quadratic)
        K, alpha = statement.inner_steps or inner_steps, np.asarray(path.lr)
        orders = list(map(tuple, path.visited.tolist()))
        splits = {blocks: splitting(lifted, blocks, like(alpha, path.points), inner_steps) for blocks in set(orders)}
        worst = {blocks: splitting(problem, blocks, alpha, K).contraction()[0] for blocks in splits}
        c = like(np.array([worst[blocks] for blocks in orders]) * statement.constant, path.points)

        points, starts = path.points[path.starts], path.gradients[path.starts]
        u, slope, size = np.diff(points, axis=0), norm(starts[:-1]), path.gradient_scale
        largest = max(float(np.abs(splits[blocks].P.astype(float)).sum(axis=1).max()) for blocks in splits)
        rounding = size + largest * norm(points).max()
        P_u = np.array([splits[blocks].P @ row for blocks, row in zip(orders, u, strict=True)])
        ledger.equal("sweep", P_u, -starts[:-1], scale=rounding)
        half = np.array([row @ splits[blocks].energy @ row for blocks, row in zip(orders, u, strict=True)]) / 2
        decrease, scale = epoch_decrease(path)
        ledger.equal("energy", half, decrease, scale=scale + rounding * norm(u) + slope * norm(points).max())

        gap, gap_scale = gaps(path)
        ledger.check("rate", gap[1:], c * gap[:-1], scale=gap_scale[1:] + gap_scale[:-1])
        if not exact(gap) and gamma < 2:
            constants = [epoch_constants(problem, blocks, gamma=gamma, inner_steps=inner_steps) for blocks in orders]
            C = np.array([min(row["C_scalar"], row["C_matrix"], row["C_rec"]) for row in constants])
            ledger.check("A3", c - ROUNDING, 1 - 2 * problem.pl / C, scale=1.0)
        bound = gap[0] * np.concatenate([0 * c[:1] + 1, np.cumprod(c)])
        ledger.check("bound", gap[1:], bound[1:], scale=gap_scale[0] + gap_scale[1:])
        return gap, bound

    def controls(self) -> Iterator[Control]:
        """Each at the start that attains c_K."""
        problem = worst_start(Quadratic([1, 2, 1], coupling=0.9, condition=10, seed=1), gamma=0.5, inner_steps=2)
        once = {"gamma": 0.5, "inner_steps": 2, "order": "cyclic", "epochs": 1}
        yield self.control("c_K halved", "rate", problem, A6Statement(constant=0.5), **once)
        yield self.control("c_K of twice the steps", "rate", problem, A6Statement(inner_steps=4), **once)
        ascent = {**once, "gamma": 2.5, "inner_steps": 1}
        top = Quadratic.from_matrix(np.diag([1.0, 0.5]), sizes=[2], start=np.array([1.0, 0.0]))
        yield self.control("gamma = 2.5", "rate", top, A6Statement(), true={"gamma": 1.9}, **ascent)


def worst_start(problem: Quadratic, *, gamma: float, inner_steps: int) -> Quadratic:
    """The same matrix with minimiser 0 and the start that attains c_K of a cyclic block epoch."""
    split = splitting(problem, range(len(problem.sizes)), gamma / problem.L_i, inner_steps)
    return Quadratic.from_matrix(problem.matrix, sizes=problem.sizes, start=split.contraction()[1])
