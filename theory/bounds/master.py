"""The master lemma: one proof for gradient steps, momentum and Adam with reset.

Setting. A visit of block i starts with fresh state and takes K steps z^k = z^{k-1} + Delta x^k,

    Delta x^k = -alpha s_k H^k m_hat^k,   hmin I <= H^k <= hmax I diagonal,   m_hat^k = sum_{j<=k} w_kj g^j,

with g^j = grad_i f(z^{j-1}), w_kj >= 0, sum_j w_kj = 1, 0 < s_k <= 1. Instances (`theory.moments`, lr the step size):

    gradient   w = identity,                        s_k = 1,        alpha = lr,        hmin = hmax = 1
    momentum   w_kj = (1-b) b^{k-j}/(1-b^k),        s_k = 1 - b^k,  alpha = lr/(1-b),  hmin = hmax = 1
    Adam       the same with b = beta1,             s_k = 1,        alpha = lr,        hmin = 1/(Gamma+eps),
               hmax = 1/eps, where Gamma bounds the entries of the gradients of the visit

Constants. S = sum_k s_k, P_k = sum_{l<=k} s_l, I = sum_k s_k P_{k-1}; W_kl = sum_{j<=l} w_kj for l < k, else 0;
sigma = ||(sqrt(s_k) W_kl sqrt(s_l))||_2; a = alpha L_max hmax; c = 1 - a s_K - a^2 sigma^2; Lambda from Lemma T;
drift = min{ S Lambda + L_max sqrt(I), L sqrt(S^2 (D-1) + I) }. The condition c > 0 means a < a_max,
a_max = 2/(s_K + sqrt(s_K^2 + 4 sigma^2)); s_K is the largest s_k. Write e^k = m_hat^k - g^k,
||y||_H^2 = sum_c H_c y_c^2 and, in an epoch, A^2 = sum_{i,k} s_k ||g_i^k||^2, B^2 = sum_{i,k} ||Delta x_i^k||^2/s_k.

Lemma. If c > 0, then every block epoch, in any order of the blocks, has

    f(x^t) - f(x^{t+1}) >= coef ||grad f(x^t)||^2,   coef = max_{0<=theta<=1} S/(1/p + drift^2/q),
    p = (alpha hmin/2) (1 + theta c/(1 + a sigma)^2),  q = (1-theta) c/(2 alpha hmax).

Proof, by the lines of the ledger (names of section E for momentum in brackets):
 B.1    m_hat^k = sum_j w_kj g^j, an identity for the recursions of momentum and Adam. [E.1]
 B.2    1/(Gamma+eps) <= H^k <= 1/eps (Adam): v_hat is a mean of squares of entries of at most Gamma.
 B.3    ||e^k|| <= L_i sum_{l<k} W_kl ||Delta x^l||.   m_hat^k - g^k = sum_j w_kj (g^j - g^k), and
            ||g^j - g^k|| <= L_i sum_{j<=l<k} ||Delta x^l||; exchange the sums. [E.2]
 B.3'   sum_k s_k ||e^k||^2 <= L_i^2 sigma^2 sum_l ||Delta x^l||^2/s_l.   B.3 and the norm sigma.
 B.4    f(z^k) - f(z^{k-1}) <= -(alpha s_k/2)||g^k||_H^2 - (alpha s_k/2)(1 - alpha s_k L_i hmax)||m_hat^k||_H^2
            + (alpha s_k/2)||e^k||_H^2.   Descent lemma; -2<g, m>_H = -||g||_H^2 - ||m||_H^2 + ||e||_H^2;
            ||Delta x||^2 <= (alpha s_k)^2 hmax ||m||_H^2. [E.3]
 B1.11  (sum_k s_k ||e^k||_H^2)^{1/2} <= a sigma (sum_k s_k ||m_hat^k||_H^2)^{1/2}.   B.3' and the last inequality.
 B.5    f(z^n) <= f(z^0) - (alpha/2) sum_{k<=n} s_k ||g^k||_H^2 - (alpha c/2) sum_{k<=n} s_k ||m_hat^k||_H^2 for every
            n <= K.   Sum B.4 and insert B1.11, whose proof holds for n in place of K too. [E.4]
 B.6    ||g^k||^2 <= 2 L_max (f(x^t) - f*) =: G_t^2 (Adam).   By B.5 every f(z^k) <= f(x^t); Lemma S. So Gamma <= G_t.
 B1.8   sqrt(S) ||grad f(x^t)|| <= A + drift B.   grad_i f(x^t) = g_i^k + (g_i^1 - g_i^k) + (grad_i f(x^t) - g_i^1);
            take the norm weighted by s_k over i and k. ||u_i||^2 <= S sum_k ||Delta x_i^k||^2/s_k and Lemma T bound
            the last part by S Lambda B; ||g_i^1 - g_i^k||^2 <= L_i^2 P_{k-1} sum_l ||Delta x_i^l||^2/s_l the other by
            L_max sqrt(I) B. Or both at once by L ||x^t - z_i^{k-1}||: L sqrt(S^2(D-1) + I) B. [E.5]
 B1.9   (alpha hmin/2) A^2 + c/(2 alpha hmax) B^2 <= f(x^t) - f(x^{t+1}).   B.5 for n = K, all blocks.
 B1.10  S ||grad f(x^t)||^2/(2/(alpha hmin) + drift^2 2 alpha hmax/c) <= f(x^t) - f(x^{t+1}).   theta = 0: B1.8, B1.9
            and Lemma M: A + drift B >= X implies p A^2 + q B^2 >= X^2/(1/p + drift^2/q), by Cauchy-Schwarz.
 B1.12  (sum_k s_k ||g^k||_H^2)^{1/2} <= (1 + a sigma)(sum_k s_k ||m_hat^k||_H^2)^{1/2}.   g = m_hat - e, B1.11.
 B1+    the lemma.   Give the part theta of the term in m_hat of B.5 to A by B1.12, and go on as in B1.10. QED

Source: the descent inequality for inexact scaled steps and the drift argument are standard; with resets, all
constants and without assumed bounds on gradients they are worked out in this project, after BAdam (arXiv 2404.02827,
appendix D).
In the paper: lem:master, proof in app:master.
"""

