"""Theorem A2: the O(1/t) rate of block coordinate descent on convex f, beside the published one.

In the paper: thm:a2, proof in app:a2.

Assumptions. Those of Theorem A1 (`theory.bounds.a1`); f is convex with a minimiser, f* = min f, and R is finite with
R >= ||x - x*|| whenever f(x) <= f(x^0), for one minimiser x* (`problem.radius`, certified, never estimated). Any
order of the blocks in each block epoch; 0 < gamma < 2; K >= 1.

Constants. C_t of Theorem A1; A_t = f(x^t) - f*; C = max_{s<t} C_s;
C_BT = 4 L_max (1 + D L^2/L_min^2), the published constant for K = gamma = 1.

Theorem.  A_t <= 1/( 1/A_0 + sum_{s<t} 1/(C_s R^2) )  <=  min{ A_0, C R^2/(t + 2C/L) }.

Proof, by the lines of the ledger (those of `epoch` itself, A0 to A1b, are checked with Theorem A1):
 epoch   ||grad f(x^t)||^2/C_t <= A_t - A_{t+1}.                      Theorem A1; so x^t stays where f <= f(x^0).
 radius  ||x^t - x*|| <= R.                                           Checked where the minimiser is known.
 convex  A_t <= R ||grad f(x^t)||.                                    Convexity, Cauchy-Schwarz, radius.
 step    A_t^2/(C_t R^2) <= A_t - A_{t+1}.                            convex inserted in epoch.
 inverse A_{t+1} (1 + A_t/(C_t R^2)) <= A_t.                          step, and (1-q)(1+q) <= 1 with q = A_t/(C_t R^2).
 bound   A_t <= 1/( 1/A_0 + sum_{s<t} 1/(C_s R^2) ).                  inverse divided by A_t A_{t+1}, summed.
 start   A_t <= L R^2/2, needed at t = 0.                             Descent lemma at x*, radius.
 simple  the bound is at most C R^2/(t + 2C/L).                       start inserted in bound.   QED
For K = gamma = 1 two more lines compare it with Beck and Tetruashvili (2013), Theorem 3.6:
 C_BT    C_t <= C_BT.     C_scalar <= 4 L_max + 4 Lambda^2/L_min and Lambda^2 <= L^2 tau(D)^2 <= L^2 (D-1).
 BT      the bound is at most min{ A_0, C_BT R^2/(t + 8/D) }.     C_BT, start and L <= D L_max.

Cases of equality: `start` for a multiple of ||x - x*||^2. D = 1, K = gamma = 1, Huber's function h of one variable
with x^0 = R and delta = R/(2T+1): A_s = delta (x^0 - s delta) - delta^2/2, so that with c C_t for C_t the ratio of
`bound` at s = q (2T+1) tends to (1-q)(1 + q/(2c)), at most 1 for all q if and only if c >= 1/2. So in a bound of this
form C_t cannot be improved by more than a factor of 2. A_T = L R^2/(4T + 2) there is the exact worst case for D = 1
(Drori and Teboulle, arXiv 1206.3209), about an eighth of `simple`.
Where it says little: the bound never exceeds A_0, but it needs t >= C R^2/A_0 block epochs to halve it, on
ill-conditioned problems thousands. The published number C_BT R^2/(t + 8/D) alone exceeds A_0, so says nothing at
all, until t = C_BT R^2/A_0 - 8/D.

Source: Beck and Tetruashvili (SIAM J. Optim. 23, 2013, Theorem 3.6; no arXiv version known): cyclic order,
K = gamma = 1. Here with the constant of Theorem A1, any order, gamma and K.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from theory.bounds.a1 import A1, A1Statement, gaps, worst_start
from theory.bounds.bound import Control, Outcome
from theory.ledger import Ledger
from theory.numbers import Array, like, norm
from theory.problems import Problem
from theory.problems.huber import Huber
from theory.problems.plsin import PLSin
from theory.problems.quadratic import Quadratic
from theory.trajectory import Trajectory


@dataclass(frozen=True)
class A2Statement(A1Statement):
    """The statement of Theorem A2 or a false version of it.

    Attributes:
        radius: factor of R.
    """

    radius: float = 1.0


def published_constant(problem: Problem) -> float:
    """C_BT = 4 L_max (1 + D L^2/L_min^2) of Beck and Tetruashvili (2013), for K = gamma = 1."""
    L_i = problem.L_i
    return float(4 * L_i.max() * (1 + len(L_i) * problem.L**2 / L_i.min() ** 2))


def published_bound(problem: Problem, epochs: np.ndarray) -> Array:
    """C_BT R^2/(t + 8/D) for every t in `epochs`, which may exceed f(x^0) - f*."""
    return published_constant(problem) * problem.radius**2 / (epochs + 8 / len(problem.sizes))


class A2(A1):
    """Theorem A2."""

    true = A2Statement()

    def require_problem(self, problem: Problem) -> None:
        if not problem.convex:
            raise ValueError(f"convex={problem.convex} is not possible: Theorem A2 needs a convex f")
        if not np.isfinite(problem.radius):
            raise ValueError(f"radius={problem.radius} is not possible: Theorem A2 needs a finite one")

    def prove(
        self,
        problem: Problem,
        path: Trajectory,
        ledger: Ledger,
        statement: Any,
        *,
        gamma: float,
        inner_steps: int,
        order: str,
    ) -> tuple[Array, Array]:
        C, _ = self.descent(problem, path, ledger, statement, gamma=gamma)
        points, (gap, scale) = path.points[path.starts], gaps(path)
        slope, size = norm(path.gradients[path.starts]), path.gradient_scale
        R, L = like(statement.radius * problem.radius, gap), like(problem.L, gap)
        if problem.minimiser is not None:
            away = norm(points - like(problem.minimiser, gap))
            ledger.check("radius", away, R, scale=away + norm(points))
        ledger.check("convex", gap, R * slope, scale=scale + R * size)
        reach, pair = C * R**2, scale[:-1] + scale[1:]
        now, then = gap[:-1], gap[1:]
        ledger.check("step", now**2 / reach, now - then, scale=pair * (1 + 2 * now / reach))
        ledger.check("inverse", then * (1 + now / reach), now, scale=pair * (1 + now / reach))
        bound = 1 / (1 / gap[0] + np.concatenate([0 * C[:1], np.cumsum(1 / reach)]))
        ledger.check("bound", gap[1:], bound[1:], scale=scale[0] + scale[1:])  # at t = 0 both sides are A_0
        ledger.check("start", gap, L * R**2 / 2, scale=scale)
        worst = np.maximum.accumulate(C)
        t = np.arange(1, len(gap))
        ledger.check("simple", bound[1:], worst * R**2 / (t + 2 * worst / L), scale=bound[1:])
        if gamma == 1 and inner_steps == 1:
            ledger.check("C_BT", C, like(published_constant(problem), gap), scale=C)
            ledger.check("BT", bound[1:], np.minimum(like(published_bound(problem, t), gap), gap[0]), scale=bound[1:])
        return gap, bound

    def showcase(self, problem: Problem) -> Outcome | None:
        """As always, with the published bound, cut at f(x^0) - f*, as a third series."""
        outcome = super().showcase(problem)
        if outcome is None:
            return None
        published = published_bound(problem, np.arange(len(outcome.series["bound"])))
        published = np.minimum(published, outcome.series["bound"][0])
        return replace(outcome, series={**outcome.series, "published": published.tolist()})

    def controls(self) -> Iterator[Control]:
        """C_t/4 instead of C_t/2, which may be true: see the cases of equality."""
        once = {"gamma": 1.0, "inner_steps": 1, "order": "cyclic"}
        ramp = worst_huber(epochs=10)
        yield self.control("C_t divided by 4", "bound", ramp, A2Statement(constant=1 / 4), epochs=10, **once)

        ball = Quadratic.from_matrix(np.eye(2), sizes=[2], start=np.array([1.0, 0.5]))
        yield self.control("R halved", "start", ball, A2Statement(radius=0.5), epochs=1, most=4.1, **once)
        yield self.control("R divided by 4", "convex", ball, A2Statement(radius=0.25), epochs=1, **once)

        matrix = np.array([[1.0, 0.9], [0.9, 1.0]])
        start = worst_start(Quadratic.from_matrix(matrix, sizes=[1, 1], start=np.ones(2)), gamma=1.0)
        pair = Quadratic.from_matrix(matrix, sizes=[1, 1], start=start)
        yield self.control("C_t halved", "epoch", pair, A2Statement(constant=0.5), epochs=1, **once)

        # 2.5/L makes every step an ascent
        ascent = {**once, "gamma": 2.5, "epochs": 5}
        yield self.control(
            "gamma = 2.5", "bound", ball, A2Statement(gamma=1.0), true={"gamma": 1.9}, most=130.0, **ascent
        )

        # a nonconvex f at a point that is nearly stationary and far above f*; u*u, convex, for the true statement
        wave = PLSin([1], condition=1.0, seed=0)
        wave.start = 2.1 / wave.rows[0]
        wave.radius = float(np.sqrt(wave.value(wave.start)) * (1 + 1e-12))
        bowl = Quadratic.from_matrix(2 * np.eye(1), sizes=[1], start=wave.start)
        false = self.evaluate(wave, statement=A2Statement(), epochs=1, **once).ledger.lines["convex"]
        right = self.evaluate(bowl, epochs=1, **once).ledger.lines["convex"]
        values = (false.largest_ratio, false.violations, right.largest_ratio, right.violations)
        yield Control("convexity dropped", "convex", *values)


def worst_huber(*, epochs: int, seed: int = 0) -> Huber:
    """Huber's function h(ax - b) of one variable on which gradient descent is slowest: delta = |a x^0 - b|/(2T+1)."""
    with np.errstate(divide="ignore"):  # one sample: its dual certificate is s = 0, which needs no scaling
        any_delta = Huber([1], samples=1, delta=1.0, seed=seed)
        distance = float(np.abs(any_delta.directions(any_delta.start)[0]))
        return Huber([1], samples=1, delta=distance / (2 * epochs + 1), seed=seed)
