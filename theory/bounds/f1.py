"""Theorem F1: BAdam on uniformly random blocks beside Adam, at equal numbers of gradients, in the l_inf geometry.

Assumptions. f with f >= f*, and l_i, l as `sup` of `theory.problems.Problem`: constants of the gradient from l_inf to
l_1, of block i and of everything. Block i has d_i coordinates, d = sum d_i. Adam with beta1 in [0, 1), beta2 in
(0, 1), eps > 0 and any lr = alpha starts every visit of K steps from fresh state. Visit t = 0, 1, ... draws its block
uniformly from the D blocks, independently of the past; N = TK is the number of gradients of T visits. No bound on
gradients and no limit on alpha.

Constants. w_kj, u_kj, rho_k, tau_k, M_k as in Theorem B2, and

    V'_k = sum_{l<k} rho_l (sum_{j<=l} u_kj)^{1/2},    n_K = mean_k sum_{l<k} rho_l,
    c_K = mean_k (tau_k M_k + rho_k^2/2 + V'_k),        Delta = f(x^0) - f*.

Theorem. (1/T) sum_{t<T} E||grad f(x^t)||_1 <= D Delta/(alpha N) + alpha (c_K + n_K) sum_i l_i + d eps,
which is 2 sqrt(D Delta (c_K + n_K) sum_i l_i/N) + d eps for the best alpha. Adam on all coordinates, its state reset
every K steps, has (1/N) sum over its own N steps of ||grad f||_1 <= Delta/(alpha N) + alpha c_K l + d eps. So the
numbers of gradients that the two bounds need for one accuracy are in the ratio

    N_BAdam/N_Adam = ((c_K + n_K)/c_K)/chi,    chi = l/(D sum_i l_i),

and chi is in [1/D, 1] when l and l_i are attained at one positive semidefinite Hessian.

Proof, by the lines of the ledger, in a visit of block i; write ||y||_H^2 = sum_c H_c y_c^2, e^k = m_hat^k - g^k:
 B.1    m_hat^k = sum_j w_kj g^j, v_hat^k = sum_j u_kj (g^j)^2.
 B.7    |Delta x^k_c| <= alpha rho_k.   Cauchy-Schwarz; so ||g^{l+1} - g^l||_1 <= alpha l_i rho_l.
 B2.1   |g^k_c| H^k_c <= tau_k, because v_hat^k >= u_kk (g^k)^2.
 F1.1   ||e^k||_1 <= alpha l_i M_k.   e^k = sum_j w_kj (g^j - g^k); B.7.
 F1.2   alpha ||g^k||_H^2 <= f(z^{k-1}) - f(z^k) + alpha^2 l_i (tau_k M_k + rho_k^2/2).   Descent lemma in l_inf,
            f(z^k) <= f(z^{k-1}) + <g^k, Delta x^k> + l_i ||Delta x^k||_inf^2/2; B2.1, F1.1 and B.7.
 F1.3   ||g^k||_1 <= ||g^k||_H^2 + eps d_i + alpha l_i V'_k.   g^2/(|g| + r) >= |g| - r with
            r = sqrt(v_hat) + eps - |g|, and |sqrt(v_hat_c) - |g^k_c|| <= (sum_j u_kj (g^j_c - g^k_c)^2)^{1/2}
            <= sum_{l<k} (sum_{j<=l} u_kj)^{1/2} |g^{l+1}_c - g^l_c| by Minkowski; sum over c.
 F1.4   ||g^1||_1 <= ||g^k||_1 + alpha l_i sum_{l<k} rho_l.   B.7.
 F1.5   alpha K ||grad f(x^t)||_1 <= sum_i (f(x^t) - f(z_i^K)) + alpha^2 K (c_K + n_K) sum_i l_i + alpha K d eps, at
            every x^t, z_i^K the end of a visit of block i from there.   F1.2 to F1.4 summed over k and i.
 bound  the theorem for the n visits from every outcome of every x^s: F1.5 over D is a mean over the next block; sum it
            over t.
 adam   the second display for every n <= T: F1.2 and F1.3 of the one block of all coordinates.
 chi    l <= D sum_i l_i for convex f: s'As <= D sum_i s_i'A_ii s_i for signs s. On quadratics sum_i l_i <= l: the
            mean of s'As over the signs of the blocks. QED

There is no coupling term: what another order costs is in Theorem F1 for fixed orders (`theory.bounds.f1_order`).
Every expectation is exact: all D^T paths are followed. c_K + n_K grows like K, so that K = 1 is the best K of the
bound without noise; D sum_i l_i only falls when blocks are merged.
Cases of equality: D blocks of one coordinate, f = sum_i x_i^2/2, |x_i| = alpha, K = 1 and eps -> 0, where one step
reaches the minimum of its block.
Source: Theorem B2 in the geometry of Xie, Mohamadi and Li, arXiv 2410.08198; with random blocks, resets and these
constants worked out in this project, no full search.
In the paper: thm:f1, proof in app:f1.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import mpmath
import numpy as np

from bcd import Adam, Rule
from theory.bounds import b2
from theory.bounds.bound import Bound, Control, Outcome, Statement, require_between
from theory.ledger import Ledger, Terms
from theory.moments import moments
from theory.numbers import Array, dot, exact, like, norm, precision, sqrt
from theory.problems import Problem
from theory.problems.quadratic import Quadratic
from theory.problems.validation import positive_integer
from theory.trajectory import require_certified

PATHS = 512
"""Most visits that start from the points of one time; 16 in multi-precision."""


@dataclass(frozen=True)
class F1Statement(Statement):
    """The statement of Theorem F1 or a false version of it.

    Attributes:
        constant: the right sides of `bound` and `adam` are divided by it.
        spread: factor of every l_i and of l.
        error: factor of M_k.
        change: factor of V'_k.
        inside: factor of the sums of rho that line F1.4 and n_K have.
        between: factor of what a fixed order adds (`theory.bounds.f1_order`).
        corrected: False computes rho_k with the weights of m without bias correction.
        coupled: True takes l/D for sum_i l_i in F1.5 and `bound`: chi = 1 for every f.
    """

    spread: float = 1.0
    error: float = 1.0
    change: float = 1.0
    inside: float = 1.0
    between: float = 1.0
    corrected: bool = True
    coupled: bool = False


@dataclass(frozen=True)
class F1Constants:
    """The constants of Theorem F1 in the arithmetic of `number`.

    Attributes:
        w: weights of beta1, (K, K).
        u: weights of beta2, (K, K).
        rho: (K,).
        tau: (K,).
        M: (K,).
        V: V'_k, (K,).
        before: sum of rho_l over l < k, (K,).
        c: c_K.
        n: n_K.
    """

    w: Array
    u: Array
    rho: Array
    tau: Array
    M: Array
    V: Array
    before: Array
    c: Any
    n: Any


def constants_of(
    betas: tuple[float, float], K: int, number: Array | None = None, statement: F1Statement | None = None
) -> F1Constants:
    """The constants of Theorem F1.

    >>> [round(float(constants_of((0.9, 0.999), K).c), 3) for K in (1, 10)]
    [0.5, 8.777]
    """
    number = np.zeros(1) if number is None else number
    claim = statement or F1Statement()
    known = b2.constants_of(betas, K, number, corrected=claim.corrected)
    error, change, inside = (like(factor, number) for factor in (claim.error, claim.change, claim.inside))
    M, V = error * known.M, change * (np.tril(sqrt(np.cumsum(known.u, axis=1)), -1) @ known.rho)
    before = inside * (np.cumsum(known.rho) - known.rho)
    c = (known.tau * M + known.rho**2 / 2 + V).sum() / K
    return F1Constants(known.w, known.u, known.rho, known.tau, M, V, before, c, before.sum() / K)


def penalty(betas: tuple[float, float], K: int, chi: float) -> float:
    """N_BAdam/N_Adam of the theorem: the ratio of the gradients that the two bounds need for one accuracy.

    >>> penalty((0.9, 0.999), 1, 0.25)
    4.0
    """
    known = constants_of(betas, K)
    return float((known.c + known.n) / known.c) / chi


@dataclass(frozen=True)
class Visits:
    """V visits of K steps of Adam from fresh state, each on one block or on all coordinates.

    Attributes:
        z: z^0, ..., z^K, (V, K+1, d).
        g: the gradients that were used, zero outside the block, (V, K, d).
        decrease: f(z^{k-1}) - f(z^k), (V, K).
        decrease_scale: what was rounded in it, (V, K).
        size: rounding scale of every gradient.
        sup: l_i of the block of each visit, (V, 1).
        sizes: d_i of it, (V, 1).
    """

    z: Array
    g: Array
    decrease: Array
    decrease_scale: Array
    size: float
    sup: Array
    sizes: np.ndarray

    @property
    def absolute(self) -> Array:
        """||g^k||_1, (V, K)."""
        return abs(self.g).sum(axis=2)


def visit(
    data: Problem, floats: Problem, points: Array, rows: slice, sup: float, rule: Adam, alpha: Any, K: int
) -> Visits:
    """K steps of Adam on the coordinates `rows` from each of the points, (V, d).

    Args:
        data: in the arithmetic of the points.
        floats: the same problem with float64 data.
        sup: l of the coordinates.

    Raises:
        ValueError: when an iterate leaves the set on which the constants are certified.
    """
    mask = np.zeros(points.shape[1], dtype=int)
    mask[rows] = 1
    z, g = [points], []
    for _ in range(K):
        g.append(data.gradient(z[-1]) * mask)
        state = moments(rule, np.stack(g, axis=1))
        z.append(z[-1] - alpha * (state.H * state.m_hat)[:, -1] * mask)
    path, gradients = np.stack(z, axis=1), np.stack(g, axis=1)
    require_certified(data, path.reshape(-1, path.shape[2]), "iterate {} of a visit leaves")
    before, steps, used = (np.asarray(y, dtype=np.float64) for y in (path[:, :-1], np.diff(path, axis=1), gradients))
    size = float(floats.gradient_scale(np.asarray(path, dtype=np.float64)).max())
    count = np.full((len(points), 1), int(mask.sum()))
    return Visits(
        path,
        gradients,
        data.decrease(path[:, :-1], path[:, 1:]),
        size * norm(steps) + norm(used) * norm(before),
        size,
        like(np.full((len(points), 1), sup), points),
        count,
    )


def check_visits(ledger: Ledger, visits: Visits, constants: F1Constants, rule: Adam, alpha: Any) -> None:
    """Lines B.1 to F1.4."""
    g, size, l_i, d = visits.g, visits.size, visits.sup, visits.sizes
    m, eps = moments(rule, g), like(rule.eps, g)
    assert m.v_hat is not None  # for the type checker: the rule is Adam's
    root = np.sqrt(d)
    ledger.equal("B.1", m.m_hat, constants.w @ g, scale=size)
    ledger.equal("B.1", m.v_hat, constants.u @ g**2, scale=size * size)
    # a step is rounded as the point that it moves
    reach = abs(visits.z[:, :-1]).max(axis=2)
    ledger.check("B.7", abs(np.diff(visits.z, axis=1)).max(axis=2), alpha * constants.rho, scale=reach + alpha)
    ledger.check("B2.1", abs(g * m.H).max(axis=2), constants.tau, scale=1.0)
    error = abs(m.m_hat - g).sum(axis=2)
    ledger.check("F1.1", error, alpha * l_i * constants.M, scale=size * root, zero=constants.M == 0)
    g_H, unit, slope = dot(m.H * g, g), alpha**2 * l_i, visits.absolute
    paid = Terms(decrease=visits.decrease, error=unit * constants.tau * constants.M, step=unit * constants.rho**2 / 2)
    ledger.check("F1.2", alpha * g_H, paid, scale=visits.decrease_scale + alpha * slope)
    right = Terms(weighted=g_H, eps=eps * d + 0 * g_H, change=alpha * l_i * constants.V)
    ledger.check("F1.3", slope, right, scale=size * root)
    later = Terms(later=slope[:, 1:], inside=alpha * l_i * constants.before[1:])  # for k = 1 nothing is said
    ledger.check("F1.4", slope[:, :1] + 0 * slope[:, 1:], later, scale=size * root)


def require_adam(rate: float, eps: float, betas: tuple[float, float], inner_steps: int, who: str) -> None:
    """Raise ValueError unless the parameters that F1 and F2 share are possible, for the statement `who`."""
    require_between("rate", rate, 0, np.inf, who=who)
    require_between("eps", eps, 0, np.inf, who=who)
    b2.require_betas(betas, who)
    positive_integer("inner_steps", inner_steps)


def adam(eps: float, betas: Any) -> Adam:
    """The rule of the theorem."""
    return Adam(betas=(float(betas[0]), float(betas[1])), eps=float(eps))


def step_size(problem: Problem, rate: float, total: float) -> float:
    """alpha = rate ((f(x^0) - f*)/total)^{1/2}, in float64."""
    return rate * float(np.sqrt(problem.gap(problem.start[None])[0] / total))


class F1(Bound):
    """Theorem F1."""

    true: ClassVar[F1Statement] = F1Statement()

    def require(self, *, rate: float, eps: float, betas: tuple[float, float], inner_steps: int) -> None:
        """Raise ValueError unless Theorem F1 covers the setting.

        Args:
            rate: alpha in units of ((f(x^0) - f*)/sum_i l_i)^{1/2}, of Adam's with l in its place, positive.
            eps: Adam's, positive.
            betas: Adam's, beta1 in [0, 1) and beta2 in (0, 1).
            inner_steps: K.
        """
        require_adam(rate, eps, betas, inner_steps, "Theorem F1")

    def require_problem(self, problem: Problem) -> None:
        _ = problem.sup  # a ValueError says what is missing

    def method(self, problem: Problem, *, rate: float, eps: float, betas: Any, **_: Any) -> tuple[Rule, list[float]]:
        alpha = step_size(problem, rate, float(problem.sup.blocks.sum()))
        return adam(eps, betas), [alpha] * len(problem.sizes)

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
        """As `Bound.evaluate`, over all sequences of random blocks.

        Args:
            epochs: T visits, or as many as `PATHS` permits.
        """
        if arithmetic == "exact":
            raise ValueError("arithmetic='exact' is not possible: the proof takes roots; use 'mp'")
        if statement is None:
            self.check_setting(setting)
        self.require_problem(problem)
        with precision(arithmetic):
            data = problem.lifted(mpmath.mpf) if arithmetic == "mp" else problem
            claim: F1Statement = statement or self.true
            ledger = Ledger(label, keep_series=keep_series, stronger=claim.stronger)
            constants = constants_of(setting["betas"], setting["inner_steps"], data.start, claim)
            epochs = epochs or self.epochs
            measured, bound = self._random(problem, data, ledger, claim, constants, epochs=epochs, **setting)
            self._full(problem, data, ledger, claim, constants, epochs=epochs, **setting)
            self._chi(problem, ledger)
        return self.outcome(measured, bound, ledger)

    def _random(
        self,
        problem: Problem,
        data: Problem,
        ledger: Ledger,
        claim: F1Statement,
        constants: F1Constants,
        *,
        epochs: int,
        inner_steps: int,
        **setting: Any,
    ) -> tuple[Array, Array]:
        """BAdam on random blocks: the lines of every visit, F1.5, `bound`."""
        K, D, points = inner_steps, len(problem.sizes), data.start[None]
        rule, lr = self.method(problem, **setting)
        assert isinstance(rule, Adam)  # for the type checker
        x = data.start
        alpha, eps, d = like(lr[0], x), like(rule.eps, x), sum(problem.sizes)
        sup = [claim.spread * float(value) for value in problem.sup.blocks]
        weighted = like(claim.spread * problem.sup.whole / D if claim.coupled else sum(sup), x)
        visited, inside = alpha * constants.c * weighted, alpha * constants.n * weighted
        size, slopes, gaps = 0.0, [], []
        for _visit in range(visits_that_fit(D, epochs, exact(x))):
            runs = [
                visit(data, problem, points, rows, bound_of, rule, alpha, K)
                for rows, bound_of in zip(problem.slices, sup, strict=True)
            ]
            for run in runs:
                check_visits(ledger, run, constants, rule, alpha)
            slope, size = abs(data.gradient(points)).sum(axis=1), max(size, *(run.size for run in runs))
            drop = sum(run.decrease.sum(axis=1) for run in runs)
            scale = sum(run.decrease_scale.sum(axis=1) for run in runs) + alpha * K * d * size
            parts = {"visit": visited, "inside": inside, "eps": d * eps}
            right = Terms(decrease=drop, **{name: alpha * K * part + 0 * slope for name, part in parts.items()})
            ledger.check("F1.5", alpha * K * slope, right, scale=scale)
            slopes.append(slope)
            gaps.append(data.gap(points))
            points = np.concatenate([run.z[:, -1] for run in runs])
        series = []
        for start, gap in enumerate(gaps):  # a theorem for every start holds from x^s too
            # level t has its paths from the same x^s len(gap) apart, and all are equally likely
            means = np.array([y.reshape(-1, len(gap)).sum(axis=0) * len(gap) / len(y) for y in slopes[start:]])
            n = np.arange(1, len(means) + 1)[:, None]
            total = np.cumsum(means, axis=0) / n
            parts = {"gap": D * gap / (alpha * K * n), "visit": visited, "inside": inside, "eps": d * eps}
            right = Terms(**{name: part / claim.constant + 0 * total for name, part in parts.items()})
            ledger.check("bound", total, right, scale=size * d + right.total())
            series.append((total[:, 0], right.total()[:, 0]))
        return series[0]

    def _full(
        self,
        problem: Problem,
        data: Problem,
        ledger: Ledger,
        claim: F1Statement,
        constants: F1Constants,
        *,
        epochs: int,
        inner_steps: int,
        rate: float,
        eps: float,
        betas: Any,
    ) -> None:
        """Adam on all coordinates: the lines of its visits, and `adam`."""
        K, rule, x, d = inner_steps, adam(eps, betas), data.start, sum(problem.sizes)
        sup, points, slopes, size = claim.spread * problem.sup.whole, x[None], [], 0.0
        alpha = like(step_size(problem, rate, problem.sup.whole), x)
        for _visit in range(epochs):
            run = visit(data, problem, points, slice(0, d), sup, rule, alpha, K)
            check_visits(ledger, run, constants, rule, alpha)
            slopes.append(run.absolute.sum())
            points, size = run.z[:, -1], max(size, run.size)
        N = K * np.arange(1, epochs + 1)
        measured = np.cumsum(np.array(slopes)) / N
        parts = {
            "gap": data.gap(x[None])[0] / (alpha * N),
            "visit": alpha * constants.c * like(sup, x) + 0 * measured,
            "eps": d * like(eps, x) + 0 * measured,
        }
        right = Terms(**{name: part / claim.constant for name, part in parts.items()})
        ledger.check("adam", measured, right, scale=size * d + right.total())

    def _chi(self, problem: Problem, ledger: Ledger) -> None:
        """Where the Hessian is one positive semidefinite matrix, or l is a largest value over such."""
        whole, total = problem.sup.whole, float(problem.sup.blocks.sum())
        if problem.convex:
            ledger.check("chi", whole, len(problem.sizes) * total, scale=whole)
        if isinstance(problem, Quadratic):
            ledger.check("chi", total, whole, scale=whole)

    def controls(self) -> Iterator[Control]:
        """Each on an instance where the line it breaks is nearly an equality."""
        setting = {"eps": 1e-8, "betas": (0.9, 0.999), "inner_steps": 1, "epochs": 1}
        # |x_i| = alpha: one step minimises its block; alpha = 1 is sqrt(2) times the unit of the rate
        apart = Quadratic.from_matrix(np.eye(2), sizes=[1, 1], start=np.ones(2))
        exactly = {**setting, "rate": 2**0.5}
        yield self.control("chi = 1 for separate blocks", "F1.5", apart, F1Statement(coupled=True), **exactly)
        one = Quadratic.from_matrix(np.eye(1), sizes=[1], start=np.ones(1))
        yield self.control("bound halved", "bound", one, F1Statement(constant=2.0), **exactly)
        yield self.control("Adam's bound halved", "adam", one, F1Statement(constant=2.0), **exactly)
        # without correction m^1 = (1 - beta1) g^1, a tenth of the step that is made
        yield self.control("m without bias correction", "B.7", one, F1Statement(corrected=False), most=10.5, **exactly)

        # the trace in place of the norm from l_inf to l_1: the gain is quadratic in all coordinates at once
        dense = Quadratic.from_matrix(np.ones((5, 5)) + 1e-6 * np.eye(5), sizes=[5], start=np.ones(5))
        narrow = F1Statement(spread=1 / 5)
        yield self.control("l of separate coordinates", "F1.2", dense, narrow, **{**setting, "rate": 2.0})

        # the first of two steps reaches the minimum
        twice = {**exactly, "inner_steps": 2}
        yield self.control("errors of m halved", "F1.1", one, F1Statement(error=0.5), **twice)
        yield self.control("way inside halved", "F1.4", one, F1Statement(inside=0.5), **twice)
        # the first of two steps halves the gradient
        halves = {**setting, "inner_steps": 2, "rate": 0.5**0.5}
        yield self.control("change of v dropped", "F1.3", one, F1Statement(change=0.0), **halves)


def visits_that_fit(D: int, epochs: int, precise: bool) -> int:
    """The T <= epochs visits of which all D^T paths are followed, at least one."""
    most = 16 if precise else PATHS
    return max(1, min(epochs, int(math.log(most) / math.log(D) + 1e-9))) if D > 1 else epochs