import math
from dataclasses import dataclass

import numpy as np

from bcd import Adam, Momentum, Rule
from theory.bounds.bound import Statement
from theory.bounds.triangular import triangular_constant
from theory.ledger import Ledger, Terms
from theory.moments import weights
from theory.numbers import Array, dot, like, norm, sqrt
from theory.problems import Problem
from theory.trajectory import Trajectory

OUTWARD = 1 + 1e-12
"""Factor for norms that are computed in float64, so that 60 digits find no violation that is rounding."""


@dataclass(frozen=True)
class MasterStatement(Statement):
    """The statement of the master lemma or a false version of it.

    Attributes:
        constant: factor of coef.
        coupling: factor of Lambda and of L between blocks.
        a: the a that the constants are computed with, instead of that of the steps.
        effective: False replaces the effective number of steps S by K.
    """

    coupling: float = 1.0
    a: float | None = None
    effective: bool = True


@dataclass(frozen=True)
class Recipe:
    """The numbers that depend on the rule and K alone, in the arithmetic of `number`.

    Attributes:
        s: (K,).
        w: (K, K).
        W: (K, K).
        sigma: float, rounded up.
        total: S.
        inner: I.
        unit: alpha/lr.
        hmax: largest entry of H.
    """

    s: Array
    w: Array
    W: Array
    sigma: float
    total: float
    inner: float
    unit: float
    hmax: float


def recipe_of(rule: Rule, inner_steps: int, number: Array | None = None) -> Recipe:
    """Constants of the master lemma.

    >>> round(recipe_of(Adam(), 10).sigma, 3), round(float(recipe_of(Momentum(0.5), 2).total), 3)
    (2.516, 1.25)
    """
    number = np.zeros(1) if number is None else number
    b = rule.betas[0] if isinstance(rule, Adam) else rule.momentum if isinstance(rule, Momentum) else 0.0
    one, base = like(1.0, number), like(b, number)
    w = weights(b, inner_steps, number)
    W = np.tril(np.cumsum(w, axis=1), -1)
    short = isinstance(rule, Momentum)
    s = np.array([one - base**k if short else one for k in range(1, inner_steps + 1)], dtype=number.dtype)
    root = np.sqrt(s.astype(np.float64))
    sigma = float(np.linalg.norm(root[:, None] * W.astype(np.float64) * root, 2)) * OUTWARD
    before = np.cumsum(s) - s
    hmax = 1 / like(rule.eps, number) if isinstance(rule, Adam) else one
    unit = 1 / (one - base) if short else one
    return Recipe(s, w, W, sigma, s.sum(), (s * before).sum(), unit, hmax)


def largest_a(recipe: Recipe) -> float:
    """a_max: c > 0 for every a below.

    >>> round(largest_a(recipe_of(Adam(), 1)), 3), round(largest_a(recipe_of(Adam(), 10)), 3)
    (1.0, 0.326)
    """
    last = float(recipe.s[-1])
    return 2 / (last + math.sqrt(last**2 + 4 * recipe.sigma**2))


