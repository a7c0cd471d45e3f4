"""Theorem D1: BAdam with noisy gradients, any beta1, any step size; a floor that its bound has for every step size.

Assumptions. f >= f*, L, L_i, L_ij as in `theory.problems.Problem`; block i has d_i coordinates, d = sum d_i. Block
epoch t visits every block once, in an order fixed before its noise. A visit starts from m = v = 0 and takes K steps of
Adam with beta1 in [0, 1), beta2 in (0, 1), eps > 0, any lr = alpha, with the gradients gt^k = g^k + xi^k,
g^k = grad_i f(z^{k-1}), E[xi^k | past] = 0, E[||xi^k||^2 | past] <= sigma_i^2, and |gt^k_c| <= R almost surely.

Constants. w, rho_k, M_k, Lambda as in Theorem B2; omega_k^2 = sum_j w_kj^2, r_k = rho_1 + ... + rho_{k-1},
E_k = L_i sqrt(d_i) M_k (of the block), Delta = f(x^0) - f*,

    s = eps^{-1/2} - (R+eps)^{-1/2},    h = (eps (R+eps))^{-1/2},
    N_ik = alpha s^2 omega_k^2 sigma_i^2 + alpha^2 h E_k sigma_i + alpha^3 E_k^2/eps + alpha^2 L_i d_i rho_k^2/2,
    B^2 = sum_k ( Lambda r_{K+1} sqrt(d) + r_k (sum_i L_i^2 d_i)^{1/2} )^2.

Theorem. For every step and every T, G_t^2 = E||grad f(x^t)||^2,

    E f(z^k) <= E f(z^{k-1}) - (alpha/2) E||g^k||_H^2 + N_ik,
    (1/T) sum_{t<T} G_t^2 <= (1/K) ( (2(R+eps) (Delta/(alpha T) + sum_{i,k} N_ik/alpha))^{1/2} + alpha B )^2.

As alpha -> 0 with alpha T -> infinity the right side is the floor (2/K) (sqrt(1 + R/eps) - 1)^2 sum_i sigma_i^2
sum_k omega_k^2, of order R/eps. (With the arithmetic mean of 1/eps and 1/(R+eps) in the place of h, their geometric
mean, it would be of order (R/eps)^2.) For sigma_i^2 = d_i R^2 the floor says less than |g_c| <= R as soon as
R > 1.92 eps for beta1 = 0, R > 15.7 eps for beta1 = 0.9 and K -> infinity: at the usual eps = 1e-8 the theorem says
something about small noise only, sigma^2 of order R eps. There is a floor, a far smaller one: Theorem D3.

Proof, by the lines of the ledger, the expectations given x^t for every outcome of it; e^k = sum_j w_kj (g^j - g^k),
n^k = sum_j w_kj xi^j, ||y||_H^2 = sum_c H_c y_c^2:
 m_hat    m_hat^k = g^k + e^k + n^k.                                        Definition; sum_j w_kj = 1.
 H        1/(R+eps) <= H^k_c <= 1/eps.                                      v_hat is a mean of squares <= R^2.
 rho      |Delta x^k_c| <= alpha rho_k.                                     Cauchy-Schwarz, as B.7 of Theorem B2.
 e        ||e^k|| <= alpha E_k.                                             As B2.e of Theorem B2.
 descent  f(z^k) - f(z^{k-1}) <= -alpha <g^k, H m_hat^k> + alpha^2 L_i d_i rho_k^2/2.      Descent lemma, rho.
 young    -<g, H e> - <g, (H-h) n> <= ||g||_H^2/2 + ||e||^2/eps + s^2 ||n||^2, at every outcome.   In every
              coordinate |g (H-h) n| <= H g^2/4 + n^2 (H-h)^2/H; (H-h)^2/H is convex in H, hence on [1/(R+eps), 1/eps]
              largest at the ends, where it is s^2 by the choice of h. |g H e| <= H g^2/4 + H e^2 with H <= 1/eps.
 cross    |E<g^k, n^k>| <= alpha E_k sigma_i.     E<g^k, xi^j> = E<g^k - g^j, xi^j>, because g^j is known before xi^j;
              ||g^k - g^j|| <= alpha L_i sqrt(d_i) (rho_j + ... + rho_{k-1}), weights as in e.
 n        E||n^k||^2 = sum_j w_kj^2 E||xi^j||^2 <= omega_k^2 sigma_i^2.     The xi^j are orthogonal.
 step     the first display: the mean of `descent`, with m_hat = g + e + n and <g, H n> = h<g, n> + <g, (H-h) n>.
 epoch    (alpha/(2(R+eps))) S_t <= E f(x^t) - E f(x^{t+1}) + sum_{i,k} N_ik, S_t = sum_{i,k} E||g_i^k||^2.  Sum; H.
 gradient sqrt(K) G_t <= S_t^{1/2} + alpha B.    Minkowski; for each k, the block gradients move by at most Lambda
              times the way alpha r_{K+1} sqrt(d) before the visits (Lemma T), by L_i alpha r_k sqrt(d_i) inside (rho).
 bound    the second display for the n block epochs from every outcome of every x^s.   Minkowski over t: the root of
              the mean of K G_t^2 is at most that of the mean of S_t plus alpha B (the largest one of the orders that
              occur); telescope, f >= f*. QED

R is a hypothesis; unless one is given, the run takes the largest |gt_c| of all its outcomes, rounded up to two digits.
Controls: the floor's term dropped (from where D3 says that visits drift away); R halved; weights without bias
correction; h arithmetic with the s of the geometric mean; `cross` without its right side; bound divided by 8.
In the paper: thm:d1, proof in app:d1.
Source: |gt| <= R is of Defossez, Bottou, Bach, Usunier, arXiv 2003.02395; the rest of this project, no full search.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bcd import Adam
from theory.bounds.b2 import Constants, constants_of, require_betas
from theory.bounds.bound import Control, Statement, require_between
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
from theory.bounds.triangular import triangular_constant
from theory.ledger import Ledger, Terms
from theory.noise import TwoPoint, Visit
from theory.numbers import Array, dot, like, norm, sqrt
from theory.problems import Problem
from theory.problems.certified import OUTWARD
from theory.problems.quadratic import Quadratic
from theory.problems.validation import positive_integer
from theory.trajectory import require_order


@dataclass(frozen=True)
class D1Statement(Statement):
    """The statement of Theorem D1 or a false version of it.

    Attributes:
        constant: the right side of the theorem is divided by it.
        floor: factor of s^2 in N_ik.
        reach: factor of R.
        corrected: False computes rho_k with the weights of m without bias correction.
        arithmetic: h is the arithmetic mean, s as before.
        cross: factor of E_k in `cross`.
    """

    floor: float = 1.0
    reach: float = 1.0
    corrected: bool = True
    arithmetic: bool = False
    cross: float = 1.0


@dataclass(frozen=True)
class D1Constants:
    """The constants of the theorem in the arithmetic of the run.

    Attributes:
        s2: s^2.
        L: L_i, (D,).
        d: d_i, (D,).
        sigma2: sigma_i^2, (D,).
        of_b2: the constants of Theorem B2.
    """

    alpha: Any
    eps: Any
    R: Any
    s2: Any
    h: Any
    L: Array
    d: np.ndarray
    sigma2: Array
    of_b2: Constants

    @property
    def E(self) -> Array:  # noqa: N802, the letter of the theorem
        """(D, K)."""
        return (self.L * sqrt(self.d + 0 * self.L))[:, None] * self.of_b2.M  # + 0 L: d in the number type of L

    def errors(self, floor: float) -> dict[str, Array]:
        """The terms of N_ik, each of shape (D, K)."""
        a, omega2 = self.alpha, (self.of_b2.w**2).sum(axis=1)
        noise = floor * self.s2 * omega2 * self.sigma2[:, None]
        return {
            "noise": a * noise,
            "cross": a**2 * self.h * self.E * sqrt(self.sigma2)[:, None],
            "error": a**3 * self.E**2 / self.eps,
            "curvature": a**2 * (self.L * self.d)[:, None] * self.of_b2.rho**2 / 2,
        }


def floor(R: float, eps: float, inner_steps: int, beta1: float, sigma2: float) -> float:
    """What is left of the theorem's right side as alpha -> 0; sigma2 = sum_i sigma_i^2.

    omega_k^2 = (1 - b)(1 + b^k)/((1 + b)(1 - b^k)) with b = beta1.

    >>> round(floor(3.0, 1.0, 1, 0.0, 0.5), 6)
    1.0
    """
    power = beta1 ** np.arange(1, inner_steps + 1)
    omega2 = ((1 - beta1) * (1 + power) / ((1 + beta1) * (1 - power))).mean()
    return float(2 * ((1 + R / eps) ** 0.5 - 1) ** 2 * sigma2 * omega2)


def step_size(problem: Problem, rate: float) -> float:
    """alpha = rate ((f(x^0) - f*)/sum_i L_i d_i)^{1/2}."""
    total = float(problem.L_i @ np.array(problem.sizes))
    return rate * float(np.sqrt(problem.gap(problem.start[None])[0] / total))


class D1(StochasticBound):
    """Theorem D1."""

    theorem = "Theorem D1"
    leaves_out = WHY_SHORT
    true = D1Statement()

    def require(
        self,
        *,
        rate: float,
        eps: float,
        betas: tuple[float, float],
        inner_steps: int,
        sigma: float,
        p: float,
        order: str,
        R: float | None = None,
    ) -> None:
        """Raise ValueError unless Theorem D1 covers the setting.

        Args:
            rate: alpha in units of ((f(x^0) - f*)/sum_i L_i d_i)^{1/2}, positive.
            eps: Adam's, positive.
            betas: Adam's, beta1 in [0, 1) and beta2 in (0, 1).
            inner_steps: K.
            sigma: standard deviation of every coordinate's noise, so that sigma_i^2 = d_i sigma^2.
            p: probability of the larger outcome of the noise.
            order: a name in `ORDERS`.
            R: a bound of the noisy gradients; None: the run's own.
        """
        require_between("rate", rate, 0, np.inf, who=self.theorem)
        require_between("eps", eps, 0, np.inf, who=self.theorem)
        require_betas(betas, self.theorem)
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
        statement: D1Statement,
        *,
        epochs: int,
        rate: float,
        eps: float,
        betas: tuple[float, float],
        inner_steps: int,
        order: str,
        R: float | None = None,
        **_: Any,
    ) -> dict[str, Array]:
        K, x, alpha = inner_steps, data.start, step_size(problem, rate)
        rule = Adam(betas=(float(betas[0]), float(betas[1])), eps=float(eps))
        run = follow(data, noise, rule=rule, lr=alpha, inner_steps=K, epochs=epochs, order=order)
        size, reach = rounding(problem, run)
        R, e, one = like(statement.reach * bounded(run, R), x), like(eps, x), like(np.ones(1), x)
        low, high = 1 / sqrt(one * (R + e))[0], 1 / sqrt(one * e)[0]
        constants = D1Constants(
            like(alpha, x),
            e,
            R,
            (high - low) ** 2,
            (low**2 + high**2) / 2 if statement.arithmetic else low * high,
            like(problem.L_i, x),
            np.array(problem.sizes),
            np.array([noise.variance(x) * d_i for d_i in problem.sizes], dtype=x.dtype),
            constants_of(betas, K, x, corrected=statement.corrected),
        )
        errors = constants.errors(statement.floor)
        full, inner, drop = [], [], []
        parts = {name: term.sum() for name, term in errors.items()}
        paid = sum(parts.values())
        ways = [travelled(problem, [block for block, _ in epoch], constants.of_b2) * (1 + OUTWARD) for epoch in run]
        for way, epoch, roots in zip(ways, run, starts(run), strict=True):
            sums = []
            for block, tree in epoch:
                sums += self._visit(data, ledger, constants, statement, block, tree, roots, errors, size, reach)
            first = epoch[0][1].gradients[0]
            full.append(dot(first, first))
            drop.append(sum(each for each, _ in sums))
            inner.append(sum(each for _, each in sums))
            left = constants.alpha * inner[-1] / (2 * (constants.R + e))
            ledger.check("epoch", left, Terms(decrease=drop[-1], **parts), scale=size * reach + left + paid)
            moved = constants.alpha * like(way, x)
            right = Terms(gradients=sqrt(inner[-1]), drift=moved)
            ledger.check("gradient", sqrt(K * full[-1]), right, scale=size)

        moved = constants.alpha * like(max(ways), x)
        series = []
        for s, means in enumerate(running_means(run, full)):
            gap, n = data.gap(run[s][0][1].points[0]), np.arange(1, len(means) + 1)[:, None]
            spent = 2 * (constants.R + e) * (gap / (constants.alpha * n) + paid / constants.alpha)
            bound = (sqrt(spent) + moved) ** 2 / K / statement.constant
            ledger.check("bound", means, bound, scale=bound + size**2)
            series.append((means, bound))
        measured, bound = (values[:, 0] for values in series[0])
        least = floor(float(constants.R), eps, K, betas[0], float(constants.sigma2.sum()))
        return {"measured": measured, "bound": bound, "floor": np.full(len(measured), least)}

    def _visit(
        self,
        data: Problem,
        ledger: Ledger,
        constants: D1Constants,
        statement: D1Statement,
        block: int,
        tree: Visit,
        roots: Array,
        errors: Mapping[str, Array],
        size: float,
        reach: float,
    ) -> list[tuple[Any, Any]]:
        """The lines of one visit at every node; for each step E[f(z^{k-1}) - f(z^k) | x^t] and E[||g^k||^2 | x^t].

        Args:
            roots: probabilities of the outcomes of x^t; the lines in expectation hold for each of them.
        """
        rows, alpha, eps, h = data.slices[block], constants.alpha, constants.eps, constants.h
        L, E, lifted = constants.L[block], constants.E[block], constants.of_b2
        sigma2, sums = constants.sigma2[block], []
        true = [descended(g[:, rows], 1) for g in tree.gradients[:-1]]  # g^k at the nodes of level k
        for k in range(1, len(tree.used) + 1):
            w, rho, chance = lifted.w[k - 1][:k], lifted.rho[k - 1], tree.probability[k]
            m_hat, H, g = tree.m_hat[k - 1], tree.H[k - 1], true[k - 1]
            past, used = history(true, k), history(tree.used, k)
            e, n = np.tensordot(w, past - g, 1), np.tensordot(w, used - past, 1)
            ledger.equal("m_hat", m_hat, g + e + n, scale=size)
            ledger.check("H", 1 / (constants.R + eps), H, scale=H)
            ledger.check("H", H, 1 / eps, scale=H)
            ledger.check("rho", alpha * abs(H * m_hat), alpha * rho, scale=alpha)
            ledger.check("e", norm(e), alpha * E[k - 1], scale=size)
            drop = drops(data, tree, k)
            inner = alpha * dot(g, H * m_hat)
            added = alpha**2 * L * constants.d[block] * rho**2 / 2
            ledger.check("descent", inner, Terms(decrease=drop, step=added), scale=size * reach + abs(inner))
            g_H = dot(g, H * g)
            left = -dot(g, H * e) - dot(g, (H - h) * n)
            right = Terms(gradient=g_H / 2, error=dot(e, e) / eps, noise=constants.s2 * dot(n, n))
            ledger.check("young", left, right, scale=size**2 / eps)
            inner, square = conditional_mean(dot(g, n), chance, roots), conditional_mean(dot(n, n), chance, roots)
            right = statement.cross * alpha * E[k - 1] * sqrt(sigma2)
            ledger.check("cross", abs(inner), right, scale=size**2, zero=E[k - 1] == 0)
            ledger.equal("n", square, (w**2).sum() * sigma2, scale=size**2)
            mean, half = conditional_mean(drop, chance, roots), alpha / 2 * conditional_mean(g_H, chance, roots)
            right = Terms(decrease=mean, **{name: term[block, k - 1] for name, term in errors.items()})
            ledger.check("step", half, right, scale=size * reach + half)
            sums.append((mean, conditional_mean(dot(g, g), chance, roots)))
        return sums

    def controls(self) -> Iterator[Control]:
        """Near the minimum, where D3 finds a drift, and on parabolas."""
        near = Quadratic.from_matrix(np.eye(1), sizes=[1], start=np.array([0.3]))
        setting = {"eps": 0.1, "betas": (0.9, 0.999), "inner_steps": 1, "sigma": 1.0, "order": "cyclic", "epochs": 1}
        skewed = {**setting, "rate": 1e-6, "p": 0.3}
        yield self.control("floor dropped", "step", near, D1Statement(floor=0.0), most=math.inf, **skewed)
        yield self.control("R halved", "H", near, D1Statement(reach=0.5), **skewed)
        yield self.control("m without bias correction", "rho", near, D1Statement(corrected=False), most=10.5, **skewed)
        twice = {**setting, "rate": 0.3, "p": 0.5, "inner_steps": 2}
        yield self.control(
            "no dependence on older noise", "cross", near, D1Statement(cross=0.0), most=math.inf, **twice
        )

        # |g| = R nearly, and the noise has the sign of g
        top = Quadratic.from_matrix(np.eye(1), sizes=[1], start=np.array([1.0]))
        small = {**setting, "eps": 0.01, "sigma": 0.07, "p": 0.5, "rate": 1e-6}
        yield self.control("h arithmetic", "young", top, D1Statement(arithmetic=True), most=4.2, **small)
        far = Quadratic.from_matrix(np.eye(1), sizes=[1], start=np.array([10.0]))
        still = {**setting, "eps": 10.0, "sigma": 0.0, "p": 0.5, "rate": 0.28, "epochs": 10}
        yield self.control("bound divided by 8", "bound", far, D1Statement(constant=8.0), **still)


def travelled(problem: Problem, order: list[int], constants: Constants) -> float:
    """B of the theorem, in float64."""
    d, rho = np.array(problem.sizes), np.asarray(constants.rho, dtype=np.float64)
    before = np.cumsum(rho) - rho
    between = triangular_constant(problem, order) * rho.sum() * d.sum() ** 0.5
    return float(np.linalg.norm(between + before * np.sqrt(problem.L_i**2 @ d)))
