"""Gradient steps in blocks: Lemma T and Theorems A1 to A6."""

from sympy import Integer, Matrix, Symbol, cancel, diag, diff, eye, symbols

from theory.symbolic.identity import Equation, Formula, entries, identity, total

L, gamma, r, C, R = symbols("L gamma r C R", positive=True)
K, T, t = symbols("K T t", integer=True, positive=True)
x, g, y, z = symbols("x g y z", real=True)
a, b, d = symbols("a b d", positive=True)


@identity("triangular")
def lower_norm():
    """||[[p,0],[r,q]]||^2 = (n + (n^2 - 4p^2q^2)^{1/2})/2, n = p^2 + q^2 + r^2: larger root of det(M'M - x) = 0."""
    p, q, root = symbols("p q root", nonnegative=True)
    M = Matrix([[p, 0], [r, q]])
    n = p**2 + q**2 + r**2
    large, small = (n + root) / 2, (n - root) / 2
    roots = {root: n**2 - 4 * p**2 * q**2}
    gram = M.T * M
    return [
        Equation((gram - large * eye(2)).det(), Integer(0), roots=roots),
        Equation(gram.trace(), large + small),
        Equation(small, large, slack=root),
    ]


@identity("triangular")
def tau_doubled():
    """tau(2m) = (1 + (1 + 4 tau(m)^2)^{1/2})/2 is the norm of [[tau(m),0],[1,tau(m)]]."""
    m, root = symbols("m root", nonnegative=True)
    M, tau = Matrix([[m, 0], [1, m]]), (1 + root) / 2
    roots = {root: 1 + 4 * m**2}
    gram = M.T * M
    return [
        Equation((gram - tau**2 * eye(2)).det(), Integer(0), roots=roots),
        Equation(gram.trace(), tau**2 + (tau - 1) ** 2, roots=roots),
        Equation((tau - 1) ** 2, tau**2, slack=root, roots=roots),
    ]


@identity("triangular")
def tau_root():
    """tau(D) <= (D-1)^{1/2}: M = [[tau(D-1),0],[1,0]] has M'M = diag(tau(D-1)^2 + 1, 0)."""
    m = symbols("m", nonnegative=True)
    M = Matrix([[m, 0], [1, 0]])
    return entries(M.T * M, diag(m**2 + 1, 0))


@identity("a1")
def descent_step():
    """A0: alpha g^2 - (L/2)(alpha g)^2 = alpha (1 - gamma/2) g^2 for alpha = gamma/L."""
    alpha = gamma / L
    return [Equation(alpha * g**2 - L / 2 * (alpha * g) ** 2, alpha * (1 - gamma / 2) * g**2)]


@identity("a1")
def sharper_descent():
    """A0*: the two descent lemmas at w = (z + z^+)/2 + (g^+ - g)/(2L), where their difference is largest."""
    alpha, w, ahead = gamma / L, Symbol("w", real=True), Symbol("g_ahead", real=True)
    after = z - alpha * g
    below = ahead * (w - after) - L / 2 * (w - after) ** 2 - g * (w - z) - L / 2 * (w - z) ** 2
    best = (z + after) / 2 + (ahead - g) / (2 * L)
    claimed = alpha / 2 * g * (g + ahead) - L / 4 * alpha**2 * g**2 + (g - ahead) ** 2 / (4 * L)
    return [
        Equation(below.subs(w, best), claimed),
        Equation(below, claimed, slack=L * y**2, where={y: w - best}),
    ]


@identity("a1")
def kappa_step():
    """A6, gamma > 1: A0* plus kappa/(2L) y^2 is least at y = (1-gamma)/(1+2 kappa) g; the value is the recursion."""
    kappa, ahead = symbols("kappa y", nonnegative=True)
    alpha = gamma / L
    gain = alpha / 2 * g * (g + ahead) - L / 4 * alpha**2 * g**2 + (g - ahead) ** 2 / (4 * L)
    gain += kappa / (2 * L) * ahead**2
    best = (1 - gamma) / (1 + 2 * kappa) * g
    least = (1 - (1 - gamma) ** 2 * (1 + kappa) / (1 + 2 * kappa)) * g**2 / (2 * L)
    return [
        Equation(diff(gain, ahead).subs(ahead, best), Integer(0)),
        Equation(least, gain, slack=(1 + 2 * kappa) * y**2 / (4 * L), where={y: ahead - best}),
    ]


@identity("a1")
def kappa_closed():
    """gamma <= 1: kappa_K = 1 - r^{2K} = gamma(2-gamma) sum_{j<K} r^{2j}, r = 1 - gamma (A0'')."""
    closed = 1 - r ** (2 * K)
    term = gamma * (2 - gamma) * r ** (2 * (K - 1))
    return [Equation(e.left.subs(gamma, 1 - r), e.right.subs(gamma, 1 - r)) for e in total(term, closed, K)]


