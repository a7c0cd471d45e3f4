"""Theorem C3: stochastic gradient descent in blocks under the Polyak-Lojasiewicz inequality.

Assumptions. Those of `theory.bounds.stochastic`, and ||grad f||^2 >= 2 mu_PL (f - f*), mu_PL > 0. A^t = f(x^t) - f*.
Either every visit draws its block uniformly ("uniform"; t counts visits), or every block epoch visits each block once,
in an order that is fixed before the noise (t counts block epochs; drift_K as in Theorem C2).

Theorem. With q = 1 - rate,

    uniform      E A^{t+1} <= q E A^t + N,  rate = 2 alpha mu_PL om/D,                     N = alpha^2 K V/(2D),
    any order    E A^{t+1} <= q E A^t + N,  rate = alpha K mu_PL om/(1 + alpha drift_K)^2,
                                            N = alpha^3 drift_K^2 s2 om/(1 + alpha drift_K)^2 + alpha^2 K V/2,

hence E A^t <= q^t A^0 + (1 - q^t) N/rate. The floor N/rate of the uniform choice is alpha K V/(4 mu_PL om).

Proof, by the lines of the ledger:
 PL      2 mu_PL E A^t <= E||grad f(x^t)||^2.                                          The assumption, in expectation.
 epoch   E A^{t+1} <= q E A^t + N.   uniform: line `random` of Theorem C1 and PL. Any order: squaring line `gradient`
             of Theorem C2, K E||grad f(x^t)||^2 <= 2(1 + alpha drift_K)^2 S + 2 alpha^2 drift_K^2 s2 with its
             S = sum_{i,k} E||g_i^k||^2; insert S from line `epoch` of C2, then PL.
 bound   E A^n <= q^n A^0 + (1 - q^n) N/rate for every n <= T.                      Geometric sum; 0 <= q < 1. QED

q >= 0: without noise N = 0 with the same q, and `epoch` says 0 <= A^1 <= q A^0 if A^0 > 0. It is checked too.

Cases of equality: f = (L/2) x^2 on one block, K = 1, uniform: every line, with every noise of variance sigma^2.
Where mu_PL << L the floor is far above the true one: for scalar blocks with A_ii = l and sigma_i = sigma,
alpha sigma^2/(2 - alpha l) A^{-1} is invariant under the step of every single block, so that every order has the same
stationary E A = d alpha sigma^2/(2(2 - alpha l)), whatever the coupling.
Controls: the floor halved; the noise term halved; mu_PL doubled.
In the paper: thm:c3, proof in app:c3.
Source: the PL argument for stochastic gradient descent is classical (Karimi, Nutini and Schmidt, arXiv 1608.04636).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from theory.bounds.bound import Control, Statement
from theory.bounds.stochastic import SGDConstants, StochasticBound, constants_of, drift, require_quadratic
from theory.ledger import Ledger, Terms
from theory.noise import SecondMoment, TwoPoint
from theory.numbers import Array, like
from theory.problems import Problem
from theory.problems.quadratic import Quadratic
from theory.trajectory import ORDERS, require_order

UNIFORM = "uniform"


@dataclass(frozen=True)
class C3Statement(Statement):
    """The statement of Theorem C3 or a false version of it.

    Attributes:
        constant: factor of the noise term N.
        pl: factor of mu.
    """

    pl: float = 1.0


def rate_and_noise(
    problem: Problem, constants: SGDConstants, order: tuple[int, ...] | None, K: int, statement: Statement
) -> tuple[Any, Any]:
    """rate and N of the theorem for one visit of a uniformly random block (order None) or one block epoch."""
    D, alpha, om, V = len(constants.L), constants.alpha, constants.om, constants.V
    mu = like(problem.pl * getattr(statement, "pl", 1.0), constants.L)
    if order is None:
        return 2 * alpha * mu * om / D, statement.constant * alpha**2 * K * V / (2 * D)
    moved = alpha * like(drift(problem, order, K), constants.L)
    noise = alpha * moved**2 * constants.s2 * om / (1 + moved) ** 2 + alpha**2 * K * V / 2
    return alpha * K * mu * om / (1 + moved) ** 2, statement.constant * noise


class C3(StochasticBound):
    """Theorem C3."""

    theorem = "Theorem C3"
    true = C3Statement()

    def require(self, *, gamma: float, inner_steps: int, sigma: float, order: str) -> None:
        """Raise ValueError unless Theorem C3 covers the setting.

        Args:
            gamma: the step size times L_max, in (0, 2).
            inner_steps: K.
            sigma: standard deviation of every coordinate's noise, so that sigma_i^2 = d_i sigma^2.
            order: "uniform" or a name in `ORDERS`.
        """
        self.require_common(gamma, inner_steps, sigma)
        if order != UNIFORM:
            require_order(order)

    def require_problem(self, problem: Problem) -> None:
        if not problem.pl > 0:
            raise ValueError(f"pl={problem.pl} is not possible: Theorem C3 needs a PL constant above 0")
        require_quadratic(problem, self.theorem)

    def prove_in_mean(
        self,
        problem: Problem,
        data: Any,
        noise: TwoPoint,
        ledger: Ledger,
        statement: C3Statement,
        *,
        epochs: int,
        gamma: float,
        inner_steps: int,
        order: str,
        **_: Any,
    ) -> dict[str, Array]:
        """T = epochs visits of a random block, or epochs block epochs."""
        D, K, state = len(problem.sizes), inner_steps, SecondMoment(data, noise)
        constants = constants_of(data, noise, gamma)
        stream = None if order == UNIFORM else ORDERS[order](problem.parameters.get("seed") or 0)
        gaps, squares, rates, noises = [state.gap()], [state.squares().sum()], [], []
        for _time in range(epochs):
            blocks = None
            if stream is None:
                state = state.mixed([state.visit(block, constants.alpha, K)[-1] for block in range(D)])
            else:
                blocks = tuple(stream.next_visit(D)[0] for _place in range(D))
                for block in blocks:
                    state = state.visit(block, constants.alpha, K)[-1]
            each_rate, each_noise = rate_and_noise(problem, constants, blocks, K, statement)
            rates.append(each_rate)
            noises.append(each_noise)
            gaps.append(state.gap())
            squares.append(state.squares().sum())
        measured, square, rate, floor = map(np.array, (gaps, squares, rates, noises))
        if not ((rate > 0) & (rate <= 1)).all() and statement == self.true:
            raise ValueError(f"rate={rate.max()} is not possible: the proof needs a number in (0, 1]")
        mu = like(problem.pl * statement.pl, constants.L)
        ledger.check("PL", 2 * mu * measured, square, scale=square + measured)
        right = Terms(contracted=(1 - rate) * measured[:-1], noise=floor)
        ledger.check("epoch", measured[1:], right, scale=measured[:-1] + floor)
        bound = [measured[0]]
        for one, added in zip(rate, floor, strict=True):  # rate and noise follow the order of the epoch
            bound.append((1 - one) * bound[-1] + added)
        bound = np.array(bound)
        left = measured[0] * np.cumprod(1 - rate)
        ledger.check("bound", measured[1:], Terms(start=left, noise=bound[1:] - left), scale=bound[1:])
        return {"measured": measured, "bound": bound}

    def controls(self) -> Iterator[Control]:
        line = Quadratic.from_matrix(np.eye(1), sizes=[1], start=np.array([1.0]))
        setting = {"gamma": 0.5, "inner_steps": 1, "sigma": 1.0, "order": UNIFORM}
        yield self.control("floor halved", "bound", line, C3Statement(constant=0.5), **setting, epochs=100)
        yield self.control("noise term halved", "epoch", line, C3Statement(constant=0.5), **setting, epochs=50)
        quiet = {**setting, "sigma": 0.0, "gamma": 0.25, "epochs": 4}
        yield self.control("mu doubled", "epoch", line, C3Statement(pl=2.0), most=4.6, **quiet)
        yield self.control("mu doubled", "PL", line, C3Statement(pl=2.0), **quiet)
