"""Weighted means of gradients: the weights, Lemma M, the master lemma, Theorems B1 to B3 and E, and D.4 of BAdam."""

from sympy import Integer, Rational, diff, symbols

from theory.symbolic.identity import Equation, identity, total

b, p, q, c, s, G, eps, alpha, L, hmax = symbols("b p q c s G eps alpha L hmax", positive=True)
k, l, j, K = symbols("k l j K", integer=True, positive=True)  # noqa: E741, the index of the theorems
g, e, m, y, A, B, X = symbols("g e m y A B X", real=True)
r = symbols("r", nonnegative=True)
HALF = Rational(1, 2)

w_kj = (1 - b) * b ** (k - j) / (1 - b**k)
W_kl = b ** (k - l) * (1 - b**l) / (1 - b**k)
S_K = b * (1 - b ** (K - 1)) / (1 - b)
K_EFF = K - b * (1 - b**K) / (1 - b)


@identity("master")
def partial_sums_of_the_weights():
    """sum_{j<=l} w_kj = b^{k-l}(1-b^l)/(1-b^k) = W_kl; for l = k it is 1."""
    return [*total(w_kj.subs(j, l), W_kl, l), Equation(W_kl.subs(l, k), Integer(1))]


@identity("master")
def weights_of_the_recursion():
    """m^k = b m^{k-1} + (1-b) g^k: (1-b^k) w_kj = b (1-b^{k-1}) w_{k-1,j} for j < k, (1-b^k) w_kk = 1-b."""
    return [
        Equation(b * (1 - b ** (k - 1)) * w_kj.subs(k, k - 1), (1 - b**k) * w_kj),
        Equation((1 - b**k) * w_kj.subs(j, k), 1 - b),
    ]


@identity("b1_corollary")
def rows_of_the_weights():
    """sum_{l<k} W_kl <= S_k = b(1-b^{k-1})/(1-b); the difference is b^k/(1-b^k) sum_{l<k} (1-b^l)."""
    S, (missing, factor) = S_K.subs(K, k), symbols("missing factor", nonnegative=True)
    closed = b ** (k - l) * (1 - b**l) / (1 - b) - l * b**k  # (1-b^k) sum_{j<=l} W_kj
    row_sum = closed.subs(l, k - 1) / (1 - b**k)
    return [
        *total((1 - b**k) * W_kl, closed, l),
        *total(1 - b**l, l - b * (1 - b**l) / (1 - b), l),
        Equation(row_sum, S, slack=factor * missing, where={factor: b**k / (1 - b**k), missing: k - 1 - S}),
    ]


@identity("b1_corollary")
def columns_of_the_weights():
    """W_kl <= b^{k-l}, and sum_{l<k<=K} b^{k-l} = b(1-b^{K-l})/(1-b) <= S_K for l >= 1."""
    n, (power, less, rest) = symbols("n", integer=True, positive=True), symbols("power less rest", positive=True)
    slack = less * power / rest
    first = {power: b**k, less: 1 - b ** (k - l), rest: 1 - b**k}
    last = {power: b ** (K - l), less: 1 - b ** (l - 1), rest: (1 - b) / b}
    closed = b * (1 - b**n) / (1 - b)  # n = K - l
    return [
        Equation(W_kl, b ** (k - l), slack=slack, where=first),
        *total(b**n, closed, n),
        Equation(closed.subs(n, K - l), S_K, slack=slack, where=last),
    ]


@identity("e")
def effective_steps():
    """sum_{k<=K} (1-b^k) = K - b(1-b^K)/(1-b) = S, and a heavy-ball buffer weighs sum_{n<k} b^n = (1-b^k)/(1-b)."""
    return [*total(1 - b**K, K_EFF, K), *total(b ** (k - 1), (1 - b**k) / (1 - b), k)]


@identity("master")
def inner_drift():
    """I = sum_k s_k P_{k-1} = (S^2 - sum s_k^2)/2: P_k^2 - P_{k-1}^2 = s_k^2 + 2 s_k P_{k-1}; K(K-1)/2 for s = 1."""
    P = symbols("P", nonnegative=True)
    return [Equation(((P + s) ** 2 - P**2 - s**2) / 2, s * P), *total(K - 1, K * (K - 1) / 2, K)]


