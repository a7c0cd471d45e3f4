"""Theorem B3: BAdam converges linearly under the Polyak-Lojasiewicz inequality.

Assumptions of Theorem B1+ (`theory.bounds.b1_plus`) and ||grad f||^2 >= 2 mu_PL (f - f*) with mu_PL > 0.

Theorem. With coef_t of Theorem B1+ and A_t = f(x^t) - f*,   A_{t+1} <= (1 - 2 mu_PL coef_t) A_t   for every t. As G_t
falls with A_t, the rate tends to that of hmin = 1/eps: coef_t is of order alpha K/eps.

Proof, by the lines of the ledger:
 PL     2 mu_PL A_t <= ||grad f(x^t)||^2, the assumption.
 rate   2 mu_PL coef_t A_t <= f(x^t) - f(x^{t+1}).   B1+ and PL.
 bound  A_T <= prod_{t<T} (1 - 2 mu_PL coef_t) A_0 for every T. QED

Cases of (near) equality: f(x) = mu_PL ||x||^2/2 near the minimiser with small steps.
Source: as Theorem B1+; PL after Polyak (1963) and Karimi, Nutini and Schmidt (arXiv 1608.04636).
In the paper: thm:b3, proof in app:b3.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from theory.bounds import master
from theory.bounds.b1_plus import B1Plus, require_badam
from theory.bounds.bound import Control
from theory.bounds.master import MasterStatement
from theory.ledger import Ledger
from theory.numbers import Array, like, norm
from theory.problems import Problem
from theory.problems.quadratic import Quadratic
from theory.trajectory import Trajectory


def linear_rate(
    problem: Problem, path: Trajectory, ledger: Ledger, epochs: master.Epochs, exponent: float
) -> tuple[Array, Array]:
    """The lines PL, rate and bound for the coefficients of the master lemma.

    Args:
        exponent: 2, the factor of mu coef_t; only a negative control has another.
    """
    x, gap, coef = path.points[path.starts], epochs.gap, epochs.coef
    mu, size = like(problem.pl, x), path.gradient_scale
    full = norm(path.gradients[path.starts])
    rough = size * full + 2 * mu * path.gap_scale(x)
    ledger.check("PL", 2 * mu * gap, epochs.squares, scale=rough)
    ledger.check("rate", exponent * mu * coef * gap[:-1], epochs.decrease, scale=epochs.scale + coef * rough[:-1])
    factors = np.concatenate([1 + 0 * coef[:1], np.cumprod(1 - exponent * mu * coef)])
    bound = factors * gap[0]
    ledger.check("bound", gap, bound, scale=path.gap_scale(x))
    return gap, bound


def require_pl(problem: Problem, who: str) -> None:
    """Raise ValueError unless the problem has a Polyak-Lojasiewicz constant."""
    if not problem.pl > 0:
        raise ValueError(f"pl={problem.pl!r} is not possible: Theorem {who} needs a positive number")


class B3(B1Plus):
    """Theorem B3."""

    def require(
        self, *, fraction: float, eps: float, betas: tuple[float, float], inner_steps: int, order: str
    ) -> None:
        require_badam("B3", fraction=fraction, eps=eps, betas=betas, inner_steps=inner_steps, order=order)

    def require_problem(self, problem: Problem) -> None:
        require_pl(problem, "B3")

    def prove(
        self, problem: Problem, path: Trajectory, ledger: Ledger, statement: MasterStatement, **_: Any
    ) -> tuple[Array, Array]:
        epochs = master.check(problem, path, ledger, MasterStatement())
        return linear_rate(problem, path, ledger, epochs, 2 * statement.constant)

    def controls(self) -> Iterator[Control]:
        near = Quadratic.from_matrix(np.eye(1), sizes=[1], start=np.array([1e-3]))
        setting = {"eps": 1.0, "betas": (0.9, 0.999), "inner_steps": 1, "order": "cyclic", "epochs": 1}
        false = MasterStatement(constant=2.0)
        yield self.control("exponent doubled", "rate", near, false, fraction=0.5, **setting)
