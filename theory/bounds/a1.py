"""Theorem A1: block coordinate descent with K gradient steps a visit, smooth and possibly nonconvex f.

Assumptions. f: R^d -> R is differentiable with f >= f*; gradient_i f is L_i-Lipschitz in block i; L, mu, L_ij as in
`theory.problems.Problem`. Block epoch t visits every block once, in any order. A visit of block i takes K steps
z^k = z^{k-1} - alpha_i g^k with g^k = grad_i f(z^{k-1}), alpha_i = gamma/L_i, 0 < gamma < 2. Let u_i = z^K - z^0,
g_i^1 the first gradient of the visit, delta_i = f(z^0) - f(z^K), Delta = f(x^0) - f*, c = 1 - gamma/2.

Constants. kappa_K = 1 - (1-gamma)^{2K} for gamma <= 1. For gamma > 1: kappa_0 = 0 and
kappa_K = 1 - (1-gamma)^2 (1 + kappa_{K-1})/(1 + 2 kappa_{K-1}); kappa_1 = gamma(2-gamma).
Lambda, R = (L-mu)/2 from Lemma T (`theory.bounds.triangular`); rows and columns in the order of the epoch:

    C_scalar = ( sqrt(2 L_max/kappa_K) + Lambda sqrt(gamma K/(L_min c)) )^2
    C_matrix = || diag(sqrt(2 L_i/kappa_K)) + tril(L_ij, -1) diag(sqrt(gamma K/(L_j c))) ||_2^2
    C_rec    = m(D)^2,  m(1) = sqrt(2 L_max/kappa_K),  m(n) = min_a || [[m(a), 0], [r, m(n-a)]] ||_2,
               r = R sqrt(gamma K/(L_min c))
    C_t      = min(C_scalar, C_matrix, C_rec)

Theorem. f(x^t) - f(x^{t+1}) >= ||grad f(x^t)||^2 / C_t for every t, and

    min_{0<=t<=T} ||grad f(x^t)||^2 <= Delta / ( sum_{t<T} 1/C_t + 1/(2L) ).

Proof, by the lines of the ledger:
 A0      alpha_i c ||g^k||^2 <= f(z^{k-1}) - f(z^k).                              Descent lemma in block i.
 A0*     (alpha_i/2)<g^k, g^k + g^{k+1}> - (L_i/4) alpha_i^2 ||g^k||^2 + ||g^k - g^{k+1}||^2/(4 L_i)
             <= f(z^{k-1}) - f(z^k).    Descent lemmas from z^{k-1} upwards and from z^k downwards, both at
             w = (z^{k-1} + z^k)/2 + (g^{k+1} - g^k)/(2 L_i), where their difference is largest.
 A0'     (1-gamma)||g^k|| <= ||g^{k+1}||  for gamma <= 1, as ||g^{k+1} - g^k|| <= L_i alpha_i ||g^k||.
 A0''    (1 - (1-gamma)^{2K})/(gamma(2-gamma)) ||g^1||^2 <= sum_k ||g^k||^2  for gamma <= 1. A0', geometric sum.
 A6      (kappa_K/(2 L_i)) ||g_i^1||^2 <= delta_i.   gamma <= 1: A0 and A0''. gamma > 1: induction on K; A0* plus
             (kappa_{K-1}/(2 L_i))||g^2||^2 is least at g^2 = (1-gamma)/(1 + 2 kappa_{K-1}) g^1.
 A1a     (c/(alpha_i K)) ||u_i||^2 <= delta_i.                                    A0 and Cauchy-Schwarz.
 T       ||(grad_i f(x^t) - g_i^1)_i|| <= Lambda ||u||.                           Lemma T.
 A1b     ||grad f(x^t)|| <= ||(g_i^1)_i|| + Lambda ||u||.                         T, triangle inequality.
 epoch   ||grad f(x^t)||^2/C_t <= f(x^t) - f(x^{t+1}).   C_scalar: A6 and A1a bound both norms in A1b by multiples
             of (sum_i delta_i)^{1/2}. C_matrix: the same for each block. C_rec: inside the induction of Lemma T.
 S       ||grad f(x^t)||^2 <= 2L (f(x^t) - f*).                                   Descent lemma for the step 1/L.
 bound   the theorem with T replaced by every n <= T.    Sum `epoch` over t < n, add S at x^n. QED

Cases of equality: D = 1, an eigenvector of L, gamma <= 1 (A6, epoch); D = 2, K = gamma = 1, scalar blocks (C_matrix).
Source: extends the deterministic analysis of BAdam (arXiv 2404.02827) to explicit constants; D = K = gamma = 1 is
the classical 2 L Delta/(T+1). Lemma T and the kappa_K of gamma > 1 are proved in this project.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bcd import Rule
from theory.bounds.bound import Outcome
from theory.bounds.triangular import cross_constant, recursion, triangular_constant
from theory.ledger import Ledger
from theory.problems import Problem
from theory.trajectory import (
    ORDERS,
    Trajectory,
    require_block_epochs,
    require_gradient_steps,
    require_order,
    trajectory,
)


@dataclass(frozen=True)
class Statement:
    """Which statement is checked: the theorem's own with the defaults, a false one in a negative control.

    constant, kappa, coupling: factors of C_t, of kappa_K, and of Lambda, R and L_ij (i != j).
    gamma: value to compute the constants with, instead of that of the steps.
    order: order to compute Lambda and C_t with, instead of that of the block epoch.
    """

    constant: float = 1.0
    kappa: float = 1.0
    coupling: float = 1.0
    gamma: float | None = None
    order: tuple[int, ...] | None = None


TRUE = Statement()


def kappa(gamma: float, inner_steps: int) -> float:
    """kappa_K of the theorem: what K steps certainly gain, in units of ||g^1||^2/(2 L_i).

    gamma: in (0, 2).     inner_steps: K.

    >>> kappa(0.5, 1), kappa(1.0, 7), kappa(1.5, 1), round(kappa(1.5, 2), 6)
    (0.75, 1.0, 0.75, 0.825)
    """
    if gamma <= 1:
        return 1 - (1 - gamma) ** (2 * inner_steps)
    value = 0.0
    for _ in range(inner_steps):
        value = 1 - (1 - gamma) ** 2 * (1 + value) / (1 + 2 * value)
    return value


def epoch_constants(
    problem: Problem, order: Sequence[int], *, gamma: float, inner_steps: int, statement: Statement = TRUE
) -> dict[str, float]:
    """Lambda, C_scalar, C_matrix and C_rec of one block epoch in this order; C_t is the least of the three C."""
    order = list(statement.order or order)
    L_i = problem.L_i[order]
    value = statement.kappa * kappa(gamma, inner_steps)
    Lambda = statement.coupling * triangular_constant(problem, order)
    lower = statement.coupling * np.tril(problem.L_ij[np.ix_(order, order)], -1)
    first = np.sqrt(2 * L_i / value)  # ||g_i^1|| <= first_i sqrt(delta_i), by A6
    moved = np.sqrt(gamma * inner_steps / (L_i * (1 - gamma / 2)))  # ||u_i|| <= moved_i sqrt(delta_i), by A1a
    cross = statement.coupling * cross_constant(problem)
    return {
        "Lambda": Lambda,
        "C_scalar": statement.constant * float(first.max() + Lambda * moved.max()) ** 2,
        "C_matrix": statement.constant * float(np.linalg.norm(np.diag(first) + lower * moved, 2)) ** 2,
        "C_rec": statement.constant * recursion(float(first.max()), cross * float(moved.max()), len(order)) ** 2,
    }


def check_proof(
    problem: Problem, path: Trajectory, *, gamma: float, statement: Statement, ledger: Ledger
) -> tuple[np.ndarray, np.ndarray]:
    """Evaluate every line of the proof; returns measured and bound of the theorem for T = 0, ..., epochs.

    Shapes: V = T D visits, K steps, d coordinates. `scale` is the size of what was rounded: a gradient by
    eps * size, a step by eps * (||x|| + ||step||), and what is computed from them accordingly.
    """
    (T, D), K = path.visited.shape, path.inner_steps
    active = path.visited.ravel()
    L_i = problem.L_i[active]
    alpha = gamma / L_i
    if statement.gamma is not None:
        gamma = statement.gamma
    c, gain = 1 - gamma / 2, statement.kappa * kappa(gamma, K)
    size = float(problem.gradient_scale(path.points).max())

    mask = np.repeat(np.eye(D), problem.sizes, axis=1)[active][:, None, :]
    rows = np.arange(T * D)[:, None] * K + np.arange(K + 1)
    z = path.points[rows]
    g = path.gradients[rows] * mask  # (V, K+1, d): g^1, ..., g^{K+1}
    norm = np.linalg.norm(g, axis=2)
    here, ahead = g[:, :-1], g[:, 1:]
    decrease = problem.decrease(z[:, :-1], z[:, 1:])
    reach = np.linalg.norm(z, axis=2)
    scale = size * np.linalg.norm(np.diff(z, axis=1), axis=2) + norm[:, :-1] * reach[:, :-1]
    delta, visit_scale = decrease.sum(axis=1), scale.sum(axis=1)
    a, L = alpha[:, None], L_i[:, None]

    ledger.check("A0", a * c * norm[:, :-1] ** 2, decrease, scale=scale)
    inner = np.einsum("vkd,vkd->vk", here, here + ahead)
    change = np.einsum("vkd,vkd->vk", here - ahead, here - ahead)
    sharper = a / 2 * inner - L / 4 * a**2 * norm[:, :-1] ** 2 + change / (4 * L)
    # change/L carries the rounding of both gradients, also where the step itself is small
    ledger.check("A0*", sharper, decrease, scale=scale + size * np.sqrt(change) / L)
    if gamma <= 1:
        ledger.check("A0'", (1 - gamma) * norm[:, :-1], norm[:, 1:], scale=size)
        squares = (norm[:, :-1] ** 2).sum(axis=1)
        geometric = (1 - (1 - gamma) ** (2 * K)) / (gamma * (2 - gamma))
        ledger.check("A0''", geometric * norm[:, 0] ** 2, squares, scale=size * norm[:, :-1].sum(axis=1))
    ledger.check("A6", gain / (2 * L_i) * norm[:, 0] ** 2, delta, scale=visit_scale)
    u = (z[:, -1] - z[:, 0]) * mask[:, 0]
    u_norm = np.linalg.norm(u, axis=1)
    ledger.check("A1a", c / (alpha * K) * u_norm**2, delta, scale=visit_scale)

    starts = path.gradients[:: D * K]  # gradient at x^0, ..., x^T
    points = path.points[:: D * K]
    constants = {
        order: epoch_constants(problem, order, gamma=gamma, inner_steps=K, statement=statement)
        for order in set(map(tuple, path.visited.tolist()))
    }
    by_epoch = [constants[order] for order in map(tuple, path.visited.tolist())]
    Lambda = np.array([known["Lambda"] for known in by_epoch])
    C = np.array([min(known["C_scalar"], known["C_matrix"], known["C_rec"]) for known in by_epoch])
    first = g[:, 0].reshape(T, D, -1).sum(axis=1)  # (g_i^1)_i: the masks make the blocks disjoint
    moved = np.linalg.norm(u_norm.reshape(T, D), axis=1)
    full = np.linalg.norm(starts, axis=1)
    ledger.check("T", np.linalg.norm(starts[:-1] - first, axis=1), Lambda * moved, scale=size)
    ledger.check("A1b", full[:-1], np.linalg.norm(first, axis=1) + Lambda * moved, scale=size)
    epoch_scale = visit_scale.reshape(T, D).sum(axis=1) + size * full[:-1] / C
    ledger.check("epoch", full[:-1] ** 2 / C, delta.reshape(T, D).sum(axis=1), scale=epoch_scale)

    gap = problem.gap(points)
    reach = np.linalg.norm(points, axis=1)
    ledger.check("S", full**2, 2 * problem.L * gap, scale=size * (full + 2 * problem.L * reach))
    measured = np.minimum.accumulate(full**2)
    weight = np.concatenate([[0.0], np.cumsum(1 / C)]) + 1 / (2 * problem.L)
    bound = gap[0] / weight
    ledger.check("bound", measured, bound, scale=size * np.sqrt(measured) + bound)
    return measured, bound


def require_gamma(gamma: float) -> None:
    """Raise ValueError unless 0 < gamma < 2."""
    if isinstance(gamma, bool) or not isinstance(gamma, int | float) or not 0 < gamma < 2:
        raise ValueError(f"gamma={gamma!r} is not possible: Theorem A1 needs a number in (0, 2)")


def evaluate(
    problem: Problem,
    *,
    gamma: float,
    inner_steps: int,
    order: str,
    epochs: int,
    seed: int = 0,
    rule: Rule | None = None,
    statement: Statement = TRUE,
    label: str = "",
    keep_series: bool = False,
) -> Outcome:
    """Run bcd on `problem` and check every line of Theorem A1.

    gamma: step size times L_i.     inner_steps: K.     epochs: T.     order: a name in `ORDERS`; seed: its seed.
    rule: gradient descent unless given; anything else is refused when its first step is no gradient step.
    statement: the constants; only negative controls pass another than the true ones.

    Raises ValueError when gamma is outside (0, 2), when an order is not a permutation of the blocks in every block
    epoch, or when a step is not a gradient step.
    """
    require_gamma(gamma if statement.gamma is None else statement.gamma)
    require_order(order)
    lr = (gamma / problem.L_i).tolist()
    path = trajectory(problem, order=ORDERS[order](seed), inner_steps=inner_steps, lr=lr, epochs=epochs, rule=rule)
    require_block_epochs(path.visited)
    require_gradient_steps(path, lr)
    ledger = Ledger(label, keep_series=keep_series)
    gradients, bounds = check_proof(problem, path, gamma=gamma, statement=statement, ledger=ledger)
    return Outcome(
        measured=float(gradients[-1]),
        bound=float(bounds[-1]),
        kind="upper",
        ledger=ledger,
        series={"measured": gradients.tolist(), "bound": bounds.tolist()},
    )
