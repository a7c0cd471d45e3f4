"""What the theorems on noisy gradients share: stochastic gradient descent in blocks (C1, C2, C3), BAdam (D1, D2).

Setting of C1, C2, C3. A step of a visit of block i is z^k = z^{k-1} - alpha (g^k + xi^k), g^k = grad_i f(z^{k-1}),
with E[xi^k | past] = 0 and E[||xi^k||^2 | past] <= sigma_i^2; alpha = gamma/L_max, 0 < gamma < 2, om = 1 - gamma/2,
s2 = sum_i sigma_i^2, V = sum_i L_i sigma_i^2, Delta = f(x^0) - f*.

Every expectation is exact, nothing is sampled: on quadratics the second moment of x - x* has a recursion
(`theory.noise.SecondMoment`), whatever the distribution of the noise; elsewhere all outcomes of two-point noise are
followed (`theory.bounds.trees`).
"""

from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np

from theory.bounds.bound import Bound, Outcome, Statement, require_between
from theory.bounds.triangular import triangular_constant
from theory.ledger import Ledger, Terms
from theory.noise import SecondMoment, TwoPoint
from theory.numbers import Array, like, precision
from theory.problems import Problem
from theory.problems.quadratic import Quadratic
from theory.problems.validation import positive_integer


@dataclass(frozen=True)
class SGDConstants:
    """The constants of the setting in the number type of the problem.

    Attributes:
        L: L_i, (D,).
        sigma2: sigma_i^2, (D,).
    """

    alpha: Any
    om: Any
    L: Array
    sigma2: Array
    L_max: Any
    s2: Any
    V: Any


@dataclass(frozen=True)
class Steps:
    """V visits of K steps.

    Attributes:
        blocks: block of each visit, (V,).
        drop: E f(z^{k-1}) - E f(z^k), (V, K).
        scale: the size of what was rounded in `drop`, (V, K).
        square: E||grad_i f(z^{k-1})||^2 of the block of the visit, (V, K).
    """

    blocks: np.ndarray
    drop: Array
    scale: Array
    square: Array

    @classmethod
    def of_moments(cls, visits: list[tuple[int, list[SecondMoment]]]) -> "Steps":
        """From the block and the states z^0, ..., z^K of each visit."""
        gap = np.array([[state.gap() for state in states] for _, states in visits])
        square = np.array([[state.squares(block) for state in states[:-1]] for block, states in visits])
        blocks = np.array([block for block, _ in visits])
        return cls(blocks, gap[:, :-1] - gap[:, 1:], gap[:, :-1] + gap[:, 1:], square)


class StochasticBound(Bound):
    """Base: hypotheses on gamma, K and the noise; one exact run instead of a trajectory.

    A setting has sigma, and p where the noise need not be symmetric.
    """

    theorem = ""

    def require_common(self, gamma: float, inner_steps: int, sigma: float) -> None:
        """Raise ValueError unless the parameters that C1, C2 and C3 share are possible.

        Args:
            gamma: the step size times L_max, in (0, 2).
            inner_steps: K.
            sigma: standard deviation of every coordinate's noise, so that sigma_i^2 = d_i sigma^2.
        """
        require_between("gamma", gamma, 0, 2, who=f"{self.theorem}: alpha < 2/L_max")
        positive_integer("inner_steps", inner_steps)
        TwoPoint.of(0.5, sigma)

    def prove_in_mean(
        self,
        problem: Problem,
        data: Any,
        noise: TwoPoint,
        ledger: Ledger,
        statement: Any,
        *,
        epochs: int,
        **setting: Any,
    ) -> dict[str, Array]:
        """Every line of the proof in expectation; measured and bound for growing T, and what else a figure shows.

        Args:
            problem: with float64 constants.
            data: the same problem in the arithmetic of the run.
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

        Args:
            noise: what is added to every coordinate, of the setting's p and sigma unless given; its variance must be
                at most sigma^2.

        Raises:
            ValueError: when a hypothesis on the setting, the problem or the noise does not hold.
        """
        if arithmetic == "exact":
            raise ValueError("arithmetic='exact' is not possible: the proof takes roots; use 'mp'")
        noise = noise or TwoPoint.of(setting.get("p", 0.5), setting["sigma"])
        if statement is None:
            self.check_setting(setting)
            require_variance(noise, setting["sigma"])
        self.require_problem(problem)
        with precision(arithmetic):
            data = problem.lifted(mpmath.mpf) if arithmetic == "mp" else problem
            statement, epochs = statement or self.true, epochs or self.epochs
            ledger = Ledger(label, keep_series=keep_series, stronger=statement.stronger)
            series = self.prove_in_mean(problem, data, noise, ledger, statement, epochs=epochs, **setting)
        outcome = self.outcome(series.pop("measured"), series.pop("bound"), ledger)
        outcome.series.update({name: values.astype(np.float64).tolist() for name, values in series.items()})
        return outcome


def require_quadratic(problem: Problem, theorem: str) -> None:
    """Raise ValueError unless moments have a recursion."""
    if not isinstance(problem, Quadratic):
        raise ValueError(
            f"problem={type(problem).__name__} is not possible: {theorem} is checked with exact "
            "expectations, which have a recursion on quadratics"
        )


def require_variance(noise: TwoPoint, sigma: float) -> None:
    """Raise ValueError unless E s^2 <= sigma^2, up to the rounding of the float sigma."""
    if noise.variance(np.ones(1)) > sigma**2 * (1 + 1e-12):
        raise ValueError(f"noise={noise} is not possible: its variance is above sigma^2 = {sigma**2:.6g}")


def constants_of(problem: Problem, noise: TwoPoint, gamma: float) -> SGDConstants:
    """alpha = gamma/L_max and the sigma_i^2 of this noise, exactly; in the arithmetic of the start."""
    x = problem.start
    L, one = like(problem.L_i, x), like(1.0, x)
    alpha = like(gamma, x) / L.max()
    sigma2 = np.array([noise.variance(x) * size for size in problem.sizes], dtype=x.dtype)
    return SGDConstants(alpha, one - alpha * L.max() / 2, L, sigma2, L.max(), sigma2.sum(), (L * sigma2).sum())


def drift(problem: Problem, order: tuple[int, ...], inner_steps: int) -> float:
    """drift_K = min{K Lambda + L_max sqrt(K(K-1)/2), L sqrt(K^2 (D-1) + K(K-1)/2)} for one order of the blocks."""
    K, inside = inner_steps, inner_steps * (inner_steps - 1) / 2
    first = K * triangular_constant(problem, order) + problem.L_i.max() * inside**0.5
    return float(min(first, problem.L * (K * K * (len(order) - 1) + inside) ** 0.5) * (1 + 1e-15))  # rounded up


def check_steps(ledger: Ledger, steps: Steps, constants: SGDConstants, statement: Statement) -> None:
    """The line `step`: alpha om E||g^k||^2 <= E f(z^{k-1}) - E f(z^k) + alpha^2 L_i sigma_i^2/2."""
    noise = statement.constant * constants.alpha**2 * (constants.L * constants.sigma2)[steps.blocks, None] / 2
    left = constants.alpha * constants.om * steps.square
    ledger.check("step", left, Terms(decrease=steps.drop, noise=noise), scale=steps.scale + noise)
