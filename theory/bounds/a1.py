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
             w = (z^{k-1} + z^k)/2 + (g^{k+1} - g^k)/(2 L_i), where their difference is largest. w is in C, though on
             no way between iterates: with g^{k+1} - g^k = gamma s, ||s|| <= ||g^k||, and v = g^k - s it is
             w - z^{k-1} = -gamma/(2 L_i) v and ||v||^2 <= 2<g^k, v>, so that by the descent lemma no point of the way
             from z^{k-1} to w has a value above f(z^{k-1}): it cannot leave a neighbourhood of the sublevel set.
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
the classical 2 L Delta/(T+1). Lemma T (what was searched: `theory.bounds.triangular`) and the kappa_K of gamma > 1 are
proved in this project.
In the paper: thm:a1, proof in app:a1.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg

from bcd import SGD, Rule
from theory.bounds.bound import Bound, Control, Statement, require_between
from theory.bounds.triangular import cross_constant, recursion, triangular_constant
from theory.ledger import Ledger, Terms
from theory.numbers import Array, dot, like, norm, sqrt
from theory.problems import Problem
from theory.problems.certified import Certified
from theory.problems.quadratic import Quadratic
from theory.problems.validation import positive_integer
from theory.trajectory import Trajectory, require_certified, require_order


@dataclass(frozen=True)
class A1Statement(Statement):
    """The statement of Theorem A1 or a false version of it.

    Attributes:
        constant: factor of C_t.
        kappa: factor of kappa_K.
        coupling: factor of Lambda, R and L_ij (i != j).
        gamma: value to compute the constants with, instead of that of the steps.
        order: order to compute Lambda and C_t with, instead of that of the block epoch.
    """

    kappa: float = 1.0
    coupling: float = 1.0
    gamma: float | None = None
    order: tuple[int, ...] | None = None


TRUE = A1Statement()


