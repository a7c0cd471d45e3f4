"""Theorem A3: linear convergence of block coordinate descent under the Polyak-Lojasiewicz inequality.

In the paper: thm:a3, proof in app:a3.

Assumptions. Those of Theorem A1 (`theory.bounds.a1`), and ||grad f(x)||^2 >= 2 mu_PL (f(x) - f*) on C, mu_PL > 0 and
f* = min f (`problem.pl`). f need not be convex. Any order of the blocks in each block epoch; 0 < gamma < 2; K >= 1.

Constants. C_t of Theorem A1; A_t = f(x^t) - f*.

Theorem.  A_{t+1} <= (1 - 2 mu_PL/C_t) A_t  for every t, hence  A_T <= A_0 prod_{t<T} (1 - 2 mu_PL/C_t).

Proof, by the lines of the ledger (those of `epoch` itself, A0 to A1b, are checked with Theorem A1):
 epoch   ||grad f(x^t)||^2/C_t <= A_t - A_{t+1}.                      Theorem A1; f* cancels.
 PL      2 mu_PL A_t <= ||grad f(x^t)||^2.                               The assumption.
 rate    A_{t+1} <= (1 - 2 mu_PL/C_t) A_t.                               PL inserted in epoch.
 bound   A_T <= A_0 prod_{t<T} (1 - 2 mu_PL/C_t).                        Product of rate. QED

Case of equality: D = 1, gamma <= 1, f with all curvatures mu_PL = L: 1 - 2 mu_PL/C_t = (1-gamma)^{2K} is attained.
Where it says little: mu_PL/C_t counts block epochs; with mu_PL << L and strong coupling C_t grows with D (Theorem A1).

Source: Beck and Tetruashvili (SIAM J. Optim. 23, 2013, Theorem 3.9; no arXiv version known) for strongly convex f,
K = gamma = 1 and C_BT = 4 L_max (1 + D L^2/L_min^2), which C_t never exceeds (line C_BT of `theory.bounds.a2`);
the use of the Polyak-Lojasiewicz inequality is that of Karimi, Nutini and Schmidt, arXiv 1608.04636.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from theory.bounds.a1 import A1, A1Statement, gaps
from theory.bounds.bound import Control
from theory.ledger import Ledger
from theory.numbers import Array, dot, like, norm
from theory.problems import Problem
from theory.problems.quadratic import Quadratic
from theory.trajectory import Trajectory


@dataclass(frozen=True)
class A3Statement(A1Statement):
    """The statement of Theorem A3 or a false version of it.

    Attributes:
        pl: factor of mu.
    """

    pl: float = 1.0


class A3(A1):
    """Theorem A3."""

    true = A3Statement()

    def require_problem(self, problem: Problem) -> None:
        if not problem.pl > 0:
            raise ValueError(f"pl={problem.pl!r} is not possible: Theorem A3 needs a positive constant")

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
        C, _ = self.descent(problem, path, ledger, statement, gamma=gamma)
        gap, scale = gaps(path)
        mu = like(statement.pl * problem.pl, gap)
        starts = path.gradients[path.starts]
        curvature = path.gradient_scale * norm(starts)
        ledger.check("PL", 2 * mu * gap, dot(starts, starts), scale=2 * mu * scale + curvature)
        factor = 1 - 2 * mu / C
        ledger.check("rate", gap[1:], factor * gap[:-1], scale=scale[:-1] + scale[1:])
        bound = gap[0] * np.concatenate([0 * C[:1] + 1, np.cumprod(factor)])
        ledger.check("bound", gap[1:], bound[1:], scale=scale[0] + scale[1:])  # at t = 0 both sides are A_0
        return gap, bound

    def controls(self) -> Iterator[Control]:
        """On an instance where `rate` is an equality; epochs = 1."""
        ball = Quadratic.from_matrix(np.eye(2), sizes=[2], start=np.array([1.0, 0.5]))
        once = {"inner_steps": 1, "order": "cyclic", "epochs": 1}
        yield self.control("exponent doubled", "rate", ball, A3Statement(constant=0.5), gamma=0.2, **once)
        yield self.control("mu doubled", "PL", ball, A3Statement(pl=2.0), gamma=0.2, **once)
        yield self.control(
            "kappa_K doubled", "rate", ball, A3Statement(kappa=2.0), gamma=0.1, **{**once, "inner_steps": 2}
        )

        # 2.5/L makes every step an ascent, so the rate of a permitted gamma must fail
        yield self.control(
            "gamma = 2.5", "rate", ball, A3Statement(gamma=0.5), true={"gamma": 0.5}, gamma=2.5, most=9.5, **once
        )
