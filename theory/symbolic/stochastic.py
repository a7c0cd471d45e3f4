"""Noise: Theorems C1 to C3 and D3."""

from sympy import Integer, Matrix, diff, eye, symbols

from theory.symbolic.identity import Equation, Formula, entries, identity

alpha, L, sigma, mu, V, D, Delta, K, n = symbols("alpha L sigma mu V D Delta K n", positive=True)
t = symbols("t", integer=True, positive=True)
x, xi = symbols("x xi", real=True)
om = 1 - alpha * L / 2  # L_max = L


def mean(expression: Formula) -> Formula:
    """E over xi with E xi = 0, E xi^2 = sigma^2, of a polynomial of degree 2 in xi."""
    expanded = expression.expand()
    return expanded.coeff(xi, 0) + expanded.coeff(xi, 2) * sigma**2


@identity("c1")
def noisy_step():
    """Equality of step, visit and random on f = (L/2)x^2:
    E f(x - alpha(g + xi)) = f - alpha om g^2 + alpha^2 L sigma^2/2."""
    f = L / 2 * x**2
    slope = diff(f, x)
    after = mean(f.subs(x, x - alpha * (slope + xi)))
    return [Equation(after, f - alpha * om * slope**2 + alpha**2 * L * sigma**2 / 2)]


@identity("c1")
def tuned():
    """s = (2 D Delta/(n K V))^{1/2}: 2(D Delta (L + 1/s)/n + s K V/2) = 2 L D Delta/n + 2(2 D Delta K V/n)^{1/2}."""
    s = symbols("s", positive=True)
    left = 2 * (D * Delta * (L + 1 / s) / n + s * K * V / 2)
    right = 2 * L * D * Delta / n + 2 * (s * K * V)
    roots = {s: 2 * D * Delta / (n * K * V)}
    return [Equation(left, right, roots=roots), Equation((s * K * V) ** 2, 2 * D * Delta * K * V / n, roots=roots)]


@identity("c2")
def square_of_the_sum():
    """(a + b)^2 <= 2a^2 + 2b^2; one block, K = 1: epoch and gradient are `step` and an equality, as drift_1 = 0."""
    a, b = symbols("a b", real=True)
    return [Equation((a + b) ** 2, 2 * a**2 + 2 * b**2, slack=(a - b) ** 2)]


@identity("c3")
def geometric_sum():
    """q^t A + (1-q^t) N/rate, q = 1 - rate, solves A^{t+1} = q A^t + N; N/rate is its fixed point."""
    A, N, rate = symbols("A N rate", positive=True)
    q = symbols("q", positive=True)
    value = q**t * A + (1 - q**t) * N / (1 - q)
    fixed = N / rate
    return [
        Equation(value.subs(t, t + 1), q * value + N),
        Equation(value.subs(t, 0), A),
        Equation((1 - rate) * fixed + N, fixed),
    ]


@identity("c3")
def floor():
    """Uniform choice: N/rate = alpha K V/(4 mu om) with rate = 2 alpha mu om/D, N = alpha^2 K V/(2D)."""
    rate, noise = 2 * alpha * mu * om / D, alpha**2 * K * V / (2 * D)
    return [Equation(noise / rate, alpha * K * V / (4 * mu * om))]


@identity("c3")
def parabola():
    """Equality on (L/2)x^2, D = K = 1, V = L sigma^2: E A^+ = (1 - 2 alpha L om) A + alpha^2 V/2, and the floor is
    alpha sigma^2/(2(2 - alpha L))."""
    A = L / 2 * x**2
    after = mean(A.subs(x, x - alpha * (L * x + xi)))
    rate, noise = 2 * alpha * L * om, alpha**2 * (L * sigma**2) / 2
    return [
        Equation(after, (1 - rate) * A + noise),
        Equation(rate, (2 - alpha * L) * alpha * L),
        Equation(noise / rate, alpha * sigma**2 / (2 * (2 - alpha * L))),
    ]


@identity("c3")
def any_order():
    """`gradient` of C2 squared, S from its `epoch` and PL give exactly the rate and the noise of the theorem."""
    A, after, s2, m = symbols("A after s2 m", positive=True)  # m = alpha drift
    inner = (A - after + alpha**2 * K * V / 2) / (alpha * om)  # S
    squared = 2 * (1 + m) ** 2 * inner + 2 * m**2 * s2  # at least K E||grad f||^2 >= 2 K mu A
    rate = alpha * K * mu * om / (1 + m) ** 2
    noise = alpha * m**2 * s2 * om / (1 + m) ** 2 + alpha**2 * K * V / 2
    return [
        Equation(squared - 2 * K * mu * A, 2 * (1 + m) ** 2 / (alpha * om) * ((1 - rate) * A + noise - after)),
    ]


@identity("c3")
def stationary_covariance():
    """Three scalar blocks, A_ii = l: M = alpha sigma^2/(2 - alpha l) A^{-1} is invariant under a step of block 1; the
    stationary E A is tr(A M)/2 = d alpha sigma^2/(2(2 - alpha l)), d = 3."""
    level = symbols("l", positive=True)
    b, c, d = symbols("b c d", real=True)
    A = Matrix([[level, b, c], [b, level, d], [c, d, level]])
    scale = alpha * sigma**2 / (2 - alpha * level)
    M = scale * (A.adjugate() / A.det())
    first = Matrix([[1, 0, 0], [0, 0, 0], [0, 0, 0]])
    step = eye(3) - alpha * first * A
    after = step * M * step.T + alpha**2 * sigma**2 * first
    return [*entries(after, M), Equation((A * M).trace() / 2, 3 * alpha * sigma**2 / (2 * (2 - alpha * level)))]


@identity("d3")
def two_point_noise():
    """up = ((1-p)/p)^{1/2} and -b, b = (p/(1-p))^{1/2} = 1/up, have mean 0, variance 1 and third moment
    (1-2p)/(p(1-p))^{1/2}."""
    p, up = symbols("p up", positive=True)
    down, roots = 1 / up, {up: (1 - p) / p}
    return [
        Equation(p * up - (1 - p) * down, Integer(0), roots=roots),
        Equation(p * up**2 + (1 - p) * down**2, Integer(1), roots=roots),
        Equation((p * up**3 - (1 - p) * down**3) * (p * up), 1 - 2 * p, roots=roots),
        Equation((p * up) ** 2, p * (1 - p), roots=roots),
    ]


@identity("d3")
def one_step():
    """Line drift for K = 1: z/(z + eps) = p/(1-p) at z = eps r, r = p/(1-2p), and is larger for larger z."""
    p, eps, z, room, more = symbols("p eps z room more", positive=True)
    r = p / (1 - 2 * p)
    reached = {z: eps * r}
    beyond = (eps * r + more) / (eps * r + more + eps)
    slack = eps * more / (room * (room + more))
    return [
        Equation((z / (z + eps)).subs(reached), p / (1 - p)),
        Equation(p / (1 - p), beyond, slack=slack, where={room: eps * r + eps}),
    ]
