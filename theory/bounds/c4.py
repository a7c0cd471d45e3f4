"""Theorem C4: a fixed order is biased when it meets the data in step, and only then.

Setting. f = (1/n) sum_s f_s with quadratics f_s(x) = x'A_s x/2 - b_s'x; x* the minimiser of f, zeta_s = grad f_s(x*),
sigma_i^2 = (1/n) sum_s ||zeta_s,i||^2, sigma = max_i sigma_i. Every diagonal block of every A_s has its eigenvalues in
[lam, Lh], and sum_{j != i} ||(A_s)_ij|| <= q lam with q < 1. Gradient steps of size alpha <= 1/Lh on single samples,
K a visit, the blocks in one fixed order, D K a multiple of n. Two ways to draw the samples:

    in step        the data in one fixed order, again and again. Because n divides D K, step k of the visit of block i
                   meets the same sample s(i,k) in every block epoch.
    independent    uniformly, independently of everything else.

Constants. B and r: row i is the mean over k of row i of A_{s(i,k)} and b_{s(i,k)}; F(x) = Bx - r; y = B^{-1} r;
rho = 1 - alpha lam (1-q), c = q + (1-q)(1 - alpha lam)^K, |e| = max_i ||e_i||, chi = Lh + q lam,
a = alpha Lh (K-1)/(2 lam (1-q)), mu <= the eigenvalues of (1/n) sum_s A_s <= L; wbar solves wbar = phi(wbar) for
phi(w) = rho^2 w + 2 alpha^2 chi sigma sqrt(w) + alpha^2 sigma^2, and theta = rho^2 + alpha^2 chi sigma/sqrt(wbar) < 1.

Theorem. In step: there is one cycle, through a point x^inf at the start of the block epochs, and for every start

    |x^t - x^inf| <= c^t |x^0 - x^inf|,   |x^inf - y| <= a g,   g = max_{i,k} ||grad_i f_{s(i,k)}(x^inf)||,
    ||grad f(x^t)|| >= ||grad f(y)|| - L sqrt(D) (c^t |x^0 - x^inf| + a g),   ||grad f(y)|| >= mu ||F(x*)||/||B||.

y does not depend on alpha; a is 0 for K = 1 and O(alpha) else: no step size removes the gradient ||grad f(y)||, unless
F(x*) = 0, which means that every block meets all samples equally often, or that its samples agree by chance.
Independent: the mean has no bias, and the second moment is O(alpha):

    |E x^t - x*| <= c^t |x^0 - x*|,   max_i E||x_i^t - x*_i||^2 <= wbar + theta^t max(|x^0 - x*|^2 - wbar, 0),

with wbar = alpha sigma^2/(2 lam (1-q)) (1 + O(sqrt(alpha))).

Proof, by the lines of the ledger; in step first, e = x - x^inf at the same place of both runs, M = |e|:
 inner    ||e_i^k|| <= (1 - alpha lam) ||e_i^{k-1}|| + alpha q lam M.     e_i^k = (I - alpha A_ii) e_i^{k-1}
              - alpha sum_{j != i} A_ij e_j with one and the same A_s, and alpha <= 1/Lh.
 visit    ||e_i^K|| <= (q + (1-q)(1 - alpha lam)^K) M^t.     Solve the recursion `inner`; other blocks stay <= M^t.
 cycle    |x^{t+1} - x^inf| <= c |x^t - x^inf|: the map of a block epoch is a contraction. So it has one fixed point.
 fixed    sum_k grad_i f_{s(i,k)}(z^{k-1}) = 0 on the cycle: x_i returns to its place.
 limit    ||x_i^inf - y_i|| <= a g, for alpha and for alpha/2, alpha/4, ...
              By `fixed`, with w^k the displacement inside the visit, F_i(x^inf) is
              -(1/K) sum_k (A_{s(i,k)})_ii w^{k-1}; ||w^k|| <= ||w^{k-1}|| + alpha g, so ||F_i(x^inf)|| <=
              alpha Lh g (K-1)/2; and |B e| >= lam (1-q)|e| by the dominance.
 bias     mu ||F(x*)|| <= ||B|| ||grad f(y)||.          F(x*) = B(x* - y) and ||grad f(y)|| >= mu ||x* - y||. Also for
              the first choices of one sample for every block.
 floor    the third display for every t <= T.            `cycle`, `limit`, ||v|| <= sqrt(D) |v|.
 mean     E x^t of independent samples is the run of block coordinate descent on f.           The steps are affine.
 centred  |E x^{t+1} - x*| <= c |E x^t - x*|.            `visit` with the mean matrix.
 square   E||e_i^+||^2 <= rho^2 w + 2 alpha^2 chi sigma_i sqrt(w) + alpha^2 sigma_i^2, w = max_j E||e_j||^2 before.
              e_i^+ = e_i - alpha (A_s e)_i - alpha zeta_s,i. The first two:
              (sum_j p_j t_j)^2 <= (sum p)(sum p_j t_j^2) with sum p <= rho. Cross terms:
              E<e_i, zeta_s,i> = 0 and E||(A_s e)_i||^2 <= chi^2 w.
 spread   the last bound, for every t.       phi is concave and grows, so phi(w) - wbar <= theta (w - wbar) for
              w >= wbar: a step brings its block from w to at most wbar + theta (w - wbar), a block epoch every block;
              from w < wbar it does not leave [0, wbar]. QED

The hypotheses concern every A_s: single samples of least squares, of rank one, have lam = 0 unless d_i = 1, then no
dominance for D >= 2, so that they need a ridge. The bias itself needs F(x*) != 0 and a contraction only.
Measured, two scalar blocks and two samples (`two_samples`), K = 1: ||grad f(x^t)|| -> 0.567 for alpha = 1, 0.1, 0.01;
with independent samples (E||grad f||^2)^{1/2} is at most 3.1, 0.37, 0.084.
Cases of equality: A_s = I: bias, inner, square.
Controls: x* in the place of y; q dropped; the bias doubled; a dropped for K = 2; sigma halved.
In the paper: thm:c4, proof in app:c4.
Source: worked out in this project, elementary. That a fixed order of the data only costs O(alpha) when all blocks meet
all samples is the usual analysis of incremental gradients; the literature was not searched exhaustively for the case
of blocks in step with the data.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np

from theory.bounds.bound import Bound, Control, Outcome, Statement, require_between
from theory.bounds.samples import (
    Visits,
    fixed_point,
    gradient,
    in_step,
    mixed,
    solve,
    squares,
    stepped,
    sweep,
    trained,
    two_samples,
)
from theory.ledger import Ledger, Terms
from theory.numbers import Array, exact, like, norm, precision, sqrt
from theory.problems import Problem
from theory.problems.certified import OUTWARD
from theory.problems.finite_sum import FiniteSum
from theory.problems.validation import positive_integer

FIXED = ("cyclic", "descending")

HALVINGS, CHOICES = 12, 16
"""Step sizes of the line `limit`, and choices of the samples of the line `bias`, beside the run's own."""