def drift(problem: Problem, order: tuple[int, ...], recipe: Recipe, coupling: float = 1.0) -> float:
    """drift of the lemma for one block epoch in this order, in float64 and rounded up."""
    D, S, inner = len(order), float(recipe.total), float(recipe.inner)
    L_max = float(problem.L_i.max())
    first = S * coupling * triangular_constant(problem, order) + L_max * math.sqrt(inner)
    return OUTWARD * min(first, problem.L * math.sqrt(coupling * S**2 * (D - 1) + inner))


@dataclass(frozen=True)
class Epochs:
    """What the theorems take from the lemma; shape (T,) unless another one is named.

    Attributes:
        plain: the coefficient of B1.10.
        coef: the coefficient of B1+.
        squares: ||grad f(x^t)||^2 for T + 1 points.
        decrease: f(x^t) - f(x^{t+1}).
        scale: rounding scale of the inequalities with `decrease`.
        gap: f(x^t) - f* for T + 1 points.
    """

    plain: Array
    coef: Array
    squares: Array
    decrease: Array
    scale: Array
    gap: Array


def check_visits(
    problem: Problem, path: Trajectory, ledger: Ledger, recipe: Recipe, alpha: Array, c: Array, a: Array
) -> tuple[Array, Array]:
    """The lines of one visit, at every inner step; returns decrease and rounding scale of every visit."""
    x, size, m, s = path.points, path.gradient_scale, path.moments, recipe.s
    g, H, hmax, W = path.g, path.moments.H, recipe.hmax, recipe.W
    L = like(problem.L_i[path.active], x)[:, None]
    e, moved = m.m_hat - g, norm(path.dx)

    ledger.equal("B.1", m.m_hat, recipe.w @ g, scale=size)
    if m.v_hat is not None:
        gamma = abs(g).max(axis=(1, 2))[:, None]
        active = path.mask == 1
        low, high = np.where(active, H, hmax).min(axis=2), np.where(active, H, 0 * hmax).max(axis=2)
        ledger.check("B.2", 1 / (gamma + 1 / hmax), low, scale=low)
        ledger.check("B.2", high, hmax, scale=hmax)
    still = (W == 0).all(axis=1)  # a step whose average has one gradient: the first, and all for beta1 = 0
    ledger.check("B.3", norm(e), L * (moved @ W.T), scale=size, zero=still)
    errors = (s * dot(e, e)).sum(axis=1)
    sigma = like(recipe.sigma, x)
    reach = norm(path.z[:, :-1])
    # ||e|| carries the rounding of gradients, ||Delta x|| that of points
    noise = size * (s * norm(e)).sum(axis=1) + L[:, 0] ** 2 * sigma**2 * (moved * reach / s).sum(axis=1)
    ledger.check("B.3'", errors, L[:, 0] ** 2 * sigma**2 * (moved**2 / s).sum(axis=1), scale=noise, zero=still.all())

    g_H, m_H, e_H = (dot(H * y, y) for y in (g, m.m_hat, e))
    step = alpha * s / 2
    claimed = step * (g_H + (1 - 2 * step * L * hmax) * m_H - e_H)
    scale = path.decrease_scale + step * (g_H + m_H + e_H)
    ledger.check("B.4", claimed, path.decrease, scale=scale)
    scale = scale + step * hmax * size * norm(e)
    total, total_scale = np.cumsum(path.decrease, axis=1), np.cumsum(scale, axis=1)
    ledger.check("B.5", np.cumsum(step * (g_H + c * m_H), axis=1), total, scale=total_scale)

    sums = [sqrt((s * y).sum(axis=1)) for y in (g_H, m_H, e_H)]
    rough = size * sqrt(abs(H * path.mask).max(axis=(1, 2)))
    ledger.check("B1.11", sums[2], a * sigma * sums[1], scale=rough, zero=still.all())
    ledger.check("B1.12", sums[0], Terms(average=sums[1], error=a * sigma * sums[1]), scale=rough)
    return total[:, -1], total_scale[:, -1]