def kappa(gamma: float, inner_steps: int) -> float:
    """kappa_K of the theorem: what K steps certainly gain, in units of ||g^1||^2/(2 L_i).

    Args:
        gamma: in (0, 2).
        inner_steps: K.

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
    problem: Problem, order: Sequence[int], *, gamma: float, inner_steps: int, statement: A1Statement = TRUE
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


class A1(Bound):
    """Theorem A1."""

    true = TRUE

    def require(self, *, gamma: float, inner_steps: int, order: str) -> None:
        """Raise ValueError unless Theorem A1 covers the setting.

        Args:
            gamma: the step size times L_i, in (0, 2).
            inner_steps: K.
            order: a name in `ORDERS`.
        """
        require_between("gamma", gamma, 0, 2, who="Theorem A1")
        positive_integer("inner_steps", inner_steps)
        require_order(order)

    def method(self, problem: Problem, *, gamma: float, **_: Any) -> tuple[Rule, list[float]]:
        return SGD(), (gamma / problem.L_i).tolist()

    def prove(
        self,
        problem: Problem,
        path: Trajectory,
        ledger: Ledger,
        statement: A1Statement,
        *,
        gamma: float,
        inner_steps: int,
        order: str,
    ) -> tuple[Array, Array]:
        """Shapes: V = T D visits, K steps, d coordinates."""
        self._visits(problem, path, ledger, statement, gamma if statement.gamma is None else statement.gamma)
        C, Lambda = self.descent(problem, path, ledger, statement, gamma=gamma)
        size, points = path.gradient_scale, path.points[path.starts]
        starts = path.gradients[path.starts]
        first = path.by_epoch(path.g[:, 0]).sum(axis=1)  # (g_i^1)_i: the blocks are disjoint
        moved = sqrt(path.by_epoch(dot(*2 * [path.z[:, -1] - path.z[:, 0]])).sum(axis=1))
        full = norm(starts)
        ledger.check("T", norm(starts[:-1] - first), Lambda * moved, scale=size)
        ledger.check("A1b", full[:-1], Terms(first=norm(first), coupling=Lambda * moved), scale=size)

        gap, L = path.problem.gap(points), like(problem.L, points)
        squares = dot(starts, starts)
        ledger.check("S", squares, 2 * L * gap, scale=size * full + 2 * L * path.gap_scale(points))
        measured = np.minimum.accumulate(squares)
        weight = np.concatenate([0 * C[:1], np.cumsum(1 / C)]) + 1 / (2 * L)
        bound = gap[0] / weight
        rough = size * sqrt(measured) + bound + path.gap_scale(points[0]) / weight
        ledger.check("bound", measured, bound, scale=rough)
        return measured, bound

    def descent(
        self, problem: Problem, path: Trajectory, ledger: Ledger, statement: A1Statement, *, gamma: float
    ) -> tuple[Array, Array]:
        """The line `epoch`, on which other theorems build; returns C_t and Lambda for t = 0, ..., T-1, shape (T,)."""
        gamma = gamma if statement.gamma is None else statement.gamma
        constants = {
            blocks: epoch_constants(problem, blocks, gamma=gamma, inner_steps=path.inner_steps, statement=statement)
            for blocks in set(map(tuple, path.visited.tolist()))
        }
        by_epoch = [constants[blocks] for blocks in map(tuple, path.visited.tolist())]
        Lambda = like(np.array([each["Lambda"] for each in by_epoch]), path.points)
        least = [min(each["C_scalar"], each["C_matrix"], each["C_rec"]) for each in by_epoch]
        C, starts = like(np.array(least), path.points), path.gradients[path.starts][:-1]
        decrease, scale = epoch_decrease(path)
        scale = scale + path.gradient_scale * norm(starts) / C
        ledger.check("epoch", dot(starts, starts) / C, decrease, scale=scale)
        return C, Lambda

    def _visits(
        self, problem: Problem, path: Trajectory, ledger: Ledger, statement: A1Statement, gamma: float
    ) -> None:
        """The lines of one visit, at every inner step."""
        K, size = path.inner_steps, path.gradient_scale
        L, a = like(problem.L_i[path.active], path.points)[:, None], path.rates[:, :, 0]
        c = 1 - like(gamma, path.points) / 2
        gain = like(statement.kappa * kappa(gamma, K), path.points)
        g = path.gradients[path.rows] * path.mask  # (V, K+1, d): g^1, ..., g^{K+1}
        here, ahead, squares = g[:, :-1], g[:, 1:], dot(g, g)
        decrease, scale = path.decrease, path.decrease_scale
        delta, visit_scale = decrease.sum(axis=1), scale.sum(axis=1)

        ledger.check("A0", a * c * squares[:, :-1], decrease, scale=scale)
        change = dot(here - ahead, here - ahead)
        between = (path.z[:, :-1] + path.z[:, 1:]) / 2 + (ahead - here) / (2 * L[..., None])
        where = "point w of line A0* at step {} is outside"
        require_certified(path.problem, between.reshape(-1, between.shape[-1]), where)
        sharper = a / 2 * dot(here, here + ahead) - L / 4 * a**2 * squares[:, :-1] + change / (4 * L)
        # change/L carries the rounding of both gradients, also where the step itself is small
        ledger.check("A0*", sharper, decrease, scale=scale + size * sqrt(change) / L)
        if gamma <= 1:
            length, short = norm(g), like(gamma, path.points)
            ledger.check("A0'", (1 - short) * length[:, :-1], length[:, 1:], scale=size)
            geometric = (1 - (1 - short) ** (2 * K)) / (short * (2 - short))
            total = squares[:, :-1].sum(axis=1)
            ledger.check("A0''", geometric * squares[:, 0], total, scale=size * length[:, :-1].sum(axis=1))
        ledger.check("A6", gain / (2 * L[:, 0]) * squares[:, 0], delta, scale=visit_scale)
        u = path.z[:, -1] - path.z[:, 0]
        ledger.check("A1a", c / (a[:, 0] * K) * dot(u, u), delta, scale=visit_scale)

    def controls(self) -> Iterator[Control]:
        """Each on an instance where the line it breaks is nearly or exactly an equality."""
        top = Quadratic.from_matrix(np.diag([1.0, 0.5]), sizes=[2], start=np.array([1.0, 0.0]))
        once = {"inner_steps": 1, "order": "cyclic", "epochs": 1}
        yield self.control("C_t halved", "epoch", top, A1Statement(constant=0.5), gamma=1.0, **once)

        matrix = np.array([[1.0, 0.9], [0.9, 1.0]])
        start = worst_start(Quadratic.from_matrix(matrix, sizes=[1, 1], start=np.ones(2)), gamma=1.0)
        pair = Quadratic.from_matrix(matrix, sizes=[1, 1], start=start)
        yield self.control("coupling dropped", "epoch", pair, A1Statement(coupling=0.0), gamma=1.0, **once)

        # 2.5/L makes every step an ascent, so a bound with the constants of a permitted gamma must fail.
        ascent = A1Statement(gamma=1.0)
        yield self.control(
            "gamma = 2.5", "bound", top, ascent, true={"gamma": 1.9}, gamma=2.5, most=6.5, **{**once, "epochs": 5}
        )
        twice = {**once, "inner_steps": 2}
        yield self.control("kappa_K doubled", "A6", top, A1Statement(kappa=2.0), gamma=0.5, **twice)

        # Block 0 moves both others; in the order 1, 0, 2 it would move one only: Lambda smaller by sqrt(2).
        star = np.array([[1.0, 0.6, 0.6], [0.6, 1.0, 0.0], [0.6, 0.0, 1.0]])
        hub = Quadratic.from_matrix(star, sizes=[1, 1, 1], start=np.array([30.0, 1.0, 1.0]))
        other = A1Statement(order=(1, 0, 2))
        yield self.control("Lambda of another order", "T", hub, other, gamma=1.0, **once)


def epoch_decrease(path: Trajectory) -> tuple[Array, Array]:
    """f(x^t) - f(x^{t+1}) as the sum over the steps, and its rounding scale; both of shape (T,)."""
    per_epoch = (path.by_epoch(steps.sum(axis=1)).sum(axis=1) for steps in (path.decrease, path.decrease_scale))
    return next(per_epoch), next(per_epoch)


def gaps(path: Trajectory) -> tuple[Array, Array]:
    """f(x^t) - f* for t = 0, ..., T, and its rounding scale; both of shape (T+1,)."""
    problem, points = path.problem, path.points[path.starts]
    gap = problem.gap(points)
    scale = path.gradient_scale * norm(points) + gap
    # where the gap is no `decrease` to the minimiser, it is the difference of two values
    difference = problem.minimiser is None or problem.mu <= 0 or type(problem).decrease is Certified.decrease
    return gap, scale + problem.value_scale(points) if difference else scale


def worst_start(problem: Quadratic, *, gamma: float) -> np.ndarray:
    """The start x, for minimiser 0, that makes ||grad f(x)||^2 / (f(x) - f(x^1)) of one cyclic epoch, K = 1, largest.

    A step on block i is linear, x <- P_i x, so with P = P_D ... P_1 the ratio is the generalised Rayleigh quotient
    x'A^2x / (x'(A - P'AP)x/2), and its largest value is a generalised eigenvalue.
    """
    A = problem.matrix
    sweep = np.eye(len(A))
    for rows, L_i in zip(problem.slices, problem.L_i, strict=True):
        sweep[rows] -= gamma / L_i * (A[rows] @ sweep)
    decrease = (A - sweep.T @ A @ sweep) / 2
    return scipy.linalg.eigh(A @ A, (decrease + decrease.T) / 2)[1][:, -1]
