"""Theorem D3: the mean step of stochastic BAdam with K steps a visit vanishes at a distance from the minimum.

Setting. f(x) = (L/2) x^2, one block; the gradients are g + s_j with the two-point noise of `theory.mean_field`: up
with probability p < 1/2, -b otherwise, mean 0, standard deviation 1; b1 = 0.9, b2 = 0.999, state reset at every visit;
0 < eps <= 1e-3 and eps <= b/(20 r) with r = p/(1-2p). As alpha -> 0 a visit from gradient g moves x by -alpha F_K(g)
on average.

Constants. Skewness S = (1-2p)/sqrt(p(1-p)), b = sqrt(p/(1-p)), and with the weights w, u of the two moments

    h_K = (S/(2K)) sum_{k<=K} sum_{j<=k} w_kj u_kj,        c_K = min{ h_K, 0.95 b }.

Statement. F_K < 0 on [0, c_K], and F_K(b) >= 0: the mean field vanishes at a gradient g* in (c_K, b] and is negative
at every gradient in [0, c_K], 0 included: from the minimum itself the visits drift away. At p = 1/2 it is odd and
vanishes at 0 exactly (D4). Proved for K = 1, and at 0 for every K (so that g* > 0); the rest is computed.
What it does not say: F_K is the limit alpha -> 0 and has no alpha in it. For a fixed alpha nothing is proved, nor that
runs stay near g*, nor that the zero is unique. There is a floor, sigma ln(K)/K times the skewness for the gradient;
that of Theorem D1 is larger by many orders for small eps.

Proof, by the lines of the ledger:
 odd     F_K(g; p) = -F_K(-g; 1-p).                 Reflection of every sample. At p = 1/2: F_K(0) = 0 (D4).
 drift   F_K(g) < 0 for g in [0, c_K].              K = 1: F_1(g) = p y/(y+eps) - (1-p) z/(z+eps) with y = g + up and
             z = b - g; y/(y+eps) < 1 and z/(z+eps) >= p/(1-p) as soon as z >= eps r, so F_1 < 0 on
             [0, b - eps r], which contains c_1. Any K at g = 0: with the other samples fixed and v their part of
             v_hat, E s_j/(sqrt(v + u_kj s_j^2) + eps) is (p/b)(1/(sqrt(v + u_kj/b^2) + eps) - 1/(sqrt(v + u_kj b^2)
             + eps)) < 0, as 1/b > b. K > 1, g > 0: NOT proved; the exact expectation of all outcomes is evaluated
             on a grid of [0, c_K].
 ceiling F_K(g) >= 0 for g >= b.                    All samples are at least 0 there.
 path    E(x^K - x^0) > 0 for the true visit from the minimum x^0 = 0, at ten small but positive alpha: noise tree in
             which g follows x; for K <= 10. No part of the proof of the other lines.
 floor   c_n <= g* for n = K, ..., K+7.             F_n is continuous for eps > 0: intermediate value theorem. QED

h_K is what a first-order expansion of 1/sqrt(v_hat) in the noise gives, E[m_hat^k/sqrt(v_hat^k)] = g - (1/2) E s^3
sum_j w_kj u_kj + ...: about (S/2) ln(K)/K, since w_kj u_kj sums to about 1/k. Measured at p = 0.3: g*/h_K = 1.28,
1.16, 1.07 for K = 25, 50, 200. The floor falls with K and with the skewness, not with alpha.
Controls: h_K doubled; symmetric noise with a floor; a floor that is proportional to alpha.
In the paper: thm:d3, proof in app:d3.
Source: proved and computed in this project. That Adam with noise can miss the minimum is known: Reddi, Kale and Kumar,
arXiv 1904.09237, for an online sequence; Dereich, Do, Jentzen and von Wurstemberger, arXiv 2511.06675, for Adam
without resets on quadratics, if and only if the data are not symmetric. Searched in public web pages for the same
with resets and for its dependence on K: not found.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.optimize

from bcd import Adam
from theory.bounds.bound import Bound, Control, Outcome, Statement, require_between
from theory.ledger import Ledger
from theory.mean_field import DEEPEST, parts, zero
from theory.moments import weights
from theory.noise import TwoPoint, grow
from theory.numbers import Array
from theory.problems import Problem
from theory.problems.quadratic import Quadratic
from theory.problems.validation import positive_integer

BETAS = (0.9, 0.999)
GRID = 8
"""Gradients of [0, c_K] at which the lines are evaluated."""

ALPHAS = 10
"""Step sizes of the line `path`, from 1e-6/L to 1e-4/L."""

LARGE_SMALL = (0.1, 0.005)
"""Two step sizes times L."""

CURVE = (1, 2, 3, 4, 8, 12, 25, 50, 100, 200)
"""K of the figure."""


@dataclass(frozen=True)
class D3Statement(Statement):
    """The statement of Theorem D3 or a false version of it.

    Attributes:
        constant: divisor of c_K, so that 0.5 claims twice the floor.
        reach: claim F_K < 0 on [0, reach] instead of [0, c_K].
        linear: claim in the line `floor` that the zero of the true visit is O(alpha): proportional, for `LARGE_SMALL`.
    """

    reach: float | None = None
    linear: bool = False


def first_order(p: float, inner_steps: int) -> float:
    """h_K of the statement.

    >>> round(first_order(0.3, 200), 4)
    0.013
    """
    skewness = (1 - 2 * p) / (p * (1 - p)) ** 0.5
    products = weights(BETAS[0], inner_steps) * weights(BETAS[1], inner_steps)
    return float(skewness / (2 * inner_steps) * products.sum())


def floor(p: float, inner_steps: int) -> float:
    """c_K of the statement."""
    return min(first_order(p, inner_steps), 0.95 * (p / (1 - p)) ** 0.5)


class D3(Bound):
    """Theorem D3."""

    precise = False  # roots of an integral; the two sides of every line are far apart
    kind = "lower"
    true = D3Statement()

    def require(self, *, p: float, inner_steps: int, eps: float) -> None:
        """Raise ValueError unless Theorem D3 covers the setting.

        Args:
            p: probability of the larger outcome, below 1/2.
            inner_steps: K.
            eps: Adam's, at most 1e-3 and b/(20 r).
        """
        require_between("p", p, 0, 0.5, who="Theorem D3: skewed noise")
        positive_integer("inner_steps", inner_steps)
        down, slope = (p / (1 - p)) ** 0.5, p / (1 - 2 * p)
        # the interval is open, and 1e-3 itself is covered
        require_between("eps", eps, 0, min(1.001e-3, 0.05 * down / slope), who="Theorem D3")

    def require_problem(self, problem: Problem) -> None:
        if not isinstance(problem, Quadratic) or len(problem.start) != 1 or problem.linear[0] != 0:
            raise ValueError(f"parameters={problem.parameters} are not possible: Theorem D3 is about (L/2) x^2")

    def evaluate(
        self,
        problem: Problem,
        *,
        arithmetic: str = "float64",
        statement: Any = None,
        epochs: int | None = None,
        label: str = "",
        keep_series: bool = False,
        **setting: Any,
    ) -> Outcome:
        """Every line at one (p, K, eps); measured is g*, bound is c_K. Nothing depends on `epochs`.

        Raises:
            ValueError: when the setting is outside the hypotheses, or for another arithmetic or problem.
        """
        if arithmetic != "float64":
            raise ValueError(f"arithmetic={arithmetic!r} is not possible: Theorem D3 is evaluated in float64")
        if statement is None:
            self.check_setting(setting)
        self.require_problem(problem)
        claim = statement or self.true
        ledger = Ledger(label, keep_series=keep_series, stronger=claim.stronger)
        measured, bound = self._lines(problem, ledger, claim, **setting)
        return self.outcome(np.array([measured]), np.array([bound]), ledger)

    def _lines(
        self,
        problem: Problem,
        ledger: Ledger,
        statement: Any,
        *,
        p: float,
        inner_steps: int,
        eps: float,
        further: int = GRID,
    ) -> tuple[float, float]:
        K, noise, mirrored = inner_steps, TwoPoint.of(p, 1.0), TwoPoint.of(1 - p, 1.0)
        bound = floor(p, K) / statement.constant
        reach = bound if statement.reach is None else statement.reach
        grid = np.linspace(0, min(reach, 1.0), GRID)
        both = np.array([parts(g, noise, K, BETAS, eps) for g in grid])
        reflected = np.array([parts(-g, mirrored, K, BETAS, eps) for g in grid])
        ledger.equal("odd", both[:, 1] - both[:, 0], reflected[:, 0] - reflected[:, 1], scale=both.sum(axis=1))
        ledger.check("drift", both[:, 0], both[:, 1], scale=both.sum(axis=1))
        down = -noise.outcomes(np.ones(1))[0][1]
        above = np.array([parts(g, noise, K, BETAS, eps) for g in down * np.linspace(1, 2, GRID)])
        ledger.check("ceiling", above[:, 1], above[:, 0], scale=above.sum(axis=1))
        if K <= DEEPEST:
            steps = np.geomspace(1e-6, 1e-4, ALPHAS) / problem.L
            moved = np.array([displaced(problem, 0.0, noise, K, eps, alpha=alpha) for alpha in steps])
            ledger.check("path", moved[:, 1], moved[:, 0], scale=moved.sum(axis=1))
        if statement.linear:
            large, small = (visit_zero(problem, noise, K, eps, alpha / problem.L) for alpha in LARGE_SMALL)
            ledger.check("floor", [small], [large * LARGE_SMALL[1] / LARGE_SMALL[0]], scale=large)
            return small, large
        later = range(K, K + further)
        bounds = np.array([floor(p, n) for n in later]) / statement.constant
        zeros = np.array([zero(noise, n, BETAS, eps) for n in later])
        ledger.check("floor", bounds, zeros, scale=zeros + eps)
        measured = float(zeros[0])
        return measured, bound

    def showcase(self, problem: Problem) -> Outcome | None:
        """The curve of the floor against K, `CURVE` in the place of the block epochs."""
        if not self.example:
            return None
        setting = {name: value for name, value in self.example.items() if name != "epochs"}
        ledger, curve = Ledger("showcase", keep_series=True), []
        for K in CURVE:
            curve.append(self._lines(problem, ledger, self.true, **{**setting, "inner_steps": K}, further=1))
        measured, bound = (np.array(column) for column in zip(*curve, strict=True))
        outcome = self.outcome(measured, bound, ledger)
        outcome.series["inner_steps"] = [float(K) for K in CURVE]
        outcome.series["first_order"] = [first_order(setting["p"], K) for K in CURVE]
        return outcome

    def controls(self) -> Iterator[Control]:
        line = Quadratic.from_matrix(np.eye(1), sizes=[1], start=np.ones(1))
        long = {"p": 0.3, "inner_steps": 24, "eps": 1e-8}
        yield self.control("floor doubled", "floor", line, D3Statement(constant=0.5), **long)
        yield self.control("floor doubled", "drift", line, D3Statement(constant=0.5), **long)
        short = {**long, "inner_steps": 4}
        yield self.control("floor is O(alpha)", "floor", line, D3Statement(linear=True), most=28.0, **short)
        even = D3Statement(reach=0.1)
        symmetric = {"p": 0.5, "inner_steps": 8, "eps": 1e-8}
        yield self.control("floor under symmetric noise", "drift", line, even, true={"p": 0.3}, **symmetric)


def displaced(
    problem: Problem, start: float, noise: TwoPoint, inner_steps: int, eps: float, *, alpha: float
) -> tuple[float, float]:
    """E max(x^K - x^0, 0) and E max(x^0 - x^K, 0) of one visit from x^0 = start, along all outcomes."""
    rule = Adam(betas=BETAS, eps=eps)
    root: Array = np.full((1, 1), start)
    tree = grow(problem, root, np.ones(1), block=0, inner_steps=inner_steps, rule=rule, lr=alpha, noise=noise)
    moved, chance = tree.points[-1][:, 0] - start, tree.probability[-1]
    return float(chance @ np.maximum(moved, 0)), float(chance @ np.maximum(-moved, 0))


def visit_zero(problem: Problem, noise: TwoPoint, inner_steps: int, eps: float, alpha: float) -> float:
    """The gradient L x^0 from which one true visit with step size alpha does not move on average."""

    def drift(start: float) -> float:
        away, back = displaced(problem, start, noise, inner_steps, eps, alpha=alpha)
        return back - away

    x = scipy.optimize.brentq(drift, -2 / problem.L, 2 / problem.L, xtol=1e-12)
    return float(problem.L * x)  # pyright: ignore[reportArgumentType, reportOperatorIssue]