@dataclass(frozen=True)
class C4Statement(Statement):
    """The statement of Theorem C4 or a false version of it.

    Attributes:
        constant: factor of ||grad f(y)|| in `bias`.
        unbiased: y is x*.
        q: factor of q.
        slack: factor of a.
        noise: factor of sigma.
    """

    unbiased: bool = False
    q: float = 1.0
    slack: float = 1.0
    noise: float = 1.0


class C4(Bound):
    """Theorem C4: measured is ||grad f(x^T)|| of samples in step, bound the floor."""

    kind = "lower"
    true = C4Statement()
    leaves_out = "Theorem C4 needs D K to be a multiple of the number of samples, for D blocks"

    def require(self, *, gamma: float, inner_steps: int, order: str) -> None:
        """Raise ValueError unless Theorem C4 covers the setting.

        Args:
            gamma: alpha times Lh, in (0, 1].
            inner_steps: K.
            order: a fixed one, a name in `FIXED`.
        """
        require_between("gamma", gamma, 0, np.nextafter(1, 2), who="Theorem C4: alpha <= 1/Lh")
        positive_integer("inner_steps", inner_steps)
        if order not in FIXED:
            raise ValueError(f"order={order!r} is not possible: Theorem C4 is about {' and '.join(FIXED)}")

    def require_problem(self, problem: Problem) -> None:
        if not isinstance(problem, FiniteSum):
            raise ValueError(f"problem={type(problem).__name__} is not possible: Theorem C4 is about finite sums")
        if not problem.dominance < 1:
            raise ValueError(f"dominance={problem.dominance:.6g} is not possible: Theorem C4 needs q < 1")

    def settings(self, problem: Problem) -> Iterator[dict[str, Any]]:
        assert isinstance(problem, FiniteSum)  # for the type checker; the yaml names no other family
        for setting in super().settings(problem):
            if len(problem.sizes) * setting["inner_steps"] % len(problem.matrices) == 0:
                yield setting

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
        """Both ways to draw the samples, from the start of the problem.

        Raises:
            ValueError: when a hypothesis on the setting or the problem does not hold.
        """
        if arithmetic == "exact":
            raise ValueError("arithmetic='exact' is not possible: the proof takes roots; use 'mp'")
        self.check_setting(setting)
        self.require_problem(problem)
        assert isinstance(problem, FiniteSum)  # for the type checker
        chosen = statement or C4Statement()
        ledger = Ledger(label, keep_series=keep_series, stronger=chosen.stronger)
        with precision(arithmetic):
            run = Run.of(problem, arithmetic, epochs or self.epochs, chosen, **setting)
            measured, bound = aliased(ledger, run)
            spread = independent(ledger, run)
        outcome = self.outcome(measured, bound, ledger)
        outcome.series["independent"] = spread.astype(np.float64).tolist()
        return outcome

    def controls(self) -> Iterator[Control]:
        one = {"gamma": 0.5, "inner_steps": 1, "order": "cyclic", "epochs": 20}
        yield self.control("no bias", "limit", two_samples(), C4Statement(unbiased=True), most=math.inf, **one)
        yield self.control("q dropped", "cycle", two_samples(), C4Statement(q=0.0), **one)
        plain = FiniteSum.from_parts(
            [np.eye(2)] * 2, [[1.0, 1.0], [-1.0, -1.0]], sizes=[1, 1], start=np.array([3.0, 0.0])
        )
        yield self.control("bias doubled", "bias", plain, C4Statement(constant=0.5), **one)
        twice = {**one, "inner_steps": 2}
        four = FiniteSum([1, 1], samples=4, dominance=0.5, seed=1)
        yield self.control("the limit is y for K = 2", "limit", four, C4Statement(slack=0.0), most=math.inf, **twice)
        yield self.control("noise of half the size", "square", plain, C4Statement(noise=0.5), **one)
        yield self.control("noise of half the size", "spread", plain, C4Statement(noise=0.5), **one)