@identity("master")
def largest_a():
    """c = 1 - a s - a^2 sigma^2 vanishes at a_max = 2/(s + (s^2 + 4 sigma^2)^{1/2})."""
    sigma, root = symbols("sigma root", positive=True)
    a = 2 / (s + root)
    return [Equation(1 - a * s - a**2 * sigma**2, Integer(0), roots={root: s**2 + 4 * sigma**2})]


@identity("master")
def lemma_m():
    """Lemma M: (pA^2 + qB^2)(1/p + r^2/q) = (A + rB)^2 + (rpA - qB)^2/(pq); equality at A = X/(p n), B = rX/(q n),
    n = 1/p + r^2/q."""
    n = 1 / p + r**2 / q
    at = {A: X / (p * n), B: r * X / (q * n)}
    return [
        Equation((A + r * B) ** 2, (p * A**2 + q * B**2) * n, slack=(r * p * A - q * B) ** 2 / (p * q)),
        Equation((A + r * B).subs(at), X),
        Equation((p * A**2 + q * B**2).subs(at), X**2 / n),
    ]


@identity("master")
def best_theta():
    """1/(p(1+theta h)) + r^2/(q(1-theta)) is least at theta = (x-y)/(x+hy), x = (h/p)^{1/2}, y = r/q^{1/2}."""
    theta, h, x, loss = symbols("theta h x y", positive=True)
    cost = 1 / (h / x**2 * (1 + theta * h)) + loss**2 / (1 - theta)
    near, far = symbols("near far", positive=True)
    curvature = 2 * x**2 * h / near**3 + 2 * loss**2 / far**3
    return [
        Equation(diff(cost, theta).subs(theta, (x - loss) / (x + h * loss)), Integer(0)),
        Equation(Integer(0), diff(cost, theta, 2), slack=curvature, where={near: 1 + theta * h, far: 1 - theta}),
    ]


@identity("master")
def descent_with_an_inexact_gradient():
    """B.4: -g(g+e) = -g^2/2 - (g+e)^2/2 + e^2/2, and (alpha s)^2 L H^2 m^2/2 <= (alpha s)^2 L hmax H m^2/2."""
    H, room = symbols("H room", nonnegative=True)  # hmax = H + room
    step = alpha * s
    change = -step * H * g * (g + e) + L / 2 * (step * H * (g + e)) ** 2
    claimed = H * step / 2 * (-(g**2) - (1 - step * L * hmax) * (g + e) ** 2 + e**2)
    slack = step**2 * L / 2 * H * room * m**2
    return [
        Equation(-g * (g + e), -(g**2) / 2 - (g + e) ** 2 / 2 + e**2 / 2),
        Equation(change, claimed, slack=slack, where={hmax: H + room, m: g + e}),
    ]


@identity("master")
def coefficient_of_gradients():
    """B1.10 for Adam is (alpha K/2)/(G + eps + alpha^2 drift^2/(c eps)); for theta = 0 and hmin = hmax = 1 (E) it is
    (alpha S/2)/(1 + (alpha drift)^2/c)."""
    S = symbols("S", positive=True)

    def plain(hmin, hmax):
        return S / (2 / (alpha * hmin) + r**2 * 2 * alpha * hmax / c)

    return [
        Equation(plain(1 / (G + eps), 1 / eps), alpha * S / 2 / (G + eps + alpha**2 * r**2 / (c * eps))),
        Equation(plain(1, 1), alpha * S / 2 / (1 + (alpha * r) ** 2 / c)),
    ]


@identity("b1_corollary")
def corollary():
    """a = 1/(2(1+S)): 1/2 <= 1 - a - a^2 S^2. With alpha^2 drift^2/(c eps) = eps/2 the coefficient of B1.10 is
    alpha K/(2G + 3 eps)."""
    S = symbols("S", nonnegative=True)
    a = 1 / (2 * (1 + S))
    return [
        Equation(HALF, 1 - a - a**2 * S**2, slack=(S**2 + 2 * S) / (4 * (1 + S) ** 2)),
        Equation(alpha * K / 2 / (G + eps + eps / 2), alpha * K / (2 * G + 3 * eps)),
    ]


@identity("b2")
def sign_like():
    """B2.3: g^2/(|g| + x) >= |g| - x; the difference is x^2/(|g| + x). Also u_kk^{-1} = (1-b^k)/(1-b) = tau_k^2."""
    size, x = symbols("size x", positive=True)
    return [
        Equation(size - x, size**2 / (size + x), slack=x**2 / (size + x)),
        Equation(1 / w_kj.subs(j, k), (1 - b**k) / (1 - b)),
    ]


