"""Theorem C2: stochastic gradient descent in blocks, K steps a visit, in any order fixed before the noise.

Assumptions. Those of `theory.bounds.stochastic`; L, L_i, L_ij, f* as in `theory.problems.Problem`. Block epoch t
visits every block once; its order may depend on anything but the noise of this epoch. Lambda from Lemma T
(`theory.bounds.triangular`).

Constants. drift_K = min{ K Lambda + L_max sqrt(K(K-1)/2), L sqrt(K^2 (D-1) + K(K-1)/2) }, the largest one of the
orders that occur; G_t = (E||grad f(x^t)||^2)^{1/2}; S_t = sum_{i,k} E||g_i^{t,k}||^2.

Theorem. For every T

    (1/T) sum_{t<T} G_t^2
        <= (1/K) ( (1 + alpha drift_K) ((Delta/(alpha T) + alpha K V/2)/om)^{1/2} + alpha drift_K s2^{1/2} )^2.

Proof, by the lines of the ledger:
 step      alpha om E||g^k||^2 <= E f(z^{k-1}) - E f(z^k) + alpha^2 L_i sigma_i^2/2.    As in Theorem C1.
 epoch     alpha om S_t <= E f(x^t) - E f(x^{t+1}) + alpha^2 K V/2.                     Sum over the steps.
 drift     (sum_{i,k} E||grad_i f(x^t) - g_i^{t,k}||^2)^{1/2} <= alpha drift_K (S_t^{1/2} + s2^{1/2}).
               First form: for each k, Lemma T moves the block gradients up to the visits by at most
               Lambda (sum_i ||u_i||^2)^{1/2}, and inside the visit ||g_i^1 - g_i^k|| <= L_i ||sum_{l<k} Dx_i^l||.
               Split Dx = -alpha g - alpha xi. The gradients: Cauchy-Schwarz. The noise: its steps are orthogonal in
               L^2, so that E||sum_{l<k} xi^l||^2 <= (k-1) sigma_i^2. Second form: ||grad_i f(x^t) - g_i^k|| <= L times
               the length of the way from x^t, for which the same split is made.
 gradient  sqrt(K) G_t <= (1 + alpha drift_K) S_t^{1/2} + alpha drift_K s2^{1/2}.       `drift`, triangle inequality.
 bound     the theorem with T replaced by every n <= T.   Minkowski over t: the root of the mean of K G_t^2 is at most
               (1 + alpha drift_K) times that of the mean of S_t, plus alpha drift_K s2^{1/2}. Insert `epoch`,
               telescope, f >= f*. QED

Unlike C1 all K gradients of a visit are used: the term Delta/(alpha T) is divided by K. A fixed order has no
bias, as long as the noise is unbiased given the past, and its drift adds O(alpha^{3/2}) to a floor of order alpha.
On quadratics the moments have a recursion; on other problems, nonconvex ones too, all outcomes of two-point noise are
followed over as many block epochs as fit into `theory.bounds.trees.DEPTH` steps.

Cases of equality: one block, (L/2) x^2, K = 1: step, epoch (drift_K = 0, and `gradient` is an identity).
Controls: drift halved or dropped; the noise term halved; the displacement by the noise dropped; the bound
halved.
In the paper: thm:c2, proof in app:c2.
Source: C1's argument with the drift of a fixed order; proved in this project (constants), after the analysis of
deterministic blocks in BAdam (arXiv 2404.02827).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from bcd import SGD
from theory.bounds.bound import Control, Statement
from theory.bounds.stochastic import Steps, StochasticBound, check_steps, constants_of, drift
from theory.bounds.trees import WHY_SHORT, affordable, descended, drops, follow, rounding
from theory.ledger import Ledger, Terms
from theory.noise import Epoch, SecondMoment, TwoPoint
from theory.numbers import Array, dot, like, sqrt
from theory.problems import Problem
from theory.problems.quadratic import Quadratic
from theory.trajectory import ORDERS, require_order


@dataclass(frozen=True)
class C2Statement(Statement):
    """The statement of Theorem C2 or a false version of it.

    Attributes:
        constant: factor of the noise alpha^2 K V/2.
        drift: factor of drift_K.
        moved: factor of s2 in `drift`.
        whole: factor of the right side of `bound`.
    """

    drift: float = 1.0
    moved: float = 1.0
    whole: float = 1.0


@dataclass(frozen=True)
class Run:
    """T block epochs; arrays without another shape have one number an epoch, shape (T,).

    Attributes:
        gap: f(x^0) - f*.
        drop: E f(x^t) - E f(x^{t+1}).
        scale: rounding scale of `drop`.
        full: G_t^2.
        inner: S_t.
        moved: the squared left side of `drift`.
        orders: the blocks in the order of each epoch.
        steps: of all visits.
    """

    gap: Any
    drop: Array
    scale: Array
    full: Array
    inner: Array
    moved: Array
    orders: list[tuple[int, ...]]
    steps: Steps


class C2(StochasticBound):
    """Theorem C2."""

    theorem = "Theorem C2"
    leaves_out = (
        f"on quadratics only the variance of the noise matters, so that one p is enough; elsewhere {WHY_SHORT}"
    )
    true = C2Statement()

    def require(self, *, gamma: float, inner_steps: int, sigma: float, order: str, p: float = 0.5) -> None:
        """Raise ValueError unless Theorem C2 covers the setting.

        Args:
            gamma: the step size times L_max, in (0, 2).
            inner_steps: K.
            sigma: standard deviation of every coordinate's noise, so that sigma_i^2 = d_i sigma^2.
            order: a name in `ORDERS`.
            p: probability of the larger outcome of the noise.
        """
        self.require_common(gamma, inner_steps, sigma)
        TwoPoint.of(p, sigma)
        require_order(order)

    def settings(self, problem: Problem) -> Iterator[dict[str, Any]]:
        every = super().settings(problem)
        if not isinstance(problem, Quadratic):
            return affordable(problem, every)
        # moments know nothing of the noise but its variance
        return (setting for setting in every if setting.get("p") in (None, *self.grid.get("p", [])[:1]))

    def prove_in_mean(
        self,
        problem: Problem,
        data: Any,
        noise: TwoPoint,
        ledger: Ledger,
        statement: C2Statement,
        *,
        epochs: int,
        gamma: float,
        inner_steps: int,
        order: str,
        **_: Any,
    ) -> dict[str, Array]:
        """T = epochs block epochs."""
        K, constants = inner_steps, constants_of(data, noise, gamma)
        alpha, om = constants.alpha, constants.om
        way = by_moments if isinstance(problem, Quadratic) else by_trees
        run = way(problem, data, noise, alpha, K, epochs, order)
        check_steps(ledger, run.steps, constants, statement)
        added = statement.constant * alpha**2 * K * constants.V / 2
        right = Terms(decrease=run.drop, noise=added)
        ledger.check("epoch", alpha * om * run.inner, right, scale=run.scale + added)

        each = np.array([drift(problem, blocks, K) for blocks in run.orders]) * statement.drift
        moved, length = alpha * like(each, constants.L), sqrt(run.inner)
        noisy = sqrt(statement.moved * np.array([constants.s2]))
        size = length + noisy
        right = moved * (length + noisy)
        # the left side is the root of a difference of moments, each rounded at the size of the gradients
        ledger.check("drift", run.moved, right**2, scale=K * run.full + run.inner + right**2)
        left = sqrt(K * run.full)
        right = Terms(gradients=length, drift=moved * length, noise=moved * noisy)
        ledger.check("gradient", left, right, scale=left + size)

        n, worst = np.arange(1, len(run.full) + 1), np.maximum.accumulate(moved)
        measured = np.cumsum(run.full) / n
        length = sqrt((run.gap / (alpha * n) + added / alpha) / om)
        bound = statement.whole * ((1 + worst) * length + worst * sqrt(np.array([constants.s2]))) ** 2 / K
        ledger.check("bound", measured, bound, scale=bound)
        return {"measured": measured, "bound": bound}

    def controls(self) -> Iterator[Control]:
        line = Quadratic.from_matrix(np.eye(1), sizes=[1], start=np.array([1.0]))
        once = {"inner_steps": 1, "order": "cyclic"}
        noisy = {**once, "sigma": 1.0, "gamma": 1.0, "epochs": 20}
        yield self.control("noise term halved", "step", line, C2Statement(constant=0.5), **noisy)
        yield self.control("noise term halved", "epoch", line, C2Statement(constant=0.5), **noisy)
        long = {**noisy, "epochs": 100}
        yield self.control("bound halved", "bound", line, C2Statement(whole=0.5), **long)

        pair = Quadratic.from_matrix(np.array([[1.0, 0.9], [0.9, 1.0]]), sizes=[1, 1], start=np.array([1.0, -1.0]))
        quiet = {**once, "sigma": 0.0, "gamma": 1.0, "epochs": 2}
        yield self.control("drift halved", "drift", pair, C2Statement(drift=0.5), **quiet)
        ahead = Quadratic.from_matrix(pair.matrix, sizes=[1, 1], start=np.array([-1.0, 1.9]))
        yield self.control("drift dropped", "gradient", ahead, C2Statement(drift=0.0), **quiet)
        still = Quadratic.from_matrix(pair.matrix, sizes=[1, 1], start=np.array([0.0, 0.0]))
        yield self.control(
            "noise moves nothing", "drift", still, C2Statement(moved=0.0), **{**quiet, "sigma": 1.0, "epochs": 1}
        )


def by_moments(problem: Problem, data: Quadratic, noise: TwoPoint, alpha: Any, K: int, epochs: int, order: str) -> Run:
    """The exact moments of all block epochs of a quadratic."""
    D, state = len(data.sizes), SecondMoment(data, noise)
    stream = ORDERS[order](problem.parameters.get("seed") or 0)
    gap, full, inner, moved, orders, visits = [state.gap()], [], [], [], [], []
    for _epoch in range(epochs):
        blocks = tuple(stream.next_visit(D)[0] for _ in range(D))
        pair, gradients, differences = Epoch.begin(state), [], []
        full.append(state.squares().sum())
        for block in blocks:
            states = [pair.now]
            for _ in range(K):
                gradients.append(states[-1].squares(block))
                differences.append(pair.moved_squares(block))
                pair = pair.step(block, alpha)
                states.append(pair.now)
            visits.append((block, states))
        state = pair.now
        gap.append(state.gap())
        inner.append(sum(gradients))
        moved.append(sum(differences))
        orders.append(blocks)
    gaps = np.array(gap)
    drop, scale = gaps[:-1] - gaps[1:], gaps[:-1] + gaps[1:]
    sums = [np.array(each) for each in (full, inner, moved)]
    return Run(gap[0], drop, scale, sums[0], sums[1], sums[2], orders, Steps.of_moments(visits))


def by_trees(problem: Problem, data: Problem, noise: TwoPoint, alpha: Any, K: int, epochs: int, order: str) -> Run:
    """Sums over all outcomes of the noise, on any problem."""
    run = follow(data, noise, rule=SGD(), lr=alpha, inner_steps=K, epochs=epochs, order=order)
    size, reach = rounding(problem, run)
    full, inner, moved, drop, square = [], [], [], [], []
    for epoch in run:
        start, generations = epoch[0][1].gradients[0], 0
        full.append(epoch[0][1].probability[0] @ dot(start, start))
        gradients, differences = [], []
        for block, tree in epoch:
            rows = data.slices[block]
            for k in range(1, K + 1):
                g, chance = tree.gradients[k - 1][:, rows], tree.probability[k - 1]
                change = descended(start[:, rows], generations) - g
                gradients.append(chance @ dot(g, g))
                differences.append(chance @ dot(change, change))
                drop.append(tree.probability[k] @ drops(data, tree, k))
                generations += 1
        inner.append(sum(gradients))
        moved.append(sum(differences))
        square += gradients
    shape = (-1, K)
    drop, square = np.array(drop).reshape(shape), np.array(square).reshape(shape)
    scale = np.full(drop.shape, size * reach)
    steps = Steps(np.array([block for epoch in run for block, _ in epoch]), drop, scale, square)
    by_epoch = drop.reshape(len(run), -1).sum(axis=1)
    gap = data.gap(data.start[None])[0]
    orders = [tuple(block for block, _ in epoch) for epoch in run]
    sums = [np.array(each) for each in (full, inner, moved)]
    return Run(gap, by_epoch, size * reach + 0 * by_epoch, sums[0], sums[1], sums[2], orders, steps)