@dataclass(frozen=True)
class Run:
    """What both parts of the proof need, in the arithmetic of the run.

    Attributes:
        points: (T D K + 1, d), samples in step.
        size: rounding scale of a point.
    """

    data: FiniteSum
    visits: Visits
    points: Array
    alpha: Any
    K: int
    lam: Any
    Lh: Any
    q: Any
    c: Any
    size: float
    statement: C4Statement

    @classmethod
    def of(
        cls,
        problem: FiniteSum,
        arithmetic: str,
        epochs: int,
        statement: C4Statement,
        *,
        gamma: float,
        inner_steps: int,
        order: str,
    ) -> "Run":
        """The run from the start of the problem."""
        visits, rate = in_step(problem, order, inner_steps), gamma / problem.most
        data: Any = problem.lifted(mpmath.mpf) if arithmetic == "mp" else problem
        alpha, lam, Lh = (like(number, data.start) for number in (rate, problem.least, problem.most))
        q = like(statement.q * problem.dominance, data.start)
        if arithmetic == "mp":
            parts = [data.start[None]]
            for _ in range(epochs):
                parts.append(sweep(data, parts[-1][-1], visits, alpha)[1:])
            points = np.concatenate(parts)
        else:
            points = trained(problem, visits, rate, epochs, order)
        size = float(np.max(abs(points))) + float(np.max(abs(problem.linears))) / problem.least
        c = q + (1 - q) * (1 - alpha * lam) ** inner_steps
        return cls(data, visits, points, alpha, inner_steps, lam, Lh, q, c, size, statement)

    def lengths(self, e: Array) -> Array:
        """(..., d) -> (D, ...): ||e_i|| of every block."""
        return np.array([norm(e[..., rows]) for rows in self.data.slices])


