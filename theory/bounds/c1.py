"""Theorem C1: stochastic gradient descent on a uniformly random block for K steps, smooth and possibly nonconvex f.

Assumptions. Those of `theory.bounds.stochastic`; L_i, f* as in `theory.problems.Problem`. Visit t = 0, 1, ... draws
its block uniformly from the D blocks, independently of the past, and takes K steps there.

Theorem. For every t and T

    E f(x^{t+1}) <= E f(x^t) - (alpha om/D) E||grad f(x^t)||^2 + alpha^2 K V/(2D),
    (1/T) sum_{t<T} E||grad f(x^t)||^2 <= ( D Delta/(alpha T) + alpha K V/2 )/om,

and with alpha = min{ 1/L_max, sqrt(2 D Delta/(T K V)) } the right side is at most
2 L_max D Delta/T + 2 sqrt(2 D Delta K V/T).

Proof, by the lines of the ledger; in the first two the block i is given:
 step    alpha om E||g^k||^2 <= E f(z^{k-1}) - E f(z^k) + alpha^2 L_i sigma_i^2/2.  Descent lemma in block i; the noise
             is orthogonal to z^{k-1} in expectation, and 1 - alpha L_i/2 >= om.
 visit   alpha om E||g_i^1||^2 <= E f(x^t) - E f(z^K) + alpha^2 K L_i sigma_i^2/2.  Sum over k; drop k > 1.
 random  (alpha om/D) E||grad f(x^t)||^2 <= E f(x^t) - E f(x^{t+1}) + alpha^2 K V/(2D).  Mean over i: at the start of
             the visit, g_i^1 = grad_i f(x^t).
 bound   the second display with T replaced by every n <= T.   Sum of `random`, f >= f*.
 tuned   the last claim for every n <= T.   om >= 1/2, and 1/alpha <= L_max + sqrt(n K V/(2 D Delta)). QED

Only the first gradient of a visit is used: for K > 1 the theorem is pessimistic, C2 is not.
Cases of equality: f = (L/2) x^2 on one block, K = 1, any noise with variance sigma^2 (step, visit, random).
Controls: the constant halved; the expectation read as a statement on every path of the noise.
In the paper: thm:c1, proof in app:c1.
Source: the classical analysis of stochastic gradient descent (Ghadimi and Lan, arXiv 1309.5549), here with random
blocks and visits of K steps.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from bcd import SGD
from theory.bounds.bound import Control, Statement
from theory.bounds.stochastic import SGDConstants, Steps, StochasticBound, check_steps, constants_of, require_quadratic
from theory.ledger import Ledger, Terms
from theory.noise import SecondMoment, TwoPoint, grow
from theory.numbers import Array, like, sqrt
from theory.problems import Problem
from theory.problems.quadratic import Quadratic


@dataclass(frozen=True)
class C1Statement(Statement):
    """The statement of Theorem C1 or a false version of it.

    Attributes:
        constant: factor of the noise term of every line.
        pathwise: claim the bound on every path of the noise.
    """

    pathwise: bool = False


class C1(StochasticBound):
    """Theorem C1."""

    theorem = "Theorem C1"
    true = C1Statement()

    def require(self, *, gamma: float, inner_steps: int, sigma: float) -> None:
        """Raise ValueError unless Theorem C1 covers the setting.

        Args:
            gamma: the step size times L_max, in (0, 2).
            inner_steps: K.
            sigma: standard deviation of every coordinate's noise, so that sigma_i^2 = d_i sigma^2.
        """
        self.require_common(gamma, inner_steps, sigma)

    def require_problem(self, problem: Problem) -> None:
        require_quadratic(problem, self.theorem)

    def prove_in_mean(
        self,
        problem: Problem,
        data: Any,
        noise: TwoPoint,
        ledger: Ledger,
        statement: C1Statement,
        *,
        epochs: int,
        gamma: float,
        inner_steps: int,
        **_: Any,
    ) -> dict[str, Array]:
        """T = epochs visits."""
        D, K, state = len(problem.sizes), inner_steps, SecondMoment(data, noise)
        constants = constants_of(data, noise, gamma)
        alpha, om, added = constants.alpha, constants.om, statement.constant * constants.alpha * constants.V * K / 2
        gaps, squares, visits = [state.gap()], [state.squares().sum()], []
        for _visit in range(epochs):
            each = [state.visit(block, alpha, K) for block in range(D)]
            visits += list(enumerate(each))
            state = state.mixed([states[-1] for states in each])
            gaps.append(state.gap())
            squares.append(state.squares().sum())
        self._visits(ledger, Steps.of_moments(visits), constants, statement, K)
        gap, square, n = np.array(gaps), np.array(squares), np.arange(1, len(gaps))
        right = Terms(decrease=gap[:-1] - gap[1:], noise=alpha / D * added)
        ledger.check("random", alpha * om / D * square[:-1], right, scale=gap[:-1] + gap[1:] + alpha * added)

        measured = np.cumsum(square[:-1]) / n
        if statement.pathwise:
            measured = worst_path(data, noise, alpha, K, len(n))
        right = Terms(gap=D * gap[0] / (alpha * n) / om, noise=added / om)
        bound = right.total()
        ledger.check("bound", measured, right, scale=bound)
        if constants.V > 0:
            self._tuned(ledger, constants, gap[0], D, K, n)
        return {"measured": measured, "bound": bound}

    def _visits(self, ledger: Ledger, steps: Steps, constants: SGDConstants, statement: C1Statement, K: int) -> None:
        """The lines of a visit, its block given."""
        check_steps(ledger, steps, constants, statement)
        added = statement.constant * constants.alpha**2 * K * (constants.L * constants.sigma2)[steps.blocks] / 2
        left = constants.alpha * constants.om * steps.square[:, 0]
        right = Terms(decrease=steps.drop.sum(axis=1), noise=added)
        ledger.check("visit", left, right, scale=steps.scale.sum(axis=1) + added)

    def _tuned(self, ledger: Ledger, constants: SGDConstants, gap: Any, D: int, K: int, n: Array) -> None:
        n = like(n.astype(float), constants.L)
        alpha = np.minimum(1 / constants.L_max, sqrt(2 * D * gap / (n * K * constants.V)))
        left = (D * gap / (alpha * n) + alpha * K * constants.V / 2) / (1 - alpha * constants.L_max / 2)
        fast, slow = 2 * constants.L_max * D * gap / n, 2 * sqrt(2 * D * gap * K * constants.V / n)
        ledger.check("tuned", left, Terms(fast=fast, slow=slow), scale=fast + slow)

    def controls(self) -> Iterator[Control]:
        line = Quadratic.from_matrix(np.eye(1), sizes=[1], start=np.array([1.0]))
        setting = {"gamma": 1.0, "inner_steps": 1, "sigma": 1.0}
        floor = {**setting, "epochs": 100}
        yield self.control("noise term halved", "bound", line, C1Statement(constant=0.5), **floor)
        yield self.control(
            "noise term dropped", "step", line, C1Statement(constant=0.0), most=math.inf, **{**setting, "epochs": 4}
        )
        still = Quadratic.from_matrix(np.eye(1), sizes=[1], start=np.array([0.01]))
        paths = {"gamma": 1.0, "inner_steps": 1, "sigma": 1.0, "epochs": 8, "noise": TwoPoint.of(0.02, 1.0)}
        yield self.control("expectation read pathwise", "bound", still, C1Statement(pathwise=True), most=45.0, **paths)


def worst_path(problem: Problem, noise: TwoPoint, alpha: Any, inner_steps: int, visits: int) -> Array:
    """max over the paths of (1/n) sum_{t<n} ||grad f(x^t)||^2, n = 1, ..., visits, for one block."""
    points, chance, sums, worst = problem.start[None], np.ones(1), np.zeros(1), []
    for n in range(1, visits + 1):
        sums = sums + (problem.gradient(points) ** 2).sum(axis=1)
        worst.append(sums.max() / n)
        if n < visits:
            tree = grow(problem, points, chance, block=0, inner_steps=inner_steps, rule=SGD(), lr=alpha, noise=noise)
            points, chance = tree.points[-1], tree.probability[-1]
            sums = np.repeat(sums, 2**inner_steps)
    return np.array(worst)
