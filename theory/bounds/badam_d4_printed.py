"""Theorem D.4 of BAdam (arXiv 2404.02827v3, appendix D), as printed in the copy we read: refuted.

Assumptions. f is L-smooth, L_i-smooth in block i, Lbar = max_i L_i; ||grad f|| <= G with G > 1 along the trajectory;
BAdam with 0 < eps < 1 and

    alpha <= (eps/(2 Lbar K)) min{ 1/K, eps/(12 G) }.

Statement. Every block epoch has

    f(x^t) - f(x^{t+1}) >= alpha K ||grad f(x^t)||^2
                             / ( 16 G (1 + (2 alpha^2 K L^2 D/eps^2)(4 Lbar^2 alpha^2 K^3/eps^6 + 1)) ).

Ledger: D.4, the statement for every block epoch, with alpha at its limit.

Counter-example (`theory.problems.bilinear`). f = a x + b y + c x y with a = 0.005, eps = 0.9, G = 1.0001, b =
a sqrt(K)/2 and c such that the visit of x takes the gradient of y to zero: claimed/actual decrease is 1.43, 3.54, 7.05
for K = 200, 500, 1000. f is not bounded below, which the statement does not ask for.

What goes wrong: in the last step of the proof 2 alpha^2 K^2 ||e||^2 + 2 alpha^2 K^2 ||g||^2/eps^2 is bounded as if the
second term had one factor K, so that "+ 1" should read "+ K". `theory.bounds.badam_d4_repaired` has a true form.
Without the large ratio L/Lbar of the counter-example, on all random instances tried, the printed inequality holds.
Open: whether a function that is bounded below violates it. We read one copy of the text; a later version may differ.
In the paper: thm:badam_d4_printed, proof in app:badam_d4_printed.
"""

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from bcd import Adam, Rule
from theory.bounds.bound import Bound, Control, require_between
from theory.bounds.master import MasterStatement
from theory.ledger import Ledger
from theory.numbers import Array, dot, like, norm
from theory.problems import Problem
from theory.problems.validation import positive_integer
from theory.trajectory import Trajectory, require_order

LEAST_G = 1.0001
"""The statement needs G > 1; a smaller G makes it stronger."""


class BadamD4Printed(Bound):
    """Theorem D.4 as printed, with the step size at its limit."""

    refuted: ClassVar[bool] = True
    who: ClassVar[str] = "D.4"
    true = MasterStatement()
    leaves_out = "the counter-example has K and eps of its own"

    def require(self, *, eps: float, betas: tuple[float, float], inner_steps: int, order: str) -> None:
        """Raise ValueError unless the statement covers the setting.

        Args:
            eps: Adam's, in (0, 1).
            betas: Adam's, in [0, 1).
            inner_steps: K.
            order: a name in `ORDERS`.
        """
        require_between("eps", eps, 0, 1, who=f"Theorem {self.who}")
        if len(betas) != 2:
            raise ValueError(f"betas={betas!r} is not possible: it must be a pair")
        for which, beta in zip(("beta1", "beta2"), betas, strict=True):
            require_between(which, beta, 0, 1, closed=True, who=f"Theorem {self.who}")
        positive_integer("inner_steps", inner_steps)
        require_order(order)

    def settings(self, problem: Problem) -> Iterator[dict[str, Any]]:
        """A counter-example has its own K and eps."""
        fixed = {name: problem.parameters[name] for name in ("inner_steps", "eps") if name in problem.parameters}
        seen: list[dict[str, Any]] = []
        for setting in super().settings(problem):
            if (changed := {**setting, **fixed}) not in seen:
                seen.append(changed)
                yield changed

    def gradient_bound(self, problem: Problem) -> float:
        """G: what Lemma S gives as long as f does not rise, at least `LEAST_G`."""
        square = 2 * problem.L * float(problem.gap(problem.start))
        return max(LEAST_G, np.sqrt(square)) if np.isfinite(square) else LEAST_G

    def step_size(self, problem: Problem, eps: float, K: int) -> float:
        G = self.gradient_bound(problem)
        return eps / (2 * float(problem.L_i.max()) * K) * min(1 / K, eps / (12 * G))

    def coefficient(self, problem: Problem, alpha: Any, eps: Any, K: int, x: Array) -> Any:
        """Of ||grad f(x^t)||^2 in the statement."""
        L, Lbar, G = (like(value, x) for value in (problem.L, problem.L_i.max(), self.gradient_bound(problem)))
        coupled = 2 * alpha**2 * K * L**2 * len(problem.sizes) / eps**2
        return alpha * K / (16 * G * (1 + coupled * (4 * Lbar**2 * alpha**2 * K**3 / eps**6 + 1)))

    def method(
        self, problem: Problem, *, eps: float, betas: Any, inner_steps: int, **_: Any
    ) -> tuple[Rule, list[float]]:
        alpha = self.step_size(problem, eps, inner_steps)
        return Adam(betas=(float(betas[0]), float(betas[1])), eps=float(eps)), [alpha] * len(problem.sizes)

    def require_bounded(self, problem: Problem, path: Trajectory) -> None:
        """Raise ValueError unless ||grad f|| <= G along the trajectory."""
        largest, G = float(norm(path.gradients).max()), self.gradient_bound(problem)
        if not largest <= G:
            raise ValueError(f"a gradient of norm {largest:.6g} is not possible: Theorem {self.who} has G={G:.6g}")

    def prove(
        self, problem: Problem, path: Trajectory, ledger: Ledger, statement: Any, *, eps: float, **_: Any
    ) -> tuple[Array, Array]:
        """Claimed and actual decrease of every block epoch."""
        self.require_bounded(problem, path)
        x, K = path.points, path.inner_steps
        coef = self.coefficient(problem, like(path.lr[0], x), like(eps, x), K, x)
        starts = path.gradients[path.starts[:-1]]
        claimed = coef * dot(starts, starts)
        decrease = path.by_epoch(path.decrease.sum(axis=1)).sum(axis=1)
        scale = path.by_epoch(path.decrease_scale.sum(axis=1)).sum(axis=1)
        ledger.check(self.who, claimed, decrease, scale=scale + coef * norm(starts) * path.gradient_scale)
        return claimed, decrease

    def controls(self) -> Iterator[Control]:
        """None: the statement itself is the false one; `badam_d4_repaired` has it as a control."""
        return iter(())