def aliased(ledger: Ledger, run: Run) -> tuple[Array, Array]:
    """Samples in step: ||grad f(x^t)|| and its floor, both of shape (T + 1,)."""
    data, alpha, K, q, lam, size = run.data, run.alpha, run.K, run.q, run.lam, run.size
    D, d = len(data.sizes), len(data.start)
    cycle = sweep(data, fixed_point(data, run.visits, alpha), run.visits, alpha)

    inside = run.points[:-1].reshape(-1, D * K, d)
    before = run.lengths(inside - cycle[:-1])  # (D, T, D K)
    after = run.lengths(run.points[1:].reshape(-1, D * K, d) - cycle[1:])
    active = np.repeat([i for i, _ in run.visits], K)
    pick = (active, slice(None), np.arange(D * K))  # (D K, T)
    largest = before.max(axis=0).T
    right = Terms(own=(1 - alpha * lam) * before[pick], others=alpha * q * lam * largest)
    ledger.check("inner", after[pick], right, scale=size)
    starts = before[:, :, 0].max(axis=0)
    ledger.check("visit", after[pick][K - 1 :: K], run.c * starts, scale=size)
    distance = np.concatenate([starts, run.lengths(run.points[-1] - cycle[0]).max(keepdims=True)])
    ledger.check("cycle", distance[1:], run.c * distance[:-1], scale=size)

    fixed = [
        np.sum([gradient(data, i, s, z) for s, z in zip(samples, cycle[v * K : (v + 1) * K], strict=True)], axis=0)
        for v, (i, samples) in enumerate(run.visits)
    ]
    ledger.equal("fixed", np.array([norm(total) for total in fixed]), 0, scale=K * size / alpha)

    x_star = solve(data.matrix, data.linear)
    B, r = mixed(data, run.visits)
    y = x_star if run.statement.unbiased else solve(B, r)
    halvings = 1 if exact(data.start) else HALVINGS
    gaps, reaches = [], []
    for rate in alpha / 2 ** np.arange(halvings):
        point = fixed_point(data, run.visits, rate)
        g = max(norm(gradient(data, i, s, point)) for i, samples in run.visits for s in samples)
        gaps.append(run.lengths(point - y))
        reaches.append(run.statement.slack * rate * run.Lh * (K - 1) / (2 * lam * (1 - q)) * g)
    # I minus the map of a block epoch is of the size of alpha lam (1-q)
    rough = size / (alpha * lam * (1 - q)) * 2 ** np.arange(halvings)
    ledger.check("limit", np.array(gaps), np.array(reaches)[:, None], scale=rough[:, None], zero=K == 1)
    reach = reaches[0]

    slope, mu, L = norm(data.gradient(y)), like(data.mu, data.start), like(data.L, data.start)
    others = itertools.product(range(len(data.matrices)), repeat=D)
    for visits in (run.visits, *([(i, [s]) for i, s in enumerate(row)] for row in itertools.islice(others, CHOICES))):
        B, r = mixed(data, visits)
        wide = like(float(np.linalg.norm(B.astype(np.float64), 2)) * (1 + OUTWARD), data.start)
        left, right = mu * norm(B @ x_star - r), wide * norm(data.gradient(solve(B, r)))
        ledger.check("bias", left, run.statement.constant * right, scale=size * L**2)
    t = np.arange(len(distance))
    right = norm(data.gradient(run.points[:: D * K]))
    left = slope - L * D**0.5 * (run.c**t * distance[0] + reach)
    left = np.maximum(left, 0 * left)
    ledger.check("floor", left, right, scale=size * L * D)
    return right, left


def independent(ledger: Ledger, run: Run) -> Array:
    """Independent samples: a bound of (E||grad f(x^t)||^2)^{1/2}, shape (T + 1,)."""
    data, alpha, K, q, lam = run.data, run.alpha, run.K, run.q, run.lam
    n, d, x_star = len(data.matrices), len(data.start), solve(data.matrix, data.linear)
    zeta = data.matrices @ x_star - data.linears
    rows_of = np.concatenate([data.matrices, zeta[:, :, None]], axis=2)  # grad f_s = rows_of[s] (e, 1)
    sigma = run.statement.noise * sqrt(run.lengths(zeta) ** 2 @ like(np.full(n, 1 / n), data.start))  # (D,)
    chi, rho = run.Lh + q * lam, 1 - alpha * lam * (1 - q)
    e = np.concatenate([data.start - x_star, like(np.ones(1), data.start)])
    M, plain = np.outer(e, e), data.start
    epochs = (len(run.points) - 1) // (len(run.visits) * K)
    moments, bounds, means, paths = [], [], [M[:d, d]], [plain - x_star]
    second = [M]
    scale = run.size**2
    for _epoch in range(epochs):
        for i, samples in run.visits:
            rows = data.slices[i]
            for _ in samples:
                w = squares(data, M).max()
                M = stepped(M, rows_of, rows, alpha)
                plain = plain.copy()
                plain[rows] -= alpha * data.gradient(plain)[rows]
                moments.append(squares(data, M)[i])
                root = sqrt(np.array([w]))[0]
                bounds.append((rho**2 * w, 2 * alpha**2 * chi * sigma[i] * root, alpha**2 * sigma[i] ** 2))
        means.append(M[:d, d])
        paths.append(plain - x_star)
        second.append(M)
    own, cross, added = (np.array(column) for column in zip(*bounds, strict=True))
    ledger.check("square", np.array(moments), Terms(own=own, cross=cross, noise=added), scale=scale)
    ledger.equal("mean", norm(np.array(means) - np.array(paths)), 0, scale=run.size)
    centre = run.lengths(np.array(means)).max(axis=0)
    ledger.check("centred", centre[1:], run.c * centre[:-1], scale=run.size)

    W = np.array([squares(data, M).max() for M in second])
    worst, gap = sigma.max(), 1 - rho**2
    # the positive root of gap w - 2 alpha^2 chi sigma sqrt(w) - alpha^2 sigma^2
    half = alpha**2 * chi * worst
    root = (half + sqrt(np.array([half**2 + gap * (alpha * worst) ** 2]))[0]) / gap
    theta = rho**2 + (half / root if root > 0 else 0 * root)
    t = np.arange(len(W))
    above = W[0] - root**2
    right = root**2 + theta**t * (above if above > 0 else 0 * above)
    ledger.check("spread", W[1:], right[1:], scale=scale)
    return sqrt(like(data.L, data.start) ** 2 * len(data.sizes) * right)
