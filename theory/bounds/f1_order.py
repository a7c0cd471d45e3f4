"""Theorem F1 in a fixed order: BAdam in block epochs, in the l_inf geometry.

Assumptions. Those of Theorem F1 (`theory.bounds.f1`), but a block epoch t visits every block once, in any order, and
leads from x^t to x^{t+1}; l_ij is the constant of grad_i f under steps in block j, symmetric in i and j.

Theorem. With rho_k, c_K and n_K of Theorem F1, for every T

    (1/T) sum_{t<T} ||grad f(x^t)||_1 <= Delta/(alpha K T)
        + alpha ( (c_K + n_K) sum_i l_i + (sum_k rho_k) sum_{j<i} l_ij ) + d eps.

A block epoch has D K gradients, so that at an equal number N of gradients the first term is D Delta/(alpha N), as for
random blocks: the order costs the coupling term, which random blocks do not have.

Proof. Every visit has the lines B.1, B.7, B2.1, F1.1, F1.2, F1.3 and F1.4 of Theorem F1.
 F1.6   K ||grad f(x^t)||_1 <= sum_{i,k} ||g_i^k||_1
            + alpha K (n_K sum_i l_i + (sum_k rho_k) sum_{j<i} l_ij).   F1.4 inside the visits; between them block j
            moves by at most alpha sum_k rho_k in every coordinate, by B.7.
 F1.7   alpha K ||grad f(x^t)||_1 <= f(x^t) - f(x^{t+1})
            + alpha^2 K ((c_K + n_K) sum_i l_i + (sum_k rho_k) sum_{j<i} l_ij) + alpha K d eps.   F1.2 with F1.3 summed
            over the block epoch, with F1.6.
 bound  the theorem for every T: sum F1.7 over t. QED

In the paper: thm:f1_order, proof in app:f1_order.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from bcd import Rule
from theory.bounds.bound import Bound, Control
from theory.bounds.f1 import F1Statement, Visits, adam, check_visits, constants_of, require_adam, step_size
from theory.ledger import Ledger, Terms
from theory.numbers import Array, like
from theory.problems import Problem
from theory.problems.quadratic import Quadratic
from theory.trajectory import Trajectory, require_order


class F1Order(Bound):
    """Theorem F1 in a fixed order."""

    true = F1Statement()

    def require(self, *, rate: float, eps: float, betas: tuple[float, float], inner_steps: int, order: str) -> None:
        """Raise ValueError unless the theorem covers the setting.

        Args:
            rate: alpha in units of ((f(x^0) - f*)/sum_i l_i)^{1/2}, positive.
            eps: Adam's, positive.
            betas: Adam's, beta1 in [0, 1) and beta2 in (0, 1).
            inner_steps: K.
            order: a name in `ORDERS`.
        """
        require_adam(rate, eps, betas, inner_steps, "Theorem F1")
        require_order(order)

    def require_problem(self, problem: Problem) -> None:
        _ = problem.sup  # a ValueError says what is missing

    def method(self, problem: Problem, *, rate: float, eps: float, betas: Any, **_: Any) -> tuple[Rule, list[float]]:
        alpha = step_size(problem, rate, float(problem.sup.blocks.sum()))
        return adam(eps, betas), [alpha] * len(problem.sizes)

    def prove(
        self,
        problem: Problem,
        path: Trajectory,
        ledger: Ledger,
        statement: F1Statement,
        *,
        eps: float,
        betas: tuple[float, float],
        inner_steps: int,
        **_: Any,
    ) -> tuple[Array, Array]:
        x, K, size, d = path.points, inner_steps, path.gradient_scale, sum(problem.sizes)
        constants, rule = constants_of(betas, K, x, statement), adam(eps, betas)
        alpha, e, sup = like(path.lr[0], x), like(eps, x), statement.spread * problem.sup.blocks
        visits = Visits(
            path.z,
            path.g,
            path.decrease,
            path.decrease_scale,
            size,
            like(sup[path.active], x)[:, None],
            np.array(problem.sizes)[path.active][:, None],
        )
        check_visits(ledger, visits, constants, rule, alpha)

        coupling = statement.spread * statement.between * float(np.tril(problem.sup.pairs, -1).sum())
        weighted, between = like(float(sup.sum()), x), constants.rho.sum() * like(coupling, x)
        full = abs(path.gradients[path.starts]).sum(axis=1)[:-1]
        used = path.by_epoch(visits.absolute).sum(axis=(1, 2))
        errors = {"visit": constants.c * weighted, "inside": constants.n * weighted, "between": between}
        errors = {name: alpha * error + 0 * full for name, error in errors.items()}
        right = Terms(used=used, inside=K * errors["inside"], between=K * errors["between"])
        ledger.check("F1.6", K * full, right, scale=size * K * d)
        decrease = path.by_epoch(path.decrease.sum(axis=1)).sum(axis=1)
        scale = path.by_epoch(path.decrease_scale.sum(axis=1)).sum(axis=1) + alpha * size * K * d
        parts = errors | {"eps": d * e + 0 * full}
        right = Terms(decrease=decrease, **{name: alpha * K * part for name, part in parts.items()})
        ledger.check("F1.7", alpha * K * full, right, scale=scale)

        T = np.arange(1, len(full) + 1)
        parts = {"gap": path.problem.gap(x[:1])[0] / (alpha * K * T), **parts}
        right = Terms(**{name: part / statement.constant for name, part in parts.items()})
        measured, bound = np.cumsum(full) / T, right.total()
        ledger.check("bound", measured, right, scale=size * d + bound)
        return measured, bound

    def controls(self) -> Iterator[Control]:
        """Each on an instance where the line it breaks is nearly an equality."""
        setting = {"eps": 1e-8, "betas": (0.9, 0.999), "inner_steps": 1, "order": "cyclic", "epochs": 1}
        # separate blocks with |x_i| = alpha: one block epoch reaches the minimum
        apart = Quadratic.from_matrix(np.eye(2), sizes=[1, 1], start=np.ones(2))
        exactly = {**setting, "rate": 2**0.5}
        yield self.control("bound halved", "bound", apart, F1Statement(constant=2.0), **exactly)
        # the step of block 0 takes away half of the gradient of block 1
        matrix = np.array([[1.0, 0.9], [0.9, 1.0]])
        start = np.linalg.solve(matrix, np.array([0.01, 1.8]))
        pair = Quadratic.from_matrix(matrix, sizes=[1, 1], start=start)
        alpha_of_one = float(np.sqrt(pair.sup.blocks.sum() / pair.gap(start[None])[0]))
        dropped = F1Statement(between=0.0)
        yield self.control("coupling dropped", "F1.6", pair, dropped, **{**setting, "rate": alpha_of_one})
