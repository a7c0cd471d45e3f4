"""Corollary D.5 of BAdam (arXiv 2404.02827v3, appendix D), its decrease of one block epoch as printed in the copy we
read: refuted.

Assumptions of Theorem D.4 (`theory.bounds.badam_d4_printed`) and

    alpha = (eps/(4 Lbar K D^{1/4})) min{ 1/(K D^{1/4}), eps/(6 G) }.

Statement. Every block epoch has f(x^t) - f(x^{t+1}) >= (alpha K/(32 G)) ||grad f(x^t)||^2.

Ledger: D.5, the statement for every block epoch.

Counter-example (`theory.problems.bilinear`). f = a x + b y + c x y with K = 1, a = 0.005, eps = 0.9, b = 20 a, where
L/Lbar = 638: claimed/actual decrease is 11.3. The step size does not know L, so the statement needs L of the order of
Lbar, which is not among its assumptions. f is not bounded below. On all random quadratics tried the statement holds.
The corollary's number of gradient evaluations counts block epochs, of D K gradients each.
In the paper: thm:badam_d5_printed, proof in app:badam_d5_printed.
"""

from typing import Any

from theory.bounds.badam_d4_printed import BadamD4Printed
from theory.numbers import Array, like
from theory.problems import Problem


class BadamD5Printed(BadamD4Printed):
    """The decrease of Corollary D.5 as printed."""

    who = "D.5"

    def step_size(self, problem: Problem, eps: float, K: int) -> float:
        root, G = len(problem.sizes) ** 0.25, self.gradient_bound(problem)
        return eps / (4 * float(problem.L_i.max()) * K * root) * min(1 / (K * root), eps / (6 * G))

    def coefficient(self, problem: Problem, alpha: Any, eps: Any, K: int, x: Array) -> Any:
        return alpha * K / (32 * like(self.gradient_bound(problem), x))
