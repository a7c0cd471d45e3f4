"""Theorem F2: stochastic BAdam on random blocks, without 1/eps and without a bound on gradients.

Assumptions. Those of Theorem F1 (`theory.bounds.f1`), but a step sees gt^k = g^k + xi^k with E[xi^k | past] = 0 and
E[(xi^k_c)^2 | past] <= sigma_c^2. No bound on gradients or on the noise. sigma_1 = sum_c sigma_c, and sigma_{1,i} is
the sum over the coordinates of block i.

Constants. w, u, rho_k, M_k of Theorem B2, V'_k and n_K of Theorem F1, omega_k^2 = sum_j w_kj^2, mean_k over the K
steps; for s in (0, 1] let a = 2s - s^2, and

    P = D Delta/(alpha N) + alpha sum_i l_i mean_k(rho_k M_k + rho_k^2/2) + sigma_1 mean_k(rho_k omega_k),
    Q = 2 alpha sum_i l_i mean_k M_k + 2 sigma_1 mean_k omega_k,
    R = alpha sum_i l_i mean_k V'_k + sigma_1 + d eps.

Theorem. For every s in (0, 1]

    (1/T) sum_{t<T} E||grad f(x^t)||_1 <= (P + Q s + R s^2)/a + alpha n_K sum_i l_i.

The best s is s* = 2P/(P + (P^2 + 2P (Q + 2R))^{1/2}), in (0, 1]: the derivative in s has the sign of
(Q + 2R) s^2 + 2P s - 2P. As alpha -> 0 and alpha N -> infinity, eps -> 0 the right side is the floor
sigma_1 min_s mean_k((2s + rho_k) omega_k + s^2)/a.

Proof, by the lines of the ledger, in a visit of block i. delta^k = e^k + n^k, e^k = sum_j w_kj (g^j - g^k),
n^k = sum_j w_kj xi^j, A^k = sqrt(v_hat^k) + eps = 1/H^k, ||y||_u = (sum_j u_kj y_j^2)^{1/2}. The lines up to `inside`
hold at every outcome:
 m_hat    m_hat^k = g^k + delta^k.                                          sum_j w_kj = 1.
 rho      |H^k m_hat^k| <= rho_k in every coordinate.                       Cauchy-Schwarz, as B.7 of Theorem B2.
 e        ||e^k||_1 <= alpha l_i M_k.                                       As F1.1 of Theorem F1; rho.
 split    2s |m_hat^k| <= g^k H^k m_hat^k + s^2 A^k + rho_k |delta^k| in every coordinate.
              g m_hat/A = m_hat^2/A - delta m_hat/A, m_hat^2/A >= 2s |m_hat| - s^2 A, and rho.
 size     sum_c A^k_c <= ||g^k||_1 + alpha l_i V'_k + sum_c ||xi_c||_u + d_i eps.   A_c is at most
              |g^k_c| + ||(g^j_c - g^k_c)_j||_u + ||xi_c||_u + eps; Minkowski as in F1.3, and rho.
 descent  alpha <g^k, H m_hat^k> <= f(z^{k-1}) - f(z^k) + alpha^2 l_i rho_k^2/2.    Descent lemma, rho.
 inside   ||g^1||_1 <= ||g^k||_1 + alpha l_i sum_{l<k} rho_l.               F1.4.
 n        E|n^k_c| <= omega_k sigma_c.                                      The xi^j are orthogonal.
 xi       E||xi_c||_u <= sigma_c.                                           Jensen; sum_j u_kj = 1.
 step     a E||g^k||_1 <= E<g^k, H m_hat^k> + (2s + rho_k)(alpha l_i M_k + omega_k sigma_{1,i})
              + s^2 (alpha l_i V'_k + sigma_{1,i} + d_i eps), given x^t for every outcome of it.   The sum of split
              over c, |m_hat| >= |g| - |delta|, size, e, n, xi.
 visit    alpha K a ||grad f(x^t)||_1 <= sum_i E[f(x^t) - f(z_i^K)]
              + alpha K (P - D Delta/(alpha N) + Q s + R s^2 + a alpha n_K sum_i l_i), at every x^t.   step, descent
              and inside summed over k and i.
 bound    the theorem with the best s for the n visits from every outcome of every x^s: the mean of visit over the next
              block; sum over t. QED

Every expectation is exact: all outcomes of the blocks and of the noise are followed (`theory.bounds.trees`). rho_k
grows with k and omega_k falls: at betas (0.9, 0.999) the floor is least for some ten steps a visit, and with
beta1 = 1 - 1/K it falls with K. Nothing says that the true floor is of this size; Theorem D3 has one of order ln(K)/K.
Controls: without noise as those of Theorem F1; at the minimum, where a step sees the noise alone.
Source: worked out in this project from Theorem F1, no full search.
In the paper: thm:f2, proof in app:f2.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import mpmath
import numpy as np

from bcd import Adam
from theory.bounds.bound import Bound, Control, Outcome, Statement, require_between
from theory.bounds.f1 import F1Constants, F1Statement, adam, constants_of, require_adam, step_size
from theory.bounds.trees import conditional_mean, descended, drops, history
from theory.ledger import Ledger, Terms
from theory.noise import VectorNoise, Visit, grow
from theory.numbers import Array, exact, like, precision, sqrt
from theory.problems import Problem
from theory.problems.quadratic import Quadratic
from theory.trajectory import require_certified

LEAVES = 512
"""Most outcomes of blocks and noise that are followed; 64 in multi-precision, but one visit always."""


@dataclass(frozen=True)
class F2Statement(Statement):
    """The statement of Theorem F2 or a false version of it.

    Attributes:
        constant: the right side of the theorem is divided by it.
        spread: factor of every l_i.
        error: factor of M_k.
        change: factor of V'_k.
        inside: factor of the sums of rho in `inside` and n_K.
        omega: factor of omega_k.
        sigma: factor of sigma_c in `xi`, and with s^2.
        reach: factor of rho_k before |delta|.
        square: factor of s^2, in a too.
        corrected: False computes rho_k with the weights of m without bias correction.
    """

    spread: float = 1.0
    error: float = 1.0
    change: float = 1.0
    inside: float = 1.0
    omega: float = 1.0
    sigma: float = 1.0
    reach: float = 1.0
    square: float = 1.0
    corrected: bool = True


@dataclass(frozen=True)
class F2Constants:
    """What the lines need, in the arithmetic of the run.

    Attributes:
        f1: the constants of Theorem F1.
        omega: omega_k, (K,).
        reach: rho_k as a factor of |delta|, (K,).
        sigma: sigma_c, (d,).
        sup: l_i, (D,).
        spread: factor of sigma_c in `xi`.
        square: factor of s^2.
    """

    f1: F1Constants
    omega: Array
    reach: Array
    sigma: Array
    sup: Array
    spread: Any
    square: Any

    @classmethod
    def of(
        cls, problem: Problem, noise: VectorNoise, betas: Any, K: int, x: Array, claim: F2Statement
    ) -> "F2Constants":
        """The constants of a statement.

        Args:
            problem: with float64 constants.
            x: an array of the number type.
        """
        of_f1 = F1Statement(error=claim.error, change=claim.change, inside=claim.inside, corrected=claim.corrected)
        known = constants_of(betas, K, x, of_f1)
        return cls(
            known,
            like(claim.omega, x) * sqrt((known.w**2).sum(axis=1)),
            like(claim.reach, x) * known.rho,
            sqrt(noise.variances(x)),
            like(claim.spread * problem.sup.blocks, x),
            like(claim.sigma, x),
            like(claim.square, x),
        )

    def parts(self, alpha: Any, eps: Any, d: int) -> "tuple[dict[str, Any], dict[str, Any], dict[str, Any]]":
        """The terms of P without the gap, of Q and of R."""
        K, unit, noise, known = len(self.omega), alpha * self.sup.sum(), self.sigma.sum(), self.f1
        P = {
            "error": unit * (self.reach * known.M).sum() / K,
            "step": unit * (known.rho**2).sum() / (2 * K),
            "noise": noise * (self.reach * self.omega).sum() / K,
        }
        Q = {"error": 2 * unit * known.M.sum() / K, "noise": 2 * noise * self.omega.sum() / K}
        R = {"change": unit * known.V.sum() / K, "size": self.spread * noise, "eps": d * eps}
        return P, Q, R


def best_s(P: Any, Q: Any, R: Any) -> Any:
    """The s in (0, 1] with the least (P + Q s + R s^2)/(2s - s^2), for P > 0, Q >= 0 and R >= 0.

    >>> best_s(np.array([1.0]), 0.0, 0.0), best_s(np.array([1.0]), 0.0, 4.0)
    (array([1.]), array([0.3903882]))
    """
    rest = Q + 2 * R
    # the form in which nothing cancels, and Q = R = 0 gives 1
    return 2 * P / (P + sqrt(P**2 + 2 * P * rest))


def floor(betas: tuple[float, float], K: int) -> float:
    """What is left of the right side over sigma_1 as alpha -> 0, alpha N -> infinity and eps -> 0.

    >>> [round(floor((0.9, 0.999), K), 2) for K in (1, 50)]
    [3.0, 1.19]
    """
    known = constants_of(betas, K)
    omega = np.sqrt((known.w**2).sum(axis=1))
    P, Q = np.array([(known.rho * omega).mean()]), 2 * float(omega.mean())
    s = best_s(P, Q, 1.0)
    return float(((P + Q * s + s**2) / (2 * s - s**2))[0])


class F2(Bound):
    """Theorem F2."""

    true: ClassVar[F2Statement] = F2Statement()
    leaves_out = f"all outcomes of a visit are followed, at most {LEAVES} of all blocks"

    def require(
        self,
        *,
        rate: float,
        eps: float,
        betas: tuple[float, float],
        inner_steps: int,
        s: float,
        sigma: float,
        p: float,
        outcomes: int,
    ) -> None:
        """Raise ValueError unless Theorem F2 covers the setting.

        Args:
            rate: alpha in units of ((f(x^0) - f*)/sum_i l_i)^{1/2}, positive.
            eps: Adam's, positive.
            betas: Adam's, beta1 in [0, 1) and beta2 in (0, 1).
            inner_steps: K.
            s: of the lines of the proof, in (0, 1]; the theorem takes the best one.
            sigma: root mean square of the sigma_c.
            p: probability of the first outcome of the noise.
            outcomes: how many the noise has, 2 or more.
        """
        require_adam(rate, eps, betas, inner_steps, "Theorem F2")
        require_between("s", s, 0, np.nextafter(1, 2), who="Theorem F2")
        VectorNoise.drawn(outcomes, 1, p=p, sigma=sigma, seed=0)

    def require_problem(self, problem: Problem) -> None:
        _ = problem.sup  # a ValueError says what is missing

    def settings(self, problem: Problem) -> Iterator[dict[str, Any]]:
        for setting in super().settings(problem):
            if len(problem.sizes) * setting["outcomes"] ** setting["inner_steps"] <= LEAVES:
                yield setting

    def evaluate(
        self,
        problem: Problem,
        *,
        arithmetic: str = "float64",
        statement: Any = None,
        noise: VectorNoise | None = None,
        epochs: int | None = None,
        label: str = "",
        keep_series: bool = False,
        **setting: Any,
    ) -> Outcome:
        """As `Bound.evaluate`, over all outcomes of the blocks and of the noise.

        Args:
            noise: drawn with the setting's sigma, p and outcomes unless given.
            epochs: T visits, or as many as `LEAVES` permits.
        """
        if arithmetic == "exact":
            raise ValueError("arithmetic='exact' is not possible: the proof takes roots; use 'mp'")
        if statement is None:
            self.check_setting(setting)
        self.require_problem(problem)
        noise = noise or VectorNoise.drawn(
            setting["outcomes"],
            len(problem.start),
            p=setting["p"],
            sigma=setting["sigma"],
            seed=problem.parameters.get("seed") or 0,
        )
        with precision(arithmetic):
            data = problem.lifted(mpmath.mpf) if arithmetic == "mp" else problem
            claim: F2Statement = statement or self.true
            ledger = Ledger(label, keep_series=keep_series, stronger=claim.stronger)
            measured, bound = self._random(
                problem, data, noise, ledger, claim, epochs=epochs or self.epochs, **setting
            )
        return self.outcome(measured, bound, ledger)

    def _random(
        self,
        problem: Problem,
        data: Problem,
        noise: VectorNoise,
        ledger: Ledger,
        claim: F2Statement,
        *,
        epochs: int,
        rate: float,
        eps: float,
        betas: tuple[float, float],
        inner_steps: int,
        s: float,
        **_: Any,
    ) -> tuple[Array, Array]:
        """The lines of every visit, `visit` and `bound`."""
        x, K, D, d = data.start, inner_steps, len(problem.sizes), sum(problem.sizes)
        constants, rule = F2Constants.of(problem, noise, betas, K, x, claim), adam(eps, betas)
        alpha, s_k = like(step_size(problem, rate, float(problem.sup.blocks.sum())), x), like(s, x)
        P, Q, R = constants.parts(alpha, like(eps, x), d)
        a, moved = 2 * s_k - constants.square * s_k**2, alpha * constants.f1.n * constants.sup.sum()
        paid = added(P, scaled(Q, s_k), scaled(R, constants.square * s_k**2)) | {"inside": a * moved}
        points, chance, levels, size = x[None], like(np.ones(1), x), [], 0.0
        for _visit in range(visits_that_fit(D * len(noise.outcomes(x)[1]) ** K, epochs, exact(x))):
            slope = abs(data.gradient(points)).sum(axis=1)
            drop, ends, chances = 0 * slope, [], []
            for block in range(D):
                tree = grow(data, points, chance, block=block, inner_steps=K, rule=rule, lr=alpha, noise=noise)
                for level in tree.points:
                    require_certified(data, level, f"outcome {{}} of a visit of block {block} leaves")
                size = max(size, rounding(problem, noise, tree))
                drop = drop + self._visit(data, ledger, constants, rule, block, tree, alpha, s_k, size)
                ends.append(tree.points[-1])
                chances.append(tree.probability[-1] / D)
            parts = {name: alpha * K * part + 0 * slope for name, part in paid.items()}
            reach = float(abs(np.asarray(points, dtype=np.float64)).max()) + K * float(alpha)
            ledger.check("visit", alpha * K * a * slope, Terms(decrease=drop, **parts), scale=size * d * K * reach)
            levels.append((chance, chance * slope, data.gap(points)))
            points, chance = np.concatenate(ends), np.concatenate(chances)
        series = []
        for start, (roots, _, gap) in enumerate(levels):  # a theorem for every start holds from x^s too
            means = np.array([gathered(levels, start, t, D) / roots for t in range(start, len(levels))])
            n = np.arange(1, len(means) + 1)[:, None]
            total, first = np.cumsum(means, axis=0) / n, D * gap / (alpha * K * n)
            s_n = best_s(first + sum(P.values()), sum(Q.values()), sum(R.values()))
            a_n = (2 * s_n - constants.square * s_n**2) * like(claim.constant, x)
            parts = added({"gap": first}, P, scaled(Q, s_n), scaled(R, constants.square * s_n**2))
            parts = scaled(parts, 1 / a_n) | {"inside": moved / like(claim.constant, x)}
            right = Terms(**{name: part + 0 * total for name, part in parts.items()})
            ledger.check("bound", total, right, scale=size * d + right.total())
            series.append((total[:, 0], right.total()[:, 0]))
        return series[0]

    def _visit(
        self,
        data: Problem,
        ledger: Ledger,
        constants: F2Constants,
        rule: Adam,
        block: int,
        tree: Visit,
        alpha: Any,
        s: Any,
        size: float,
    ) -> Array:
        """The lines of a visit at every node; E[f(z^0) - f(z^K) | z^0] at every root."""
        rows, b, roots, eps = data.slices[block], tree.branches, tree.probability[0], like(rule.eps, data.start)
        d_i, l_i, known, square = data.sizes[block], constants.sup[block], constants.f1, constants.square * s**2
        sigma, total = constants.sigma[rows], 0 * roots
        reach = max(float(abs(np.asarray(level, dtype=np.float64)).max()) for level in tree.points) + float(alpha)
        true = [descended(g[:, rows], 1, b) for g in tree.gradients[:-1]]  # g^k at the nodes of level k
        for k in range(1, len(tree.used) + 1):
            rho, M, V = known.rho[k - 1], known.M[k - 1], known.V[k - 1]
            w, u, chance = known.w[k - 1][:k], known.u[k - 1][:k], tree.probability[k]
            m_hat, H, g = tree.m_hat[k - 1], tree.H[k - 1], true[k - 1]
            past, used = history(true, k, b), history(tree.used, k, b)
            e, n = np.tensordot(w, past - g, 1), np.tensordot(w, used - past, 1)
            delta, A, product = e + n, 1 / H, g * H * m_hat
            weighted = sqrt(np.tensordot(u, (used - past) ** 2, 1))  # ||xi_c||_u
            ledger.equal("m_hat", m_hat, g + delta, scale=size)
            ledger.check("rho", abs(H * m_hat), rho, scale=1.0)
            ledger.check("e", abs(e).sum(axis=1), alpha * l_i * M, scale=size * d_i, zero=M == 0)
            right = Terms(product=product, square=square * A, error=constants.reach[k - 1] * abs(delta))
            ledger.check("split", 2 * s * abs(m_hat), right, scale=size)
            slope = abs(g).sum(axis=1)
            right = Terms(
                gradient=slope,
                change=alpha * l_i * V + 0 * slope,
                noise=weighted.sum(axis=1),
                eps=d_i * eps + 0 * slope,
            )
            ledger.check("size", A.sum(axis=1), right, scale=size * d_i)
            drop, inner = drops(data, tree, k), product.sum(axis=1)
            step = alpha**2 * l_i * rho**2 / 2 + 0 * inner
            ledger.check("descent", alpha * inner, Terms(decrease=drop, step=step), scale=size * d_i * reach)
            if k > 1:
                first = descended(abs(true[0]).sum(axis=1), k - 1, b)
                way = alpha * l_i * known.before[k - 1] + 0 * slope
                ledger.check("inside", first, Terms(later=slope, inside=way), scale=size * d_i)
            omega = constants.omega[k - 1]
            ledger.check("n", conditional_mean(abs(n), chance, roots), omega * sigma, scale=size)
            ledger.check("xi", conditional_mean(weighted, chance, roots), constants.spread * sigma, scale=size)
            factor = 2 * s + constants.reach[k - 1]
            parts = {
                "error": factor * alpha * l_i * M,
                "noise": factor * omega * sigma.sum(),
                "change": square * alpha * l_i * V,
                "size": square * constants.spread * sigma.sum(),
                "eps": square * d_i * eps,
            }
            mean = conditional_mean(inner, chance, roots)
            right = Terms(inner=mean, **{name: part + 0 * mean for name, part in parts.items()})
            ledger.check("step", (2 * s - square) * conditional_mean(slope, chance, roots), right, scale=size * d_i)
            total = total + conditional_mean(drop, chance, roots)
        return total

    def controls(self) -> Iterator[Control]:
        """Each on an instance where the line it breaks is nearly an equality."""
        one = Quadratic.from_matrix(np.eye(1), sizes=[1], start=np.ones(1))
        quiet = {"eps": 1e-8, "betas": (0.9, 0.999), "inner_steps": 1, "s": 1.0, "p": 0.5, "outcomes": 2, "epochs": 1}
        quiet |= {"sigma": 0.0, "rate": 2**0.5}
        # without noise, and with |x| = alpha: one step reaches the minimum
        yield self.control("bound halved", "bound", one, F2Statement(constant=2.0), **quiet)
        yield self.control("m without bias correction", "rho", one, F2Statement(corrected=False), most=10.5, **quiet)
        yield self.control("s^2 halved", "step", one, F2Statement(square=0.5), **quiet)
        twice = {**quiet, "inner_steps": 2}
        yield self.control("errors of m halved", "e", one, F2Statement(error=0.5), **twice)
        yield self.control("way inside halved", "inside", one, F2Statement(inside=0.5), **twice)
        yield self.control("change of v halved", "size", one, F2Statement(change=0.5), **twice)
        # at the minimum a step sees the noise alone, symmetric with two outcomes
        still = Quadratic.from_matrix(np.eye(1), sizes=[1], start=np.full(1, 1e-6))
        noisy = {**quiet, "sigma": 1.0}
        yield self.control("noise of m halved", "n", still, F2Statement(omega=0.5), **noisy)
        yield self.control("noise of v halved", "xi", still, F2Statement(sigma=0.5), **noisy)
        yield self.control("error of the split halved", "split", still, F2Statement(reach=0.5), **noisy)


def scaled(parts: dict[str, Any], factor: Any) -> dict[str, Any]:
    """Every term times a factor."""
    return {name: factor * part for name, part in parts.items()}


def added(*sums: dict[str, Any]) -> dict[str, Any]:
    """Sums of named terms, term by term."""
    names = dict.fromkeys(name for parts in sums for name in parts)
    return {name: sum(parts[name] for parts in sums if name in parts) for name in names}


def gathered(levels: list[tuple[Array, Array, Array]], start: int, t: int, blocks: int) -> Array:
    """Sums over the outcomes of x^t that come from each outcome of x^start.

    Args:
        levels: probabilities and what is summed, at the outcomes of x^0, x^1, ...: those after a visit are the leaves
            of a tree for each block, one tree after the other.
        blocks: D.
    """
    values = levels[t][1]
    for chance, *_ in reversed(levels[start:t]):
        values = values.reshape(blocks, len(chance), -1).sum(axis=(0, 2))
    return values


def rounding(problem: Problem, noise: VectorNoise, tree: Visit) -> float:
    """Size of what is rounded in a noisy gradient.

    Args:
        problem: with float64 data.
    """
    scales = [problem.gradient_scale(np.asarray(z, dtype=np.float64)).max() for z in tree.points]
    return float(max(scales)) + float(abs(noise.outcomes(np.ones(1))[0]).max())


def visits_that_fit(outcomes: int, epochs: int, precise: bool) -> int:
    """The T <= epochs visits of which all outcomes are followed, at least one.

    Args:
        outcomes: of one visit, over all blocks.
    """
    most = 64 if precise else LEAVES
    return max(1, min(epochs, int(math.log(most) / math.log(outcomes) + 1e-9))) if outcomes > 1 else epochs
