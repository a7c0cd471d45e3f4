"""Theorem B1: BAdam for step sizes of order eps/L, with one closed formula.

Assumptions and notation of Theorem B1+ (`theory.bounds.b1_plus`); G = sqrt(2 L_max (f(x^0) - f*)).

Theorem. If alpha < a_max eps/L_max, then for every block epoch, in any order of the blocks,

    f(x^t) - f(x^{t+1}) >= (alpha K/2) ||grad f(x^t)||^2 / ( G + eps + alpha^2 drift_t^2/(c eps) ),

and min_{0<=t<=T} ||grad f(x^t)||^2 <= (f(x^0) - f*) / ( sum_{t<T} coef_t + 1/(2L) ) with these coefficients.

Proof. B1.10 of the master lemma with Gamma = G: f(z^k) <= f(x^0) at every inner step by B.5, so that B.6 holds with G.

Source: as Theorem B1+, which is never weaker: it has G_t <= G and theta free.
In the paper: thm:b1, proof in app:b1.
"""

from collections.abc import Iterator

import numpy as np

from theory.bounds import master
from theory.bounds.b1_plus import B1Plus, require_badam
from theory.bounds.bound import Control
from theory.bounds.master import MasterStatement
from theory.ledger import Ledger
from theory.numbers import Array, like, sqrt
from theory.problems import Problem
from theory.problems.quadratic import Quadratic
from theory.trajectory import Trajectory


class B1(B1Plus):
    """Theorem B1."""

    def require(
        self, *, fraction: float, eps: float, betas: tuple[float, float], inner_steps: int, order: str
    ) -> None:
        require_badam("B1", fraction=fraction, eps=eps, betas=betas, inner_steps=inner_steps, order=order)

    def prove(
        self, problem: Problem, path: Trajectory, ledger: Ledger, statement: MasterStatement, **_: object
    ) -> tuple[Array, Array]:
        first = path.problem.gap(path.points[:1])
        G = sqrt(2 * like(float(problem.L_i.max()), path.points) * first)
        epochs = master.check(problem, path, ledger, statement, gradients=np.repeat(G, len(path.visited)))
        return master.conclude(problem, path, ledger, epochs, epochs.plain)

    def controls(self) -> Iterator[Control]:
        """On an instance where the step is small and the gradient nearly G, the coefficient is nearly attained."""
        near = Quadratic.from_matrix(np.eye(1), sizes=[1], start=np.array([1.0]))
        setting = {"eps": 1.0, "betas": (0.9, 0.999), "inner_steps": 1, "order": "cyclic", "epochs": 1}
        # alpha -> 0: the decrease is alpha g^2/(|g| + eps), twice the claim without the term in m_hat
        fourfold = MasterStatement(constant=4.0)
        yield self.control("coefficient times four", "B1.10", near, fraction=0.05, false=fourfold, **setting)