@identity("a1")
def kappa_moebius():
    """gamma > 1: the recursion is a Moebius map; with its fixed points u, v = (h +- (h^2 + 8h)^{1/2})/4,
    h = gamma(2-gamma), (kappa_K - u)/(kappa_K - v) = ((1+2v)/(1+2u))^K u/v."""
    root, kappa = symbols("root kappa", positive=True)
    h = gamma * (2 - gamma)
    u, v = (h + root) / 4, (h - root) / 4
    roots = {root: h**2 + 8 * h}

    def following(value: Formula) -> Formula:
        return 1 - (1 - gamma) ** 2 * (1 + value) / (1 + 2 * value)

    def measure(value: Formula) -> Formula:
        return (value - u) / (value - v)

    return [
        Equation(following(u), u, roots=roots),
        Equation(following(v), v, roots=roots),
        Equation(measure(following(kappa)), (1 + 2 * v) / (1 + 2 * u) * measure(kappa), roots=roots),
        Equation(measure(Integer(0)), u / v),
        Equation(following(Integer(0)), h),
    ]


@identity("a1")
def eigenvector():
    """Equality of A6 and epoch, D = 1: f = (L/2)x^2, K steps of gamma/L lose kappa_K g^2/(2L); S is g^2 = 2L f."""
    f = L / 2 * x**2
    after = f.subs(x, (1 - gamma) ** K * x)
    kappa = 1 - (1 - gamma) ** (2 * K)
    once = x - gamma / L * diff(f, x)
    return [
        Equation(once, (1 - gamma) * x),
        Equation(f - after, kappa / (2 * L) * diff(f, x) ** 2),
        Equation(diff(f, x) ** 2, 2 * L * f),
    ]


@identity("a1")
def two_scalar_blocks():
    """Equality of C_matrix, D = 2, K = gamma = 1: g = M rho, M = diag(l_i) + tril(m/l_j), with decrease rho^2/2."""
    first, second, m = symbols("l_1 l_2 m", positive=True)  # l_i^2 = L_i; M is the matrix of C_matrix over 2^{1/2}
    g_1, g_2 = symbols("g_1 g_2", real=True)
    u = Matrix([-g_1 / first**2, -(g_2 - m * g_1 / first**2) / second**2])
    A = Matrix([[first**2, m], [m, second**2]])
    rho = Matrix([g_1 / first, (g_2 - m * g_1 / first**2) / second])
    decrease = -(Matrix([[g_1, g_2]]) * u + u.T * A * u / 2)
    M = Matrix([[first, 0], [m / first, second]])
    return [*entries(decrease, rho.T * rho / 2), *entries(Matrix([g_1, g_2]), M * rho)]


@identity("a2")
def telescope():
    """A^+ = A(1-q) - s, q = A/(CR^2), s >= 0: (1+q)A^+ <= A, and 1/A^+ - 1/A - 1/(CR^2) = (A - (1+q)A^+)/(A A^+)."""
    A, q, s, after = symbols("A q s A_after", nonnegative=True)
    lost = A * (1 - q) - s
    return [
        Equation((1 + q) * lost, A, slack=A * q**2 + s * (1 + q)),
        Equation(1 / after - 1 / A - 1 / (C * R**2), (A - (1 + A / (C * R**2)) * after) / (A * after)),
    ]


@identity("a2")
def simple():
    """1/(2/(LR^2) + t/(CR^2)) = CR^2/(t + 2C/L)."""
    return [Equation(1 / (2 / (L * R**2) + t / (C * R**2)), C * R**2 / (t + 2 * C / L))]


@identity("a2")
def huber():
    """Huber's function from x^0 = R = (2T+1) delta: a step loses delta^2, A_T = R^2/(4T+2); with C = 2c the ratio of
    `bound` at s = q(2T+1) tends to (1-q)(1+q/(2c)) as h = 1/(2T+1) -> 0."""
    delta, s, q, c, h = symbols("delta s q c h", positive=True)
    N = 2 * T + 1

    def gap(s: Formula, N: Formula) -> Formula:
        return delta * (N * delta - s * delta) - delta**2 / 2

    ratio = gap(q / h, 1 / h) * (1 / gap(Integer(0), 1 / h) + q / h / (2 * c * (delta / h) ** 2))
    return [
        Equation(gap(s, N) - gap(s + 1, N), delta**2),
        Equation(gap(T, N), (N * delta) ** 2 / (4 * T + 2)),
        Equation(cancel(ratio).subs(h, 0), (1 - q) * (1 + q / (2 * c))),
    ]


