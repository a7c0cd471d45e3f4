"""Theorem B2: BAdam for any step size, in the l1 norm, without a factor 1/eps.

Assumptions. f with f >= f*, L_i as in `theory.problems.Problem`; block i has d_i coordinates, d = sum d_i. BAdam with
beta1 in [0, 1), beta2 in (0, 1), eps > 0, any lr = alpha for every block, K steps a visit, any order. No bound on
gradients and no limit on alpha.

Constants. w_kj, u_kj: weights of beta1, beta2 (`theory.moments.weights`), W_kl = sum_{j<=l} w_kj for l < k, else 0;
rho_k = (sum_j w_kj^2/u_kj)^{1/2}, tau_k = u_kk^{-1/2}, M_k = sum_l W_kl rho_l,
V_k = (sum_j u_kj (sum_{j<=l<k} rho_l)^2)^{1/2}, R = sum_k rho_k, N = sum_k sum_{l<k} rho_l,
C = sum_k (tau_k M_k + rho_k^2/2 + V_k); Lambda_t from Lemma T.

Theorem. (1/T) sum_{t<T} ||grad f(x^t)||_1 <= (f(x^0) - f*)/(alpha K T)
                                            + alpha ( ((C + N)/K) sum_i L_i d_i + (R d/T) sum_{t<T} Lambda_t ) + d eps.

Proof, by the lines of the ledger, write ||y||_H^2 = sum_c H_c y_c^2, e^k = m_hat^k - g^k:
 B.1    m_hat^k = sum_j w_kj g^j, v_hat^k = sum_j u_kj (g^j)^2.
 B.7    |Delta x^k_c| <= alpha rho_k.   Cauchy-Schwarz: |sum_j w_kj g^j| <= rho_k (sum_j u_kj (g^j)^2)^{1/2}.
 B2.1   |g^k_c| H^k_c <= tau_k, because v_hat^k >= u_kk (g^k)^2.
 B2.e   ||e^k|| <= alpha L_i sqrt(d_i) M_k.   ||e^k|| <= L_i sum_l W_kl ||Delta x^l|| as B.3 of the master lemma; B.7.
 B2.2   f(z^k) - f(z^{k-1}) <= -alpha ||g^k||_H^2 + alpha^2 L_i d_i (tau_k M_k + rho_k^2/2).   Descent lemma,
            -<Hg, g + e> <= -||g||_H^2 + ||Hg|| ||e||, B2.1, B2.e, B.7.
 B2.3   ||g^k||_1 <= ||g^k||_H^2 + eps d_i + alpha L_i d_i V_k.   g^2/(|g| + r) >= |g| - r with
            r = sqrt(v_hat) + eps - |g|, and |sqrt(v_hat_c) - |g^k_c|| <= (sum_j u_kj (g^j_c - g^k_c)^2)^{1/2}; B.7 for
            the distance of z^j and z^k.
 B2.4   K ||grad f(x^t)||_1 <= sum_{i,k} ||g_i^k||_1 + alpha (N sum_i L_i d_i + K R d Lambda_t).   As B1.8 of the
            master lemma, in l1: inside a visit B.7, between visits Lemma T with ||u|| <= alpha R sqrt(d).
 B2.5   alpha K ||grad f(x^t)||_1 <= f(x^t) - f(x^{t+1}) + alpha^2 ((C + N) sum_i L_i d_i + K R d Lambda_t)
            + alpha K d eps.   Sum B2.2 with B2.3 over the epoch and insert B2.4.
 bound  the theorem for every T: sum B2.5 over t. QED

(C + N)/K grows with K: at an equal number D K T of gradients the bound is best for K = 1, and never better with D
blocks than with one.
Cases of equality: D = d = K = 1, f = L x^2/2 with |g| = alpha L and eps -> 0, where one step reaches the minimum.
alpha of order (T K)^{-1/2} makes the right side of that order too, up to d eps: O(delta^{-2}) block epochs.
Source: the l1 and sign view of Adam is known from signSGD (arXiv 1802.04434); with resets and these constants the
statement is worked out in this project. The literature was not searched exhaustively for it.
In the paper: thm:b2, proof in app:b2.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from bcd import Adam, Rule
from theory.bounds.bound import Bound, Control, Statement, require_between
from theory.bounds.master import OUTWARD
from theory.bounds.triangular import triangular_constant
from theory.ledger import Ledger, Terms
from theory.moments import weights
from theory.numbers import Array, dot, like, norm, sqrt
from theory.problems import Problem
from theory.problems.quadratic import Quadratic
from theory.problems.validation import positive_integer
from theory.trajectory import Trajectory, require_order


@dataclass(frozen=True)
class B2Statement(Statement):
    """The statement of Theorem B2 or a false version of it.

    Attributes:
        constant: the right side of the theorem is divided by it.
        coupling: factor of Lambda.
        spread: factor of every L_i d_i; 1/d_i would be the constant of one coordinate.
        corrected: False computes rho_k with the weights of m without bias correction.
    """

    coupling: float = 1.0
    spread: float = 1.0
    corrected: bool = True


@dataclass(frozen=True)
class Constants:
    """The constants of Theorem B2, rounded up in the arithmetic of `number`.

    Attributes:
        w: weights of beta1, shape (K, K).
        u: weights of beta2, shape (K, K).
        rho: shape (K,).
        tau: shape (K,).
        M: shape (K,).
        V: shape (K,).
        C: a number.
        N: a number.
        R: a number.
    """

    w: Array
    u: Array
    rho: Array
    tau: Array
    M: Array
    V: Array
    C: Any
    N: Any
    R: Any


def constants_of(
    betas: tuple[float, float], K: int, number: Array | None = None, *, corrected: bool = True
) -> Constants:
    """The constants of Theorem B2.

    >>> constants = constants_of((0.9, 0.999), 50)
    >>> [round(float(constants.rho[k - 1]), 3) for k in (1, 10, 50)]
    [1.0, 1.043, 1.614]
    """
    number = np.zeros(1) if number is None else number
    w, u = weights(betas[0], K, number), weights(betas[1], K, number)
    lower = np.tril(np.ones((K, K), dtype=int))
    ratio = w**2 / np.where(lower == 1, u, like(1.0, number))
    rho = sqrt(ratio.sum(axis=1))
    if not corrected:
        rho = rho * np.array([1 - like(betas[0], number) ** k for k in range(1, K + 1)], dtype=number.dtype)
    tau = 1 / sqrt(np.diag(u).copy())
    M = np.tril(np.cumsum(w, axis=1), -1) @ rho
    before = np.cumsum(rho) - rho
    between = (before[:, None] - before[None, :]) * lower  # sum of rho_l over j <= l < k
    V = sqrt((u * between**2).sum(axis=1))
    return Constants(w, u, rho, tau, M, V, (tau * M + rho**2 / 2 + V).sum(), before.sum(), rho.sum())


def require_betas(betas: tuple[float, float], who: str) -> None:
    """Raise ValueError unless the weights of both moments are positive, for the statement `who`."""
    if len(betas) != 2:
        raise ValueError(f"betas={betas!r} is not possible: it must be a pair")
    require_between("beta1", betas[0], 0, 1, closed=True, who=who)
    require_between("beta2", betas[1], 0, 1, who=who)


class B2(Bound):
    """Theorem B2."""

    true = B2Statement()

    def require(self, *, rate: float, eps: float, betas: tuple[float, float], inner_steps: int, order: str) -> None:
        """Raise ValueError unless Theorem B2 covers the setting.

        Args:
            rate: alpha in units of ((f(x^0) - f*)/sum_i L_i d_i)^{1/2}, positive.
            eps: Adam's, positive.
            betas: Adam's, beta1 in [0, 1) and beta2 in (0, 1).
            inner_steps: K.
            order: a name in `ORDERS`.
        """
        require_between("rate", rate, 0, np.inf, who="Theorem B2")
        require_between("eps", eps, 0, np.inf, who="Theorem B2")
        require_betas(betas, "Theorem B2")
        positive_integer("inner_steps", inner_steps)
        require_order(order)

    def method(self, problem: Problem, *, rate: float, eps: float, betas: Any, **_: Any) -> tuple[Rule, list[float]]:
        total = float(problem.L_i @ np.array(problem.sizes))
        alpha = rate * float(np.sqrt(problem.gap(problem.start) / total))
        return Adam(betas=(float(betas[0]), float(betas[1])), eps=float(eps)), [alpha] * len(problem.sizes)

    def prove(
        self,
        problem: Problem,
        path: Trajectory,
        ledger: Ledger,
        statement: B2Statement,
        *,
        eps: float,
        betas: tuple[float, float],
        inner_steps: int,
        **_: Any,
    ) -> tuple[Array, Array]:
        x, K, size = path.points, inner_steps, path.gradient_scale
        constants = constants_of(betas, K, x, corrected=statement.corrected)
        alpha, e = like(path.lr[0], x), like(eps, x)
        self._visits(problem, path, ledger, constants, alpha, e, statement)

        d_i = np.array(problem.sizes)
        d, weighted = int(d_i.sum()), like(statement.spread * OUTWARD * float(problem.L_i @ d_i), x)
        orders = list(map(tuple, path.visited.tolist()))
        lengths = {order: statement.coupling * triangular_constant(problem, order) for order in set(orders)}
        Lambda = like(np.array([lengths[order] for order in orders]), x)
        full = abs(path.gradients[path.starts]).sum(axis=1)
        used = path.by_epoch(abs(path.g).sum(axis=2)).sum(axis=(1, 2))
        between = K * constants.R * d * Lambda
        rough = size * K * d
        right = Terms(used=used, inside=alpha * constants.N * weighted, between=alpha * between)
        ledger.check("B2.4", K * full[:-1], right, scale=rough)
        decrease = path.by_epoch(path.decrease.sum(axis=1)).sum(axis=1)
        scale = path.by_epoch(path.decrease_scale.sum(axis=1)).sum(axis=1) + alpha * rough
        # in every block epoch; `visit` and `inside` are the same in all
        errors = {"visit": constants.C * weighted, "inside": constants.N * weighted, "between": between}
        errors = {name: alpha**2 * (error + 0 * decrease) for name, error in errors.items()}
        paid = Terms(decrease=decrease, **errors, eps=alpha * K * d * e + 0 * decrease)
        ledger.check("B2.5", alpha * K * full[:-1], paid, scale=scale)

        T = np.arange(1, len(Lambda) + 1)
        measured = np.cumsum(full[:-1]) / T
        gap = path.problem.gap(x[:1])[0]
        means = {name: np.cumsum(error) / (alpha * K * T) for name, error in errors.items()}
        parts = {"gap": gap / (alpha * K * T), **means, "eps": d * e + 0 * measured}
        right = Terms(**{name: part / statement.constant for name, part in parts.items()})
        bound = right.total()
        ledger.check("bound", measured, right, scale=size * d + bound)
        return measured, bound

    def _visits(
        self,
        problem: Problem,
        path: Trajectory,
        ledger: Ledger,
        constants: Constants,
        alpha: Any,
        eps: Any,
        statement: B2Statement,
    ) -> None:
        """The lines of one visit, at every inner step."""
        x, size, m, g = path.points, path.gradient_scale, path.moments, path.g
        H, active = m.H, path.mask
        assert m.v_hat is not None  # for the type checker: the rule is Adam's
        sizes = np.array(problem.sizes)[path.active]
        L = like(statement.spread * problem.L_i[path.active], x)[:, None]
        d, root = sizes[:, None], like(np.sqrt(sizes) * OUTWARD, x)[:, None]
        error = m.m_hat - g
        ledger.equal("B.1", m.m_hat, constants.w @ g, scale=size)
        ledger.equal("B.1", m.v_hat, constants.u @ g**2, scale=size * size)
        # a step is rounded as the point that it moves
        reach = abs(path.z[:, :-1]).max(axis=2)
        ledger.check("B.7", abs(path.dx).max(axis=2), alpha * constants.rho, scale=reach + alpha)
        ledger.check("B2.1", abs(g * H * active).max(axis=2), constants.tau, scale=1.0)
        ledger.check("B2.e", norm(error), alpha * L * root * constants.M, scale=size, zero=constants.M == 0)
        g_H = dot(H * g, g)
        unit = alpha**2 * L * d
        paid = Terms(
            decrease=path.decrease, error=unit * constants.tau * constants.M, step=unit * constants.rho**2 / 2
        )
        scale = path.decrease_scale + alpha * abs(g).sum(axis=2)
        ledger.check("B2.2", alpha * g_H, paid, scale=scale)
        right = Terms(weighted=g_H, eps=eps * d + 0 * g_H, change=alpha * L * d * constants.V)
        ledger.check("B2.3", abs(g).sum(axis=2), right, scale=size * root)

    def controls(self) -> Iterator[Control]:
        """Each on an instance where the line it breaks is nearly an equality."""
        one = Quadratic.from_matrix(np.eye(1), sizes=[1], start=np.ones(1))
        setting = {"eps": 1e-8, "betas": (0.9, 0.999), "inner_steps": 1, "order": "cyclic", "epochs": 1}
        # |g| = alpha L: alpha = 1 is sqrt(2) times the unit of the rate
        exact = {**setting, "rate": 2**0.5}
        yield self.control("bound halved", "bound", one, B2Statement(constant=2.0), **exact)

        # without correction m^1 = (1 - beta1) g^1, a tenth of the step that is made
        yield self.control("m without bias correction", "B.7", one, B2Statement(corrected=False), most=10.5, **exact)

        # the constant of one coordinate in place of the block's: the gain is quadratic in all coordinates at once
        dense = Quadratic.from_matrix(np.ones((5, 5)) + 1e-6 * np.eye(5), sizes=[5], start=np.ones(5))
        narrow = B2Statement(spread=1 / 5)
        yield self.control("L of one coordinate", "B2.2", dense, narrow, **{**setting, "rate": 2.0})

        matrix = np.array([[1.0, 0.9], [0.9, 1.0]])
        # alpha = 1 moves block 0 so far that the gradient of block 1 is gone when it is visited
        start = np.linalg.solve(matrix, np.array([0.01, 0.9]))
        pair = Quadratic.from_matrix(matrix, sizes=[1, 1], start=start)
        rate = float(np.sqrt(pair.L_i.sum() / pair.gap(start)))
        yield self.control(
            "coupling dropped", "B2.4", pair, B2Statement(coupling=0.0), most=95.0, **{**setting, "rate": rate}
        )