def check(
    problem: Problem, path: Trajectory, ledger: Ledger, statement: MasterStatement, *, gradients: Array | None = None
) -> Epochs:
    """Evaluate every line of the lemma on the path.

    Args:
        gradients: (T,), Gamma of each epoch for Adam; G_t of B.6 unless given.
    """
    x, K = path.points, path.inner_steps
    recipe = recipe_of(path.rule, K, x)
    alpha, L_max = like(path.lr[0], x) * recipe.unit, like(float(problem.L_i.max()), x)
    a = alpha * L_max * recipe.hmax if statement.a is None else like(statement.a, x)
    c = 1 - a * recipe.s[-1] - a**2 * like(recipe.sigma, x) ** 2
    decrease, scale = (path.by_epoch(y).sum(axis=1) for y in check_visits(problem, path, ledger, recipe, alpha, c, a))

    size, starts = path.gradient_scale, path.starts
    gap = path.problem.gap(x[starts])
    T, D = path.visited.shape
    hmin = like(np.ones(T), x)
    if isinstance(path.rule, Adam):
        if gradients is None:
            gradients = sqrt(2 * L_max * gap[:-1])
        largest = path.by_epoch(dot(path.g, path.g)).max(axis=(1, 2))
        rough = size * sqrt(largest) + L_max * path.gap_scale(x[starts[:-1]])
        ledger.check("B.6", largest, gradients**2, scale=rough)
        hmin = 1 / (gradients + 1 / recipe.hmax)

    S = recipe.total if statement.effective else K
    orders = list(map(tuple, path.visited.tolist()))
    lengths = {order: drift(problem, order, recipe, statement.coupling) for order in set(orders)}
    r = like(np.array([lengths[order] for order in orders]), x)
    s = recipe.s
    squared_steps = path.by_epoch(dot(path.dx, path.dx) / s).sum(axis=(1, 2))
    A = sqrt(path.by_epoch(dot(path.g, path.g) * s).sum(axis=(1, 2)))
    B = sqrt(squared_steps)
    full = norm(path.gradients[starts])
    root = sqrt(like(1.0, x) * S)
    right = Terms(gradients=A, drift=r * B)
    ledger.check("B1.8", root * full[:-1], right, scale=size * math.sqrt(K * D) * (1 + r / L_max))
    p, q = alpha * hmin / 2, c / (2 * alpha * recipe.hmax)
    reach = path.by_epoch(norm(path.dx) * norm(path.z[:, :-1]) / s).sum(axis=(1, 2))
    scale = scale + p * A * size * math.sqrt(K * D) + q * reach
    ledger.check("B1.9", p * A**2 + q * squared_steps, decrease, scale=scale)

    factor = like(statement.constant, x)
    plain = factor * S / (1 / p + r**2 / q)
    part = c / (1 + a * like(recipe.sigma, x)) ** 2
    theta = best_theta(p, q, r, part)
    coef = factor * S * p * (1 + theta * part)
    inner = theta < 1
    richer = p[inner] * (1 + theta[inner] * part)
    coef[inner] = factor * S / (1 / richer + r[inner] ** 2 / (q * (1 - theta[inner])))
    squares = dot(*2 * [path.gradients[starts]])
    for name, value in (("B1.10", plain), ("B1+", coef)):
        ledger.check(name, value * squares[:-1], decrease, scale=scale + value * full[:-1] * size)
    return Epochs(plain, coef, squares, decrease, scale, gap)


def best_theta(p: Array, q: Array, r: Array, part: Array) -> Array:
    """theta in [0, 1] of the largest coef, from the zero of its derivative; any theta gives a valid coef.

    Args:
        p: (T,).
        q: a number.
        r: drift of each epoch, (T,).
        part: c/(1 + a sigma)^2, a number.
    """
    floats = [np.asarray(y, dtype=np.float64) for y in (p, q, r, part)]
    gain, loss = np.sqrt(floats[3] / floats[0]), floats[2] / np.sqrt(floats[1])
    theta = np.clip((gain - loss) / (gain + floats[3] * loss), 0.0, 1.0)
    return like(theta, p)


def conclude(problem: Problem, path: Trajectory, ledger: Ledger, epochs: Epochs, coef: Array) -> tuple[Array, Array]:
    """min_{0<=t<=T} ||grad f(x^t)||^2 <= (f(x^0) - f*)/(sum_{t<T} coef_t + 1/(2L)) for every T, and Lemma S.

    Proof: sum f(x^t) - f(x^{t+1}) >= coef_t ||grad f(x^t)||^2 over t < T and add Lemma S at x^T.
    """
    points, L, size = path.points[path.starts], like(problem.L, path.points), path.gradient_scale
    full, gap = norm(path.gradients[path.starts]), epochs.gap
    ledger.check("S", epochs.squares, 2 * L * gap, scale=size * full + 2 * L * path.gap_scale(points))
    measured = np.minimum.accumulate(epochs.squares)
    weight = np.concatenate([0 * coef[:1], np.cumsum(coef)]) + 1 / (2 * L)
    bound = gap[0] / weight
    rough = size * sqrt(measured) + bound + path.gap_scale(points[0]) / weight
    ledger.check("bound", measured, bound, scale=rough)
    return measured, bound