@identity("a3")
def equality_of_the_rate():
    """D = 1, mu = L, C = 2L/kappa_K, gamma <= 1: 1 - 2mu/C = (1-gamma)^{2K}."""
    kappa = 1 - (1 - gamma) ** (2 * K)
    return [Equation(1 - 2 * L / (2 * L / kappa), (1 - gamma) ** (2 * K))]


@identity("a4")
def potential():
    """A4.3 in block i: p (L/(2p)) ((y - g/L)^2 - y^2) = -g y + g^2/(2L); A4.4: with p/p_m = 1 + s the term in g^2 of
    A4.1 over p_m is at least that."""
    p, s = symbols("p s", nonnegative=True)
    return [
        Equation(p * L / (2 * p) * ((y - g / L) ** 2 - y**2), -g * y + g**2 / (2 * L)),
        Equation(g**2 / (2 * L), (1 + s) * g**2 / (2 * L), slack=s * g**2 / (2 * L)),
    ]


@identity("a4")
def uniform_parabola():
    """Equality of A4.2 and A4.S: f = (L/2)||x||^2, p_i = 1/D. Block i loses L x_i^2/2; the mean leaves 1 - 1/D."""
    D, square = symbols("D square", positive=True)
    f = L / 2 * x**2
    lost = f - f.subs(x, x - diff(f, x) / L)
    return [
        Equation(lost, L * x**2 / 2),
        Equation(L * square / 2 - L * square / 2 / D, (1 - L * (1 / D) / L) * (L * square / 2)),
    ]


def three() -> tuple[Matrix, Matrix, Matrix]:
    """A, its diagonal, its strictly lower triangle."""
    m = [Symbol(f"A_{i}{j}") for i, j in ((1, 0), (2, 0), (2, 1))]
    lower = Matrix([[0, 0, 0], [m[0], 0, 0], [m[1], m[2], 0]])
    Dg = diag(*symbols("D_0 D_1 D_2", positive=True))
    return Dg + lower + lower.T, Dg, lower


@identity("a5")
def product():
    """P = Dg + Lo: P + P' - A = Dg and P Dg^{-1} P' = A + Lo Dg^{-1} Lo', three blocks."""
    A, Dg, lower = three()
    P = Dg + lower
    return [*entries(P + P.T - A, Dg), *entries(P * Dg.inv() * P.T, A + lower * Dg.inv() * lower.T)]


@identity("splitting")
def energy():
    """f(x) - f(x^+) = u'(Q + Q' - Dg)u/2 where grad f(x) = -(Q + Lo)u, three blocks."""
    A, Dg, lower = three()
    Q = diag(*symbols("Q_0 Q_1 Q_2", positive=True))
    u = Matrix(symbols("u_0 u_1 u_2", real=True))
    slope = -(Q + lower) * u
    return entries(-(slope.T * u + u.T * A * u / 2), u.T * (Q + Q.T - Dg) * u / 2)


@identity("a5")
def norm_of_two_blocks():
    """||I - P^{-1}A||_A^2 = 1 - 1/(1+c_0) = b^2/(ad) = cos(theta)^2 for A = [[a,b],[b,d]], c_0 = b^2/(ad - b^2)."""
    A, P, lower = Matrix([[a, b], [b, d]]), Matrix([[a, 0], [b, d]]), Matrix([[0, 0], [b, 0]])
    c_0 = b**2 / (a * d - b**2)
    pencil = A.inv() * lower * diag(a, d).inv() * lower.T
    sweep = eye(2) - P.inv() * A
    squared = A.inv() * sweep.T * A * sweep
    # both matrices have rank one, so that the trace is the eigenvalue that is not 0
    return [
        Equation(pencil.det(), Integer(0)),
        Equation(squared.det(), Integer(0)),
        Equation(pencil.trace(), c_0),
        Equation(squared.trace(), 1 - 1 / (1 + c_0)),
        Equation(squared.trace(), b**2 / (a * d)),
    ]


@identity("a5")
def rate_of_two_blocks():
    """After a block epoch e_2 = -b e_1/d; the next one multiplies e by cos(theta)^2, hence A_t by cos(theta)^4."""
    e = Matrix([x, -b * x / d])
    A = Matrix([[a, b], [b, d]])
    sweep = eye(2) - Matrix([[a, 0], [b, d]]).inv() * A
    cosine = b**2 / (a * d)
    after = sweep * e
    return [*entries(after, cosine * e), *entries(after.T * A * after, cosine**2 * (e.T * A * e))]


@identity("a6_quadratic")
def many_steps():
    """Q = a/(1 - (1 - alpha a)^K) is the inverse of alpha sum_{j<K} (1 - alpha a)^j."""
    alpha = Symbol("alpha", positive=True)
    closed = (1 - (1 - alpha * a) ** K) / a
    return total(alpha * (1 - alpha * a) ** (K - 1), closed, K)
