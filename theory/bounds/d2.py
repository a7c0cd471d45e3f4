"""Theorem D2: BAdam with noisy gradients and beta1 = 0, any step size; the logarithm is paid once a visit.

Assumptions. Those of Theorem D1 with beta1 = 0: f >= f*, every visit starts from v = 0 and moves K times by
Delta x^k = -alpha h^k X^k, X^k = g^k + xi^k unbiased given the past, |X^k_c| <= R almost surely,
h^k = 1/(sqrt(v^k) + eps), v^k = sum_j u_kj (X^j)^2 bias-corrected, beta2 in (0, 1), eps > 0, alpha > 0. No bound on
the variance is needed.

Constants. d_i, d, L_i, Delta as in Theorem D1; tau_k = u_kk^{-1/2} = ((1-beta2^k)/(1-beta2))^{1/2},

    Q_K = ln(1 + R^2 tau_K^2/eps^2) - (K-1) ln beta2.

Theorem. With S_t = sum_{i,k} E||g_i^{t,k}||^2, for every T

    (1/(TK)) sum_{t<T} S_t
        <= (2(R+eps)/K) ( Delta/(alpha T) + Q_K (R tau_K d + alpha (tau_K^2/2) sum_i L_i d_i) ).

Proof, by the lines of the ledger; operations on vectors are by coordinate, E_k is the expectation given everything
before xi^k, E that given x^t (for every outcome of it), s^2 = E_k (X^k)^2 <= R^2, u = u_kk, and
h~ = 1/(sqrt(v~) + eps) with v~ = v^k - u (X^k)^2 + u s^2, in which the last square is replaced by its mean, so that h~
is known before xi^k:
 v_hat    h^k = 1/(sqrt(sum_j u_kj (X^j)^2) + eps).                                                  Definition.
 near     |g X (h - h~)| <= (g^2 h~/4) max(1, X^2/s^2) + sqrt(u) s X^2 h^2, at every outcome.
              |h - h~| = u |X^2 - s^2| h h~/(sqrt(v) + sqrt(v~)) and |X^2 - s^2| <= max(X^2, s^2).
              If s^2 is the larger: |g X| u s^2 h h~/sqrt(v~) <= g^2 h~/4 + X^2 h^2 h~ u^2 s^4/v~, with v~ >= u s^2 and
              h~ <= (u s^2)^{-1/2}. If X^2 is: |g X| u X^2 h h~/sqrt(v) <= g^2 h~ X^2/(4 s^2) + h~ s^2 u^2 X^4 h^2/v,
              with v >= u X^2 and h~ <= (u s^2)^{-1/2}.
 last     g^2 h~/2 <= E_k[g X h] + R sqrt(u) E_k[X^2 h^2].    E_k[g X h~] = g^2 h~; `near`, E_k max(1, X^2/s^2) <= 2.
 descent  alpha <g^k, h X> <= f(z^{k-1}) - f(z^k) + (L_i/2) alpha^2 ||h X||^2.                       Descent lemma.
 step     (alpha/2) E sum_c g_c^2 h~_c <= E f(z^{k-1}) - E f(z^k) + (alpha R sqrt(u) + alpha^2 L_i/2) E||h X||^2.
 log      sum_{j<=k} (X^j)^2/(eps^2 + V_j) <= ln(1 + V_k/eps^2) - (k-1) ln beta2,  V_k = sum_j beta2^{k-j} (X^j)^2.
              a/b <= ln b - ln(b-a) with b = eps^2 + V_j, b - a = eps^2 + beta2 V_{j-1} >= beta2 (eps^2 + V_{j-1}), for
              j = 1 without beta2; telescope.
 root     sum_{j<=k} sqrt(u_jj) (X^j h^j)^2 <= tau_k Q_k.   v^j = V_j/tau_j^2, so (h^j)^2 <= 1/(v^j + eps^2) <=
              tau_j^2/(V_j + eps^2); `log` and V_k <= R^2 tau_k^2.
 square   sum_{j<=k} (X^j h^j)^2 <= tau_k^2 Q_k.            The same.
 H        1/(R+eps) <= h~.                                  v~ is a mean of squares <= R^2.
 visit    (alpha/2) sum_k E sum_c g_c^2 h~_c <= E f(z^0) - E f(z^K)
              + d_i Q_K (alpha R tau_K + alpha^2 L_i tau_K^2/2).                                Sum; `root`, `square`.
 epoch    (alpha/(2(R+eps))) S_t <= E f(x^t) - E f(x^{t+1})
              + Q_K (alpha R tau_K d + alpha^2 (tau_K^2/2) sum_i L_i d_i).                      Sum; `H`.
 bound    the theorem for the n block epochs from every outcome of every x^s.     Sum `epoch`, f >= f*. QED

S_t has the inner gradients of the visited blocks, not ||grad f(x^t)||^2: not comparable with D1 without a drift.
The floor 2(R+eps) R tau_K Q_K d/K does not depend on alpha and falls like K^{-1/2} ln K as beta2 -> 1, because Q_K is
paid once a visit. It says less than |g_c| <= R unless phi = 2(1 + eps/R) tau_K Q_K/K < 1. With beta2 = 0.999:
R/eps = 1: phi = 1.82 (K = 100), 0.75 (K = 1000), 0.21 (10^4); R/eps = 1e8: 8.10, 2.23, 0.34. So the theorem speaks of
visits of a thousand steps and more, not of short ones.
Controls: the last term of `last` dropped; ln beta2 dropped; tau_K dropped; R halved; bound divided by 4.
In the paper: thm:d2, proof in app:d2.
Source: Defossez, Bottou, Bach and Usunier, arXiv 2003.02395: the replaced square, `log`. Here for K steps from v = 0
and with bias correction; comparing X^2 with s^2 before splitting gives R sqrt(u) where the sum of both terms gives
twice that. beta1 > 0 in this way is open.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from bcd import Adam
from theory.bounds import b2
from theory.bounds.bound import Control, Statement, require_between
from theory.bounds.d1 import step_size
from theory.bounds.stochastic import StochasticBound
from theory.bounds.trees import (
    WHY_SHORT,
    affordable,
    bounded,
    conditional_mean,
    descended,
    drops,
    follow,
    history,
    rounding,
    running_means,
    starts,
)
from theory.ledger import Ledger, Terms
from theory.noise import TwoPoint, Visit, expectation
from theory.numbers import Array, dot, like, log, sqrt
from theory.problems import Problem
from theory.problems.quadratic import Quadratic
from theory.problems.validation import positive_integer
from theory.trajectory import require_order


@dataclass(frozen=True)
class D2Statement(Statement):
    """The statement of Theorem D2 or a false version of it.

    Attributes:
        constant: the right side of the theorem is divided by it.
        last: factor of R sqrt(u).
        reach: factor of R.
        decay: factor of -ln beta2.
        tau: whether tau_K is there; False puts 1.
    """

    last: float = 1.0
    reach: float = 1.0
    decay: float = 1.0
    tau: bool = True


@dataclass(frozen=True)
class D2Constants:
    """The constants of the theorem in the arithmetic of the run.

    Attributes:
        decay: -ln beta2.
        L: L_i, (D,).
        u: weights of beta2, (K, K).
        tau: tau_k, (K,).
        Q: Q_k, (K,).
        last: R sqrt(u_kk), (K,).
    """

    alpha: Any
    eps: Any
    R: Any
    beta2: Any
    decay: Any
    L: Array
    u: Array
    tau: Array
    Q: Array
    last: Array


def vacuity(ratio: float, inner_steps: int, beta2: float) -> float:
    """phi of the docstring: the floor in units of d R^2; ratio = R/eps. The theorem says nothing unless it is below 1.

    >>> round(vacuity(1.0, 1000, 0.999), 2)
    0.75
    """
    tau2 = (1 - beta2**inner_steps) / (1 - beta2)
    Q = np.log1p(ratio**2 * tau2) - (inner_steps - 1) * np.log(beta2)
    return float(2 * (1 + 1 / ratio) * tau2**0.5 * Q / inner_steps)


class D2(StochasticBound):
    """Theorem D2."""

    theorem = "Theorem D2"
    leaves_out = WHY_SHORT
    true = D2Statement()

    def require(
        self,
        *,
        rate: float,
        eps: float,
        beta2: float,
        inner_steps: int,
        sigma: float,
        p: float,
        order: str,
        R: float | None = None,
    ) -> None:
        """Raise ValueError unless Theorem D2 covers the setting.

        Args:
            rate: alpha in units of ((f(x^0) - f*)/sum_i L_i d_i)^{1/2}, positive.
            eps: Adam's, positive.
            beta2: Adam's, in (0, 1).
            inner_steps: K.
            sigma: standard deviation of every coordinate's noise, so that sigma_i^2 = d_i sigma^2.
            p: probability of the larger outcome of the noise.
            order: a name in `ORDERS`.
            R: a bound of the noisy gradients; None: the run's own.
        """
        require_between("rate", rate, 0, np.inf, who=self.theorem)
        require_between("eps", eps, 0, np.inf, who=self.theorem)
        require_between("beta2", beta2, 0, 1, who=self.theorem)
        positive_integer("inner_steps", inner_steps)
        TwoPoint.of(p, sigma)
        require_order(order)

    def settings(self, problem: Problem) -> Iterator[dict[str, Any]]:
        return affordable(problem, super().settings(problem))

    def prove_in_mean(
        self,
        problem: Problem,
        data: Any,
        noise: TwoPoint,
        ledger: Ledger,
        statement: D2Statement,
        *,
        epochs: int,
        rate: float,
        eps: float,
        beta2: float,
        inner_steps: int,
        order: str,
        R: float | None = None,
        **_: Any,
    ) -> dict[str, Array]:
        K, x, alpha = inner_steps, data.start, step_size(problem, rate)
        rule = Adam(betas=(0.0, float(beta2)), eps=float(eps))
        run = follow(data, noise, rule=rule, lr=alpha, inner_steps=K, epochs=epochs, order=order)
        size, reach = rounding(problem, run)
        constants = constants_of(problem, x, statement, alpha=alpha, eps=eps, beta2=beta2, K=K, R=bounded(run, R))
        alpha, d = constants.alpha, np.array(problem.sizes)
        tau, Q, wide = constants.tau[-1], constants.Q[-1], constants.R + constants.eps
        errors = {"last": Q * alpha * constants.R * tau * d, "step": Q * alpha**2 * tau**2 / 2 * constants.L * d}
        paid = errors["last"] + errors["step"]  # (D,)
        parts = {name: term.sum() for name, term in errors.items()}
        inner = []
        for epoch, roots in zip(run, starts(run), strict=True):
            squares, drop = [], []
            for block, tree in epoch:
                weighted, square, fall = self._visit(data, noise, ledger, constants, block, tree, roots, size, reach)
                left = alpha / 2 * weighted
                right = Terms(decrease=fall, **{name: term[block] for name, term in errors.items()})
                ledger.check("visit", left, right, scale=size * reach + left + paid[block])
                squares.append(square)
                drop.append(fall)
            inner.append(sum(squares))
            left, right = alpha * inner[-1] / (2 * wide), Terms(decrease=sum(drop), **parts)
            ledger.check("epoch", left, right, scale=size * reach + left + paid.sum())
        series = []
        for s, means in enumerate(running_means(run, inner)):
            gap, n = data.gap(run[s][0][1].points[0]), np.arange(1, len(means) + 1)[:, None]
            unit = 2 * wide / K / statement.constant
            right = Terms(gap=unit * gap / (alpha * n), **{name: unit * term / alpha for name, term in parts.items()})
            bound = right.total()
            ledger.check("bound", means / K, right, scale=bound + size**2)
            series.append((means / K, bound))
        measured, bound = (values[:, 0] for values in series[0])
        least = 2 * wide / K * constants.R * tau * Q * int(d.sum())
        return {"measured": measured, "bound": bound, "floor": 0 * bound + least}

    def _visit(
        self,
        data: Problem,
        noise: TwoPoint,
        ledger: Ledger,
        constants: D2Constants,
        block: int,
        tree: Visit,
        roots: Array,
        size: float,
        reach: float,
    ) -> tuple[Any, Any, Any]:
        """The lines of one visit; given x^t: sum_k E sum_c g_c^2 h~_c, sum_k E||g^k||^2, E f(z^0) - E f(z^K)."""
        rows, alpha, eps = data.slices[block], constants.alpha, constants.eps
        L, sums, V = constants.L[block], [], 0 * tree.used[0][::2]  # V is 0 at the roots
        logs, root, square = V, V, V
        for k in range(1, len(tree.used) + 1):
            X, h, chance = tree.used[k - 1], tree.H[k - 1], tree.probability[k]
            g = descended(tree.gradients[k - 1][:, rows], 1)
            u = constants.u[k - 1, k - 1]
            older = np.tensordot(constants.u[k - 1][: k - 1], history(tree.used, k)[:-1] ** 2, 1) + 0 * X
            ledger.equal("v_hat", h, 1 / (sqrt(older + u * X * X) + eps), scale=h)
            s2 = descended(expectation(X * X, noise), 1)
            h_tilde = 1 / (sqrt(older + u * s2) + eps)  # h~
            ledger.check("H", 1 / (constants.R + eps), h_tilde, scale=h_tilde)

            moved = (X * h) ** 2
            ratio = X * X / np.where(s2 > 0, s2, s2 + 1)
            right = Terms(gradient=g * g * h_tilde / 4 * np.maximum(ratio, 1 + 0 * ratio), last=sqrt(u * s2) * moved)
            left = abs(g * X * (h - h_tilde))
            ledger.check("near", left, right, scale=abs(g * X) * (h + h_tilde))
            expected = Terms(
                descent=expectation(g * X * h, noise), last=constants.last[k - 1] * expectation(moved, noise)
            )
            half = (g * g * h_tilde)[::2] / 2
            ledger.check("last", half, expected, scale=half + abs(expectation(abs(g * X) * h, noise)))

            fall, inner, length = drops(data, tree, k), alpha * dot(g, h * X), moved.sum(axis=1)
            right = Terms(decrease=fall, step=alpha**2 * L * length / 2)
            ledger.check("descent", inner, right, scale=size * reach + abs(inner))
            weighted = conditional_mean(dot(g, g * h_tilde), chance, roots)
            down, spread = conditional_mean(fall, chance, roots), conditional_mean(length, chance, roots)
            last, step = alpha * constants.last[k - 1] * spread, alpha**2 * L / 2 * spread
            right = Terms(decrease=down, last=last, step=step)
            ledger.check("step", alpha / 2 * weighted, right, scale=size * reach + alpha * weighted)
            sums.append((weighted, conditional_mean(dot(g, g), chance, roots), down))

            V = constants.beta2 * descended(V, 1) + X * X
            logs = descended(logs, 1) + X * X / (eps**2 + V)
            root, square = descended(root, 1) + sqrt(u + 0 * X) * moved, descended(square, 1) + moved
            right = Terms(growth=log(1 + V / eps**2), decay=constants.decay * (k - 1) + 0 * V)
            ledger.check("log", logs, right, scale=right.total())
            ledger.check("root", root, constants.tau[k - 1] * constants.Q[k - 1], scale=1 + root)
            ledger.check("square", square, constants.tau[k - 1] ** 2 * constants.Q[k - 1], scale=1 + square)
        weighted, squares, down = (sum(column) for column in zip(*sums, strict=True))
        return weighted, squares, down

    def controls(self) -> Iterator[Control]:
        """Near the minimum, where D3 finds a drift, and on parabolas."""
        near = Quadratic.from_matrix(np.eye(1), sizes=[1], start=np.array([0.3]))
        common = {"beta2": 0.999, "sigma": 1.0, "order": "cyclic", "epochs": 1}
        skewed = {**common, "eps": 1e-3, "inner_steps": 1, "rate": 1e-3, "p": 0.3}
        yield self.control("replaced square for free", "last", near, D2Statement(last=0.0), most=math.inf, **skewed)
        yield self.control("replaced square for free", "step", near, D2Statement(last=0.0), most=math.inf, **skewed)
        yield self.control("R halved", "H", near, D2Statement(reach=0.5), **skewed)

        top = Quadratic.from_matrix(np.eye(1), sizes=[1], start=np.array([1.0]))
        long = {**common, "sigma": 0.0, "p": 0.5, "inner_steps": 8, "rate": 1e-3}
        forget = {**long, "beta2": 0.5, "eps": 1.0}
        yield self.control("ln beta2 dropped", "log", top, D2Statement(decay=0.0), most=2.8, **forget)
        yield self.control("tau_K dropped", "square", top, D2Statement(tau=False), **{**long, "eps": 0.1})
        still = {**common, "eps": 10.0, "sigma": 0.0, "p": 0.5, "inner_steps": 1, "rate": 2.0, "epochs": 10}
        yield self.control("bound divided by 4", "bound", top, D2Statement(constant=4.0), **still)


def constants_of(
    problem: Problem, x: Array, statement: D2Statement, *, alpha: float, eps: float, beta2: float, K: int, R: float
) -> D2Constants:
    """All constants, in the number type of x."""
    moving = b2.constants_of((0.0, beta2), K, x)
    one, beta = like(np.ones(K), x), like(beta2, x)
    R, e = like(statement.reach * R, x), like(eps, x)
    tau = moving.tau if statement.tau else one
    decay = -statement.decay * log(one[:1] * beta)[0]
    Q = log(one + (R / e * tau) ** 2) + decay * np.arange(K)
    L = like(problem.L_i, x)
    return D2Constants(like(alpha, x), e, R, beta, decay, L, moving.u, tau, Q, statement.last * R / moving.tau)
