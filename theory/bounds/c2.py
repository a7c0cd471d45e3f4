"""Theorem C2: stochastic gradient descent in blocks, K steps a visit, in any order fixed before the noise.

Assumptions. Those of `theory.bounds.stochastic`; L, L_i, L_ij, f* as in `theory.problems.Problem`. Block epoch t
visits every block once; its order may depend on anything but the noise of this epoch. Lambda from Lemma T
(`theory.bounds.triangular`).

Constants. drift_K = min{ K Lambda + L_max sqrt(K(K-1)/2), L sqrt(K^2 (D-1) + K(K-1)/2) }, the largest one of the
orders that occur; G_t = (E||grad f(x^t)||^2)^{1/2}; S_t = sum_{i,k} E||g_i^{t,k}||^2.

Theorem. For every T

    (1/T) sum_{t<T} G_t^2
        <= (2/K) ( (1 + alpha drift_K)^2 (Delta/(alpha T) + alpha K V/2)/om + alpha^2 drift_K^2 s2 ).

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
 bound     the theorem with T replaced by every n <= T.   Square `gradient` with (a + b)^2 <= 2a^2 + 2b^2, insert
               `epoch`, telescope, f >= f*. QED

Unlike C1 all K gradients of a visit are used: the term Delta/(alpha T) is divided by K. A fixed order costs O(alpha^2)
of drift and no bias, as long as the noise is unbiased given the past.
Cases of equality: one block, (L/2) x^2, K = 1: step, epoch (drift_K = 0, and `gradient` is an identity).
Controls: drift halved or dropped; the noise term halved; the displacement by the noise dropped; the bound divided by
4.
In the paper: thm:c2, proof in app:c2.
Source: C1's argument with the drift of a fixed order; proved in this project (constants), after the analysis of
deterministic blocks in BAdam (arXiv 2404.02827).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from theory.bounds.bound import Control, Statement
from theory.bounds.stochastic import SGDConstants, StochasticBound, check_steps, drift
from theory.ledger import Ledger
from theory.noise import Epoch, SecondMoment
from theory.numbers import Array, like, sqrt
from theory.problems.quadratic import Quadratic
from theory.trajectory import ORDERS, require_order


@dataclass(frozen=True)
class C2Statement(Statement):
    """constant: factor of the noise alpha^2 K V/2.     drift: factor of drift_K.     moved: factor of s2 in `drift`.

    whole: factor of the right side of `bound`.
    """

    drift: float = 1.0
    moved: float = 1.0
    whole: float = 1.0


@dataclass(frozen=True)
class Run:
    """Per block epoch: E f(x^t) - f(x^*) (T+1,), G_t^2 (T,), S_t (T,), the squared left side of `drift` (T,)."""

    gap: Array
    full: Array
    inner: Array
    moved: Array
    orders: list[tuple[int, ...]]
    visits: list[tuple[int, list[SecondMoment]]]


class C2(StochasticBound):
    """Theorem C2. Parameters: those of `StochasticBound`; order, a name in `ORDERS`."""

    theorem = "Theorem C2"
    true = C2Statement()

    def require(self, *, gamma: float, inner_steps: int, sigma: float, order: str) -> None:
        self.require_common(gamma, inner_steps, sigma)
        require_order(order)

    def prove_in_mean(
        self,
        problem: Quadratic,
        state: SecondMoment,
        known: SGDConstants,
        ledger: Ledger,
        statement: C2Statement,
        *,
        epochs: int,
        inner_steps: int,
        order: str,
        **_: Any,
    ) -> tuple[Array, Array]:
        """T = epochs block epochs."""
        K, alpha, om = inner_steps, known.alpha, known.om
        run = follow(problem, state, alpha, K, epochs, order)
        check_steps(ledger, run.visits, known, statement)
        noise = statement.constant * alpha**2 * K * known.V / 2
        right = run.gap[:-1] - run.gap[1:] + noise
        ledger.check("epoch", alpha * om * run.inner, right, scale=run.gap[:-1] + run.gap[1:] + noise)

        each = np.array([drift(problem, blocks, K) for blocks in run.orders]) * statement.drift
        moved, length = alpha * like(each, known.L), sqrt(run.inner)
        noisy = sqrt(statement.moved * np.array([known.s2]))
        size = length + noisy
        right = moved * (length + noisy)
        # the left side is the root of a difference of moments, each rounded at the size of the gradients
        ledger.check("drift", run.moved, right**2, scale=K * run.full + run.inner + right**2)
        left = sqrt(K * run.full)
        ledger.check("gradient", left, (1 + moved) * length + moved * noisy, scale=left + size)

        n, worst = np.arange(1, epochs + 1), np.maximum.accumulate(moved)
        measured = np.cumsum(run.full) / n
        first = (1 + worst) ** 2 * (run.gap[0] / (alpha * n) + noise / alpha) / om
        bound = statement.whole * (first + worst**2 * known.s2) * 2 / K
        ledger.check("bound", measured, bound, scale=bound)
        return measured, bound

    def controls(self) -> Iterator[Control]:
        line = Quadratic.from_matrix(np.eye(1), sizes=[1], start=np.array([1.0]))
        once = {"inner_steps": 1, "order": "cyclic"}
        noisy = {**once, "sigma": 1.0, "gamma": 1.0, "epochs": 20}
        yield self.control("noise term halved", "step", line, C2Statement(constant=0.5), **noisy)
        yield self.control("noise term halved", "epoch", line, C2Statement(constant=0.5), **noisy)
        long = {**noisy, "epochs": 100}
        yield self.control("bound divided by 4", "bound", line, C2Statement(whole=0.25), **long)

        pair = Quadratic.from_matrix(np.array([[1.0, 0.9], [0.9, 1.0]]), sizes=[1, 1], start=np.array([1.0, -1.0]))
        quiet = {**once, "sigma": 0.0, "gamma": 1.0, "epochs": 2}
        yield self.control("drift halved", "drift", pair, C2Statement(drift=0.5), **quiet)
        ahead = Quadratic.from_matrix(pair.matrix, sizes=[1, 1], start=np.array([-1.0, 1.9]))
        yield self.control("drift dropped", "gradient", ahead, C2Statement(drift=0.0), **quiet)
        still = Quadratic.from_matrix(pair.matrix, sizes=[1, 1], start=np.array([0.0, 0.0]))
        yield self.control(
            "noise moves nothing", "drift", still, C2Statement(moved=0.0), **{**quiet, "sigma": 1.0, "epochs": 1}
        )


def follow(problem: Quadratic, state: SecondMoment, alpha: Any, K: int, epochs: int, order: str) -> Run:
    """The exact moments of all block epochs."""
    D = len(problem.sizes)
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
    return Run(np.array(gap), np.array(full), np.array(inner), np.array(moved), orders, visits)