@identity("b2")
def one_step_to_the_minimum():
    """Equality for K = d = 1, eps -> 0, g = alpha L: Delta/alpha + alpha L/2 = g, and f(x^1) = 0."""
    x = alpha  # g = L x
    return [Equation(L * x**2 / 2 / alpha + alpha * L / 2, L * x), Equation(L / 2 * (x - alpha) ** 2, Integer(0))]


@identity("b2")
def best_step_size():
    """Delta/(alpha K T) + alpha B >= 2 (Delta B/(K T))^{1/2}, attained at alpha = x = (Delta/(K T B))^{1/2}."""
    x, scale = symbols("x scale", positive=True)
    right = scale * x**2 / alpha + alpha * scale  # Delta/(KT) = scale x^2, B = scale
    return [
        Equation(2 * scale * x, right, slack=scale * (alpha - x) ** 2 / alpha),
        Equation(right.subs(alpha, x), 2 * scale * x),
    ]


@identity("e")
def one_step_of_momentum():
    """Equality for D = K = 1 on (L/2)x^2: S = s = 1-b, drift = sigma = 0, theta = 1, c = 1 - abar L s; coef g^2 is the
    decrease of one step with lr = abar(1-b)."""
    x, abar = symbols("x abar", positive=True)
    share = 1 - b
    c = 1 - abar * L * share
    coef = share * abar / 2 * (1 + c)
    lost = L / 2 * x**2 - L / 2 * (x - abar * share * L * x) ** 2
    return [Equation(lost, coef * (L * x) ** 2)]


COUPLED, HIGHER = symbols("coupled higher", nonnegative=True)


def claimed_over_actual(power):
    """Claimed/actual decrease of the counter-example to D.4 with K^power in the term of the coupling.

    f = ax + by + cxy, D = 2, the step of block x is -b/c = -alpha K a/(a + eps), so that the decrease is ab/c.
    """
    a, second = symbols("a second", positive=True)
    slope = second * (a + eps) / (alpha * K * a)  # c, which is L
    coupling = 2 * alpha**2 * K**power * slope**2 * 2 / eps**2 * (HIGHER + 1)
    claimed = alpha * K * (a**2 + second**2) / (16 * G * (1 + coupling))
    return a, second, slope, claimed / (a * second / slope)


@identity("badam_d4_printed")
def counterexample():
    """b = aK^{1/2}/2: the y-gradient vanishes after the visit of x, the decrease is ab/c, and claimed/actual =
    (a+eps)(1+K/4)/(16G(1 + (1+a/eps)^2(1+h))), which grows like K; h is the other term of the bracket."""
    a, second, slope, ratio = claimed_over_actual(1)
    root = symbols("root", positive=True)
    x, f = -second / slope, lambda x, y: a * x + second * y + slope * x * y
    grows = (a + eps) * (1 + K / Integer(4)) / (16 * G * (1 + (1 + a / eps) ** 2 * (1 + HIGHER)))
    return [
        Equation(second + slope * x, Integer(0)),
        Equation(x, -alpha * K * a / (a + eps)),
        Equation(f(0, 0) - f(x, 0), a * second / slope),
        Equation(ratio.subs(second, a * root / 2), grows, roots={root: K}),
    ]


@identity("badam_d4_repaired")
def repaired():
    """With K^2 claimed/actual <= (a+eps)/(16G) for every b; 1 - 1/(24K) - K/(24K)^2 = 1 - 25/(576K) >= 0.95."""
    a, second, _, ratio = claimed_over_actual(2)
    t, n, x = symbols("t n x", nonnegative=True)  # b^2 = t a^2, K = n + 1, x = a/eps
    bracket = 4 * t * (1 + x) ** 2 * (1 + HIGHER)
    more = 4 * t * ((1 + x) ** 2 * (1 + HIGHER) - 1)
    root = symbols("root", positive=True)
    gained = Rational(1, 20) - Rational(25, 576)
    least = 1 - 1 / (24 * K) - K / (24 * K) ** 2
    return [
        Equation(
            ratio.subs(second, a * root),
            (a + eps) * (1 + t) / (16 * G * (1 + bracket.subs(x, a / eps))),
            roots={root: t},
        ),
        Equation(1 + t, 1 + bracket, slack=3 * t + more.expand()),
        Equation(least, 1 - Rational(25, 576) / K),
        Equation(Rational(19, 20), least, slack=(n / 20 + gained) / (n + 1), where={n: K - 1}),
    ]
