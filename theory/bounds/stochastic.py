"""What the theorems on stochastic gradient descent in blocks (C1, C2, C3) share.

Setting of all three. A step of a visit of block i is z^k = z^{k-1} - alpha (g^k + xi^k), g^k = grad_i f(z^{k-1}), with
E[xi^k | past] = 0 and E[||xi^k||^2 | past] <= sigma_i^2; alpha = gamma/L_max with 0 < gamma < 2, om = 1 - gamma/2,
s2 = sum_i sigma_i^2, V = sum_i L_i sigma_i^2, Delta = f(x^0) - f*.

Every expectation is exact: on quadratics the second moment of x - x* has a recursion (`theory.noise.SecondMoment`),
whatever the distribution of the noise. The theorems hold for every smooth f; a problem without such a recursion is
refused, because nothing here is sampled.
"""

from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np

from theory.bounds.bound import Bound, Outcome, Statement, require_between
from theory.bounds.triangular import triangular_constant
from theory.ledger import Ledger
from theory.noise import SecondMoment, TwoPoint, signs
from theory.numbers import Array, like, precision
from theory.problems import Problem
from theory.problems.quadratic import Quadratic
from theory.problems.validation import positive_integer


@dataclass(frozen=True)
class SGDConstants:
    """alpha, om, s2, V and the per-block constants in the number type of the problem."""

    alpha: Any
    om: Any
    L: Array
    sigma2: Array
    L_max: Any
    s2: Any
    V: Any


class StochasticBound(Bound):
    """Base: hypotheses on gamma, K and the noise; one exact run instead of a trajectory.

    Parameters: gamma, the step size times L_max; inner_steps, K; sigma, standard deviation of every coordinate's
    noise, so that sigma_i^2 = d_i sigma^2.
    """

    theorem = ""

    def require_common(self, gamma: float, inner_steps: int, sigma: float) -> None:
        require_between("gamma", gamma, 0, 2, who=f"{self.theorem}: alpha < 2/L_max")
        positive_integer("inner_steps", inner_steps)
        TwoPoint.of(0.5, sigma)

    def require_problem(self, problem: Problem) -> None:
        if not isinstance(problem, Quadratic):
            raise ValueError(
                f"problem={type(problem).__name__} is not possible: {self.theorem} is checked with exact "
                "expectations, which have a recursion on quadratics"
            )

    def prove_in_mean(
        self,
        problem: Quadratic,
        state: SecondMoment,
        known: SGDConstants,
        ledger: Ledger,
        statement: Any,
        *,
        epochs: int,
        **setting: Any,
    ) -> tuple[Array, Array]:
        """Every line of the proof in expectation; measured and bound for growing T.

        problem: with float64 constants; the state and `known` are in the arithmetic of the run.
        """
        raise NotImplementedError

    def evaluate(
        self,
        problem: Problem,
        *,
        arithmetic: str = "float64",
        statement: Any = None,
        noise: TwoPoint | None = None,
        epochs: int | None = None,
        label: str = "",
        keep_series: bool = False,
        **setting: Any,
    ) -> Outcome:
        """As `Bound.evaluate`, for the expectation over all outcomes of the noise.

        noise: what is added to every coordinate, symmetric with the standard deviation sigma unless given; its
            variance must be at most sigma^2.

        Raises ValueError when a hypothesis on the setting, the problem or the noise does not hold.
        """
        if arithmetic == "exact":
            raise ValueError("arithmetic='exact' is not possible: the proof takes roots; use 'mp'")
        noise = noise or TwoPoint.of(0.5, setting["sigma"])
        if statement is None:
            self.check_setting(setting)
            require_variance(noise, setting["sigma"])
        self.require_problem(problem)
        assert isinstance(problem, Quadratic)  # for the type checker
        with precision(arithmetic):
            data = problem.lifted(mpmath.mpf) if arithmetic == "mp" else problem
            state = SecondMoment(data, noise)
            known = constants(data, noise, setting["gamma"])
            ledger = Ledger(label, keep_series=keep_series)
            epochs = epochs or self.epochs
            measured, bound = self.prove_in_mean(
                problem, state, known, ledger, statement or self.true, epochs=epochs, **setting
            )
        return self.outcome(measured, bound, ledger)


def require_variance(noise: TwoPoint, sigma: float) -> None:
    """Raise ValueError unless E s^2 <= sigma^2, up to the rounding of the float sigma."""
    if noise.variance(np.ones(1)) > sigma**2 * (1 + 1e-12):
        raise ValueError(f"noise={noise} is not possible: its variance is above sigma^2 = {sigma**2:.6g}")


def constants(problem: Quadratic, noise: TwoPoint, gamma: float) -> SGDConstants:
    """alpha = gamma/L_max and the sigma_i^2 of this noise, exactly."""
    like_data = problem.matrix
    L, one = like(problem.L_i, like_data), like(1.0, like_data)
    alpha = like(gamma, like_data) / L.max()
    sigma2 = np.array([noise.variance(like_data) * len(signs(size)) for size in problem.sizes], dtype=L.dtype)
    return SGDConstants(alpha, one - alpha * L.max() / 2, L, sigma2, L.max(), sigma2.sum(), (L * sigma2).sum())


def drift(problem: Problem, order: tuple[int, ...], inner_steps: int) -> float:
    """drift_K = min{K Lambda + L_max sqrt(K(K-1)/2), L sqrt(K^2 (D-1) + K(K-1)/2)} for one order of the blocks."""
    K, inside = inner_steps, inner_steps * (inner_steps - 1) / 2
    first = K * triangular_constant(problem, order) + problem.L_i.max() * inside**0.5
    return float(min(first, problem.L * (K * K * (len(order) - 1) + inside) ** 0.5) * (1 + 1e-15))


def check_steps(
    ledger: Ledger, visits: list[tuple[int, list[SecondMoment]]], known: SGDConstants, statement: Statement
) -> tuple[Array, Array, Array]:
    """The line `step`: alpha om E||g^k||^2 <= E f(z^{k-1}) - E f(z^k) + alpha^2 L_i sigma_i^2/2.

    visits: the block and the states z^0, ..., z^K of each of V visits. Returns the blocks (V,), E f(z^k) - f(x*) of
    shape (V, K+1) and E||grad_i f(z^k)||^2 of shape (V, K).
    """
    blocks = np.array([block for block, _ in visits])
    gap = np.array([[state.gap() for state in states] for _, states in visits])
    square = np.array([[state.squares(block) for state in states[:-1]] for block, states in visits])
    noise = statement.constant * known.alpha**2 * (known.L * known.sigma2)[blocks, None] / 2
    right = gap[:, :-1] - gap[:, 1:] + noise
    ledger.check("step", known.alpha * known.om * square, right, scale=gap[:, :-1] + gap[:, 1:] + noise)
    return blocks, gap, square
