"""Theorem D.4 of BAdam (arXiv 2404.02827v3, appendix D) with the lost factor K put back: proved here.

Assumptions of the printed theorem (`theory.bounds.badam_d4_printed`): ||grad f|| <= G with G > 1, 0 < eps < 1,
alpha <= (eps/(2 Lbar K)) min{ 1/K, eps/(12 G) }.

Theorem. Every block epoch, in any order, has

    f(x^t) - f(x^{t+1}) >= alpha K ||grad f(x^t)||^2
                             / ( 16 G (1 + (2 alpha^2 K^2 L^2 D/eps^2)(4 Lbar^2 alpha^2 K^2/eps^2 + 1)) ).

Proof, by the lines of the ledger after those of the master lemma (`theory.bounds.master`) for Gamma = G:
 a       a = alpha Lbar/eps <= 1/(24 K), by the second limit of alpha, eps < 1 < G.
 c       0.95 <= c: a^2 sigma^2 <= K^2/(24 K)^2, as the entries of W are at most 1, and 1/24 + 1/24^2 < 0.05.
 repair  the coefficient of the theorem is at most that of B1.10, (alpha K/2)/(G + eps + alpha^2 drift^2/(c eps)):
             G + eps <= 8G, and drift^2 <= L^2 K^2 D, 1/(c eps) <= 16 G/eps^2.
 D.4     the theorem, by B1.10. QED

So the descent and the rate of the authors stand, with a factor K more in the term of the coupling. By the proof the
theorem keeps large room; Theorem B1 says more with step sizes that are larger by the factor K and more.
In the paper: thm:badam_d4_repaired, proof in app:badam_d4_repaired.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from theory.bounds import master
from theory.bounds.badam_d4_printed import BadamD4Printed
from theory.bounds.bound import Control
from theory.bounds.master import MasterStatement, recipe_of
from theory.ledger import Ledger
from theory.numbers import Array, like
from theory.problems import Problem
from theory.problems.bilinear import Bilinear
from theory.trajectory import Trajectory


@dataclass(frozen=True)
class RepairedStatement(MasterStatement):
    """The statement of the repaired Theorem D.4 or a false version of it.

    Attributes:
        printed: the coefficient of the printed theorem instead.
    """

    printed: bool = False


class BadamD4Repaired(BadamD4Printed):
    """Theorem D.4, repaired."""

    refuted = False
    true = RepairedStatement()

    def repaired(self, problem: Problem, alpha: Any, eps: Any, K: int, x: Array) -> Any:
        """The coefficient of ||grad f(x^t)||^2 in the theorem."""
        L, Lbar, G = (like(value, x) for value in (problem.L, problem.L_i.max(), self.gradient_bound(problem)))
        coupled = 2 * alpha**2 * K**2 * L**2 * len(problem.sizes) / eps**2
        return alpha * K / (16 * G * (1 + coupled * (4 * Lbar**2 * alpha**2 * K**2 / eps**2 + 1)))

    def prove(
        self,
        problem: Problem,
        path: Trajectory,
        ledger: Ledger,
        statement: RepairedStatement,
        *,
        eps: float,
        **_: Any,
    ) -> tuple[Array, Array]:
        self.require_bounded(problem, path)
        x, K, T = path.points, path.inner_steps, len(path.visited)
        alpha, e, Lbar = like(path.lr[0], x), like(eps, x), like(float(problem.L_i.max()), x)
        G = like(self.gradient_bound(problem), x)
        epochs = master.check(problem, path, ledger, MasterStatement(), gradients=G * (like(np.ones(T), x)))
        a = alpha * Lbar / e
        # alpha is a rounded number
        ledger.check("a", a, like(1 / (24 * K) * master.OUTWARD, x), scale=1.0)
        ledger.check("c", like(0.95, x), 1 - a - a**2 * like(recipe_of(path.rule, K).sigma, x) ** 2, scale=1.0)
        true = self.repaired(problem, alpha, e, K, x)
        ledger.check("repair", true, epochs.plain, scale=epochs.plain)
        coef = self.coefficient(problem, alpha, e, K, x) if statement.printed else true
        claimed = coef * epochs.squares[:-1]
        ledger.check("D.4", claimed, epochs.decrease, scale=epochs.scale)
        return claimed, epochs.decrease

    def controls(self) -> Iterator[Control]:
        """The printed theorem on its counter-example."""
        rate = 4.5e-7
        counter = Bilinear(slope=0.005, ratio=1000**0.5 / 2, inner_steps=1000, rate=rate, eps=0.9)
        setting = {"eps": 0.9, "betas": (0.9, 0.999), "inner_steps": 1000, "order": "cyclic", "epochs": 1}
        yield self.control(
            "the printed coefficient", "D.4", counter, RepairedStatement(printed=True), most=7.5, **setting
        )
