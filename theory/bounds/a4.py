"""Theorem A4: one gradient step on one random block, with exact expectations.

In the paper: thm:a4, proof in app:a4.

Assumptions. f is differentiable and gradient_i f is L_i-Lipschitz in block i. x^{k+1} = x^k - (1/L_i) U_i g_i with
g = grad f(x^k) and block i drawn with probability p_i > 0, independently of everything before; K = 1.

Notation. z is a fixed point, the computed minimiser; A_k = f(x^k) - f(z), at most f(x^k) - f*;
psi_k = (1/2) sum_i (L_i/p_i) ||x_i^k - z_i||^2; p_m = min_i p_i; E+ is the expectation over one step. f is
sigma-strongly convex in the norm ||x||_p^2 = sum_i (L_i/p_i) ||x_i||^2: sigma is an eigenvalue on quadratics, else
mu min_i p_i/L_i. R_p is the largest ||x - z||_p where f(x) <= f(x^0): R_p^2 <= 2 A_0/sigma, attained on quadratics,
and R_p^2 <= max_i (L_i/p_i) times the square of the radius of the level set.

Theorem.
 1. E+ f(x^+) <= f(x) - sum_i p_i ||g_i||^2/(2 L_i).
 2. With ||grad f||^2 >= 2 mu_PL (f - f*):  E+ A^+ <= (1 - mu_PL min_i p_i/L_i) A.
 3. f convex:  E A_k <= (psi_0 + A_0/p_m)/(k + 1/p_m);  for p_i = 1/D that is
    D/(D+k) (sum_i L_i ||x_i^0 - z_i||^2/2 + A_0).
 4. f strongly convex:  E A_k <= (1 - sigma)^k A_0.
 5. f convex:  E A_k <= 2 R_p^2/(k + 4). For p_i = L_i^a/S_a, S_a = sum_i L_i^a, R_p^2 is S_a times the square of the
    radius in the norm sum_i L_i^{1-a} ||x_i||^2.

Proof, by the lines of the ledger; every expectation is a finite sum over blocks, never a sample:
 A4.0    ||g_i||^2/(2 L_i) <= f(x) - f(x - U_i g_i/L_i) for every i.           Descent lemma in block i.
 A4.1    sum_i p_i ||g_i||^2/(2 L_i) <= f(x) - E+ f(x^+).                       A4.0 averaged.
 A4.2    E+ A^+ <= (1 - mu_PL min_i p_i/L_i) A.      A4.1, sum_i p_i||g_i||^2/(2L_i) >= min_i (p_i/L_i) ||g||^2/2.
 A4.3    <g, x - z> = sum_i ||g_i||^2/(2 L_i) - (E+ psi^+ - psi), an identity.    Expand the square in block i.
 convex  A <= <g, x - z>.                                                       Convexity.
 A4.4    E+[psi^+ + A^+/p_m] <= psi + A/p_m - A.      A4.3, convex, and A4.1 with p_i/p_m >= 1.
 A4.5    E A_k <= (psi_0 + A_0/p_m)/(k + 1/p_m).      Sum A4.4; psi >= 0, and E A_k does not increase by A4.1.
 A4.S    E A_k <= (1 - sigma)^k A_0.                  A4.1 is a gradient step in that norm; then as A4.2.
 A4.R    A^2 <= R_p^2 sum_i (p_i/L_i)||g_i||^2 at every point.      `convex`, Cauchy-Schwarz, f(x) <= f(x^0) by A4.0.
 A4.L    A <= ||x - z||_p^2/2.     f(z + h) <= sum_i p_i f(z + U_i h_i/p_i) by convexity, then the descent lemma, and
             grad f(z) = 0; so A_0 <= R_p^2/2.
 A4.N    E A_k <= 2 R_p^2/(k + 4).      A4.1 and A4.R: E A_{k+1} <= E A_k - (E A_k)^2/(2 R_p^2), by Jensen, so that
             1/E A_{k+1} >= 1/E A_k + 1/(2 R_p^2), from 1/A_0 >= 4/(2 R_p^2) by A4.L.                            QED

E A_k is exact: on quadratics by a recursion for the second moments of (x^k - z, 1), else over all D^k paths.

Cases of equality: scalar blocks (A4.1); f = L||x||^2/2, p_i = 1/D (A4.2, A4.S).
No instance is known on which A4.5 with psi_0/2 fails; it is not proved.
Where it says little: A4.5 at k = 0 exceeds A_0 by p_m psi_0; where sigma is known, 4 beats 5 in the long run. All are
about expectations: a single path violates A4.2 (control "read pathwise"); by Markov's inequality a bound B on E A_k
gives A_k <= B/r with probability 1 - r. Convexity and Cauchy-Schwarz cost A4.R a factor 4 on a ball.

Source: Nesterov, SIAM J. Optim. 22 (2012), for p_i proportional to L_i^a, for 4 and 5; Richtarik and Takac, arXiv
1107.2848; A4.3 to A4.5 are the potential argument of Lu and Xiao, Math. Program. 152 (2015), with any p_i.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from bcd import SGD, Rule
from bcd.orders import Weighted
from theory.bounds.bound import Bound, Control, Outcome, Statement, require_between
from theory.bounds.expectation import expected_values
from theory.ledger import Ledger, Terms
from theory.numbers import Array, dot, exact, like, norm, precision
from theory.problems import Problem
from theory.problems.certified import OUTWARD
from theory.problems.quadratic import Quadratic
from theory.trajectory import Trajectory, require_certified, require_inside, require_steps, trajectory


@dataclass(frozen=True)
class A4Statement(Statement):
    """The statement of Theorem A4 or a false version of it.

    Attributes:
        constant: factor of the right sides of A4.5, A4.L, A4.N and of R_p^2 in A4.R, of 1/(2 L_i) its inverse, of the
            rates in A4.2 and A4.S its inverse.
        pathwise: the largest value over the blocks instead of the expectation in A4.2.
        largest: max_i p_i/L_i instead of the least in A4.2.
    """

    pathwise: bool = False
    largest: bool = False


TRUE = A4Statement()


def probabilities(problem: Problem, exponent: float) -> np.ndarray:
    """p_i proportional to L_i^a: uniform for a = 0, proportional to L_i for a = 1."""
    weights = problem.L_i**exponent
    return weights / weights.sum()


def modulus(problem: Problem, weights: np.ndarray) -> float:
    """sigma: strong convexity in the norm sum_i w_i ||x_i||^2, rounded downwards; exact for quadratics."""
    if not isinstance(problem, Quadratic):
        return float(problem.mu / weights.max()) * (1 - OUTWARD)
    roots = np.sqrt(np.repeat(weights, problem.sizes))
    eigenvalues = np.linalg.eigvalsh(problem.matrix / roots / roots[:, None])
    return max(float(eigenvalues[0] - OUTWARD * eigenvalues[-1]), 0.0)


def level_radius(problem: Problem, weights: np.ndarray) -> float:
    """R_p^2, rounded upwards; infinity if no bound of the level set is known.

    Args:
        problem: with a minimiser.
        weights: w_i = L_i/p_i.
    """
    assert problem.minimiser is not None  # for the type checker; `require_problem` refuses it
    sigma, R2 = modulus(problem, weights), float(weights.max()) * problem.radius**2
    if sigma > 0:
        R2 = min(R2, 2 * float(problem.gap(problem.start[None])[0]) / sigma)
    return R2 * (1 + OUTWARD)


class A4(Bound):
    """Theorem A4."""

    true = TRUE

    def require(self, *, exponent: float) -> None:
        """Raise ValueError unless Theorem A4 covers the setting.

        Args:
            exponent: a in [0, 1] of p_i proportional to L_i^a.
        """
        # the interval is open above, and 1 itself is covered
        require_between("exponent", exponent, 0, np.nextafter(1, 2), closed=True, who="Theorem A4")

    def require_problem(self, problem: Problem) -> None:
        if problem.minimiser is None:
            raise ValueError("minimiser=None is not possible: Theorem A4 needs one")
        if not (problem.convex or problem.pl > 0):
            raise ValueError(
                f"convex={problem.convex}, pl={problem.pl!r} is not possible: Theorem A4 needs one of them"
            )

    def method(self, problem: Problem, **_: Any) -> tuple[Rule, list[float]]:
        """1/L_i rounded downwards, so that its inverse is a Lipschitz constant too."""
        return SGD(), np.nextafter(1 / problem.L_i, 0).tolist()

    def evaluate(
        self,
        problem: Problem,
        *,
        arithmetic: str = "float64",
        statement: A4Statement | None = None,
        rule: Rule | None = None,
        epochs: int | None = None,
        label: str = "",
        keep_series: bool = False,
        **setting: Any,
    ) -> Outcome:
        """A path of random blocks; at each of its points all D outcomes of a step; E A_k from x^0."""
        if statement is None:
            self.check_setting(setting)
            self.require_problem(problem)
        prescribed, lr = self.method(problem)
        p = probabilities(problem, setting["exponent"])
        seed = problem.parameters.get("seed") or 0
        with precision(arithmetic):
            path = trajectory(
                problem,
                order=Weighted(p.tolist(), seed=seed),
                inner_steps=1,
                lr=lr,
                epochs=epochs or self.epochs,
                rule=rule or prescribed,
                arithmetic=arithmetic,
            )
            require_steps(path, prescribed)
            require_inside(path)
            claim = statement or self.true
            ledger = Ledger(label, keep_series=keep_series, stronger=claim.stronger)
            measured, bound = self.prove(problem, path, ledger, claim, **setting)
        return self.outcome(measured, bound, ledger)

    def prove(
        self, problem: Problem, path: Trajectory, ledger: Ledger, statement: Any, *, exponent: float
    ) -> tuple[Array, Array]:
        assert problem.minimiser is not None  # for the type checker; `require_problem` refuses it
        x, g, z = path.points, path.gradients, like(problem.minimiser, path.points)
        lifted = path.problem
        p = like(probabilities(problem, exponent), x)
        p = p / p.sum()  # of the lifted numbers the sum is 1 up to rounding only
        L = 1 / like(np.array(path.lr), x)
        stronger = 1 / like(statement.constant, x)
        least, p_m = (p / L).max() if statement.largest else (p / L).min(), p.min()

        blocks = np.repeat(np.eye(len(problem.sizes), dtype=int), problem.sizes, axis=1)  # (D, d)
        steps = g[:, None, :] * blocks / L[:, None]  # (N+1, D, d)
        outcomes = x[:, None, :] - steps
        if not np.asarray(lifted.inside(outcomes), dtype=bool).all():
            raise ValueError("a step leaves the set on which the constants of the problem are certified")
        before = np.broadcast_to(x[:, None, :], outcomes.shape)
        drops = lifted.decrease(before, outcomes)  # (N+1, D)
        squares = dot(g[:, None, :] * blocks, g[:, None, :])
        size = path.gradient_scale
        reach, slope = norm(x) + norm(z), norm(g)
        # what is rounded: gradients by size, points by their norm
        scale = size * norm(steps).max(axis=1) + slope * reach
        gap, gap_scale = lifted.decrease(x, np.broadcast_to(z, x.shape)), size * reach
        gain = stronger * squares / (2 * L)
        ledger.check("A4.0", gain, drops, scale=scale[:, None])
        drop = (p * drops).sum(axis=1)
        ledger.check("A4.1", (p * gain).sum(axis=1), drop, scale=scale)
        if problem.pl > 0:
            after = gap - (drops.min(axis=1) if statement.pathwise else drop)
            rate = 1 - stronger * like(problem.pl, x) * least
            ledger.check("A4.2", after, rate * gap, scale=gap_scale + scale)

        tree = expected_values(lifted, x[0], z, p, 1 / L, steps=(1 if exact(x) else 4) * (len(x) - 1))
        k = np.arange(len(tree))
        spread = gap_scale.max()
        if problem.convex:
            offset = x - z
            psi = (dot(offset[:, None, :] * blocks, offset[:, None, :]) * L / p).sum(axis=1) / 2
            moved = outcomes - z
            then = (dot(moved[..., None, :] * blocks, moved[..., None, :]) * L / p).sum(axis=2) / 2  # (N+1, D)
            change = (p * (then - psi[:, None])).sum(axis=1)
            inner = dot(g, offset)
            far = z + (offset[:, None, :] * blocks / p[:, None]).reshape(-1, len(z))
            require_certified(lifted, far, "point {} of line A4.L is outside")
            weights = (L / p).max() * reach**2
            rounding = weights + size * reach
            ledger.equal("A4.3", inner, (squares / (2 * L)).sum(axis=1) - change, scale=rounding)
            ledger.check("convex", gap, inner, scale=gap_scale + slope * reach)
            lhs = change + psi + (gap - drop) / p_m
            right = Terms(potential=psi, gap=gap / p_m - stronger * gap)
            ledger.check("A4.4", lhs, right, scale=rounding + (gap_scale + scale) / p_m)
            length = stronger * (k + 1 / p_m)
            right = Terms(potential=psi[0] / length, gap=gap[0] / p_m / length)
            ledger.check("A4.5", tree, right, scale=spread)
            values = right.total()
            R2 = level_radius(problem, np.asarray(problem.L_i / probabilities(problem, exponent)))
            if np.isfinite(R2):
                R2 = like(R2, x) / stronger
                slopes, rough = (p * squares / L).sum(axis=1), gap_scale**2 + R2 * size**2 / (L / p).min()
                ledger.check("A4.R", gap**2, R2 * slopes, scale=rough)
                ledger.check("A4.N", tree, 2 * R2 / (k + 4), scale=spread)
                values = np.minimum(values, 2 * R2 / (k + 4))
            ledger.check("A4.L", gap, psi / stronger, scale=gap_scale + weights)
        else:
            values = gap[0] * (1 - stronger * like(problem.pl, x) * least) ** k
        sigma = modulus(problem, np.asarray(problem.L_i / probabilities(problem, exponent)))
        if problem.convex and sigma > 0:
            strong = gap[0] * (1 - stronger * like(sigma, x)) ** k
            ledger.check("A4.S", tree[1:], strong[1:], scale=spread)
            values = np.minimum(values, strong)
        return tree, values

    def controls(self) -> Iterator[Control]:
        """On f = ||x||^2/2 with scalar blocks, where A4.1, A4.2 and A4.S are equalities."""
        ball = Quadratic.from_matrix(np.eye(4), sizes=[1] * 4, start=np.array([1.0, 0.0, 0.0, 0.0]))
        once = {"exponent": 0.0, "epochs": 1}
        half = A4Statement(constant=0.5)
        yield self.control("decrease doubled", "A4.1", ball, half, **once)
        yield self.control("rate doubled", "A4.2", ball, half, **once)
        yield self.control("rate of A4.S doubled", "A4.S", ball, half, most=660.0, **once)
        yield self.control("read pathwise", "A4.2", ball, A4Statement(pathwise=True), **once)

        # both eigenvectors of this pair are far from the block that moves most
        pair = Quadratic.from_matrix(np.array([[1.0, 0.9], [0.9, 4.0]]), sizes=[1, 1], start=np.array([1.0, -0.3]))
        largest = A4Statement(largest=True)
        yield self.control("max p_i/L_i for the least", "A4.2", pair, largest, exponent=0.0, epochs=4)
        steep = Quadratic.from_matrix(np.diag([1.0, 9.0]), sizes=[1, 1], start=np.array([0.0, 1.0]))
        yield self.control("A4.5 halved", "A4.5", steep, half, exponent=1.0, epochs=1)
        # one block: A_0 = R_p^2/2, and A4.R has 1/4
        disc = Quadratic.from_matrix(np.eye(1), sizes=[1], start=np.array([1.0]))
        for line, constant in (("A4.R", 0.2), ("A4.L", 0.5), ("A4.N", 0.5)):
            yield self.control(f"{line} times {constant}", line, disc, A4Statement(constant=constant), **once)
