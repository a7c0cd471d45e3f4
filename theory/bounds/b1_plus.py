"""Theorem B1+: BAdam, Adam with reset at every visit, for step sizes of order eps/L.

Assumptions. f: R^d -> R is differentiable with f >= f*, L, L_i as in `theory.problems.Problem`; no bound on gradients
is assumed. BAdam with any beta1, beta2 in [0, 1), eps > 0, K steps a visit, any order, lr = alpha for every block.
With sigma of the master lemma for beta1 (`theory.bounds.master`): a = alpha L_max/eps < a_max =
2/(1 + sqrt(1 + 4 sigma^2)).

Constants. coef_t of the master lemma with hmax = 1/eps, hmin = 1/(G_t + eps), G_t = sqrt(2 L_max (f(x^t) - f*)).

Theorem. f(x^t) - f(x^{t+1}) >= coef_t ||grad f(x^t)||^2 for every t, and

    min_{0<=t<=T} ||grad f(x^t)||^2 <= (f(x^0) - f*) / ( sum_{t<T} coef_t + 1/(2L) ).

Proof. B.6 derives the bound of the gradients from the descent itself, B1+ is the master lemma, and
 S      ||grad f(x^t)||^2 <= 2L (f(x^t) - f*).   Lemma S.
 bound  the second claim for every n <= T in place of T: sum the first over t < n and add S at x^n. QED

Cases of (near) equality: K = D = 1 with a = 1, where the step is exact.
Source: takes the place of Theorem D.4 of BAdam (arXiv 2404.02827v3), whose step size is smaller by K^2 and more and
which assumes gradients bounded by G > 1 and eps < 1.
In the paper: thm:b1_plus, proof in app:b1_plus.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from bcd import Adam, Rule
from theory.bounds import master
from theory.bounds.bound import Bound, Control, require_between
from theory.bounds.master import MasterStatement, largest_a, recipe_of
from theory.ledger import Ledger
from theory.numbers import Array
from theory.problems import Problem
from theory.problems.quadratic import Quadratic
from theory.problems.validation import positive_integer
from theory.trajectory import Trajectory, require_order


def require_badam(
    name: str, *, fraction: float, eps: float, betas: tuple[float, float], inner_steps: int, order: str
) -> None:
    """Raise ValueError unless Theorem `name` covers the setting."""
    require_between("fraction", fraction, 0, 1, who=f"Theorem {name}")
    require_between("eps", eps, 0, np.inf, who=f"Theorem {name}")
    if len(betas) != 2:
        raise ValueError(f"betas={betas!r} is not possible: it must be a pair")
    for which, beta in zip(("beta1", "beta2"), betas, strict=True):
        require_between(which, beta, 0, 1, closed=True, who=f"Theorem {name}")
    positive_integer("inner_steps", inner_steps)
    require_order(order)


def badam(
    problem: Problem, fraction: float, eps: float, betas: tuple[float, float], K: int
) -> tuple[Adam, list[float]]:
    """Adam's rule, and alpha = fraction a_max eps/L_max for every block."""
    rule = Adam(betas=(float(betas[0]), float(betas[1])), eps=float(eps))
    alpha = fraction * largest_a(recipe_of(rule, K)) * eps / float(problem.L_i.max())
    return rule, [alpha] * len(problem.sizes)


class B1Plus(Bound):
    """Theorem B1+."""

    true = MasterStatement()

    def require(
        self, *, fraction: float, eps: float, betas: tuple[float, float], inner_steps: int, order: str
    ) -> None:
        """Raise ValueError unless Theorem B1+ covers the setting.

        Args:
            fraction: alpha L_max/(eps a_max), in (0, 1).
            eps: Adam's, positive.
            betas: Adam's, in [0, 1).
            inner_steps: K.
            order: a name in `ORDERS`.
        """
        require_badam("B1+", fraction=fraction, eps=eps, betas=betas, inner_steps=inner_steps, order=order)

    def method(
        self, problem: Problem, *, fraction: float, eps: float, betas: Any, inner_steps: int, **_: Any
    ) -> tuple[Rule, list[float]]:
        return badam(problem, fraction, eps, betas, inner_steps)

    def prove(
        self, problem: Problem, path: Trajectory, ledger: Ledger, statement: MasterStatement, **_: Any
    ) -> tuple[Array, Array]:
        epochs = master.check(problem, path, ledger, statement)
        return master.conclude(problem, path, ledger, epochs, epochs.coef)

    def controls(self) -> Iterator[Control]:
        """Each on an instance where the line it breaks is nearly an equality."""
        setting = {"eps": 1.0, "betas": (0.9, 0.999), "inner_steps": 1, "order": "cyclic", "epochs": 1}
        near = Quadratic.from_matrix(np.eye(1), sizes=[1], start=np.array([1e-3]))
        yield self.control("coef doubled", "B1+", near, MasterStatement(constant=2.0), fraction=0.95, **setting)

        matrix = np.array([[1.0, 0.9], [0.9, 1.0]])
        pair = Quadratic.from_matrix(matrix, sizes=[1, 1], start=1e-3 * np.array([-1.0, 0.0]) + 1e-9)
        dropped = MasterStatement(coupling=0.0)
        yield self.control("coupling dropped", "B1.8", pair, dropped, fraction=0.95, **setting)

        # far above a_max the method is no descent method, so constants of a permitted a must fail
        steep = MasterStatement(a=0.3)
        long = {**setting, "inner_steps": 10}
        yield self.control(
            "alpha = 8 a_max", "B.5", near, steep, true={"fraction": 0.9}, fraction=8.0, most=math.inf, **long
        )
