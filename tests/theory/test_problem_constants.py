"""The constants of the families against the largest value on a grid, on instances so small that they are attained.

An adversary that searches does not see a constant that is too small by a few per cent where the instance does not
attain it; a grid over one or two coordinates does.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from theory.problems.deep_linear import DeepLinear, largest_monomial
from theory.problems.expcosh import ExpCosh
from theory.problems.huber import Huber
from theory.problems.logistic import Logistic
from theory.problems.matfac import MatrixFactorisation
from theory.problems.mlp import BEND, MLP
from theory.problems.nesterov import Nesterov
from theory.problems.plsin import PLSin, pl_of_one_term
from theory.problems.quadcos import QuadCos
from theory.problems.quadratic import Quadratic
from theory.problems.rosenbrock import Rosenbrock
from theory.problems.sampling import hessians

CLOSE = 2e-3
"""How far the largest value of a grid may stay below an attained constant."""

FAR = 100.0
"""Where the rays of the grid end if C does not."""

ATTAINED = [
    Logistic([1], samples=1, ridge=0.1, seed=0),
    Huber([1], samples=1, delta=0.5, seed=0),
    PLSin([1], condition=1.0, seed=0),
    QuadCos([1], amplitude=1.0, terms=1, seed=0),
    ExpCosh([1], terms=1, height=3.0, seed=0),
    Quadratic([1, 1], condition=10.0, heterogeneity=4.0, seed=0),
    Nesterov([1, 1], condition=5.0),
    Rosenbrock(num_blocks=2, steepness=10.0, seed=0),
    MatrixFactorisation(num_blocks=2, shape=[1, 1], rank=1, lam=0.3, seed=0),
    DeepLinear(num_blocks=2, width=1, lam=0.3, seed=0),
]
FAMILIES = pytest.mark.parametrize("problem", ATTAINED, ids=lambda problem: type(problem).__name__)
NOT_ATTAINED = {("Huber", "-mu"), ("Rosenbrock", "-mu"), ("DeepLinear", "L")}
"""Bounds by cells, by all weights or by the norm of (L_ij)."""


@functools.cache
def grid(problem: Any) -> np.ndarray:
    """Points of C on rays from the minimiser, or from 0, to the boundary; one or two coordinates."""
    centre = np.zeros(len(problem.start)) if problem.minimiser is None else problem.minimiser
    angles = np.linspace(0, 2 * np.pi, 2000, endpoint=False)
    one = len(centre) == 1
    rays = np.array([[1.0], [-1.0]]) if one else np.stack([np.cos(angles), np.sin(angles)], axis=1)
    low, high = np.zeros(len(rays)), np.full(len(rays), FAR)
    low[problem.inside(centre + FAR * rays)] = FAR
    for _ in range(60):
        middle = (low + high) / 2
        within = problem.inside(centre + middle[:, None] * rays)
        low, high = np.where(within, middle, low), np.where(within, high, middle)
    shares = np.linspace(0, 1, 40001 if one else 101)
    return centre + (shares[:, None, None] * low[:, None] * rays).reshape(-1, len(centre))


def extremes(problem: Any) -> dict[str, float]:
    """Largest values on the grid of what the constants bound from above."""
    matrices = hessians(problem, grid(problem))
    eigenvalues = np.linalg.eigvalsh(matrices)
    found = {"L": float(np.abs(eigenvalues).max()), "-mu": float(-eigenvalues.min())}
    size = len(problem.start)
    return found | {f"L_{i}{j}": float(np.abs(matrices[:, i, j]).max()) for i in range(size) for j in range(i, size)}


def constants(problem: Any) -> dict[str, float]:
    """The constants under the same names."""
    size = len(problem.start)
    both = {f"L_{i}{j}": float(problem.L_ij[i, j]) for i in range(size) for j in range(i, size)}
    return {"L": problem.L, "-mu": -problem.mu} | both


@FAMILIES
def test_attained_constants_are_the_largest_values_on_a_grid(problem: Any) -> None:
    found = extremes(problem)
    for name, value in constants(problem).items():
        assert found[name] <= value + 1e-9 * problem.L, name
        if (type(problem).__name__, name) not in NOT_ATTAINED:
            assert found[name] >= value - CLOSE * abs(value) - 1e-9 * problem.L, (name, found[name], value)


@pytest.mark.parametrize("exponents", [[1, 1], [2], [2, 2], [1, 1, 2], [2, 2, 2], [1, 1, 2, 2]])
def test_the_largest_monomial_is_that_of_a_grid(exponents: Sequence[int]) -> None:
    """The layers of a deep linear network: the product of powers of their norms on a ball."""
    angles = np.linspace(0, np.pi / 2, 61)
    rest, parts = np.ones((1,)), []
    for _ in exponents[:-1]:
        rest = rest[..., None]
        parts = [part[..., None] * np.ones(len(angles)) for part in parts] + [rest * np.cos(angles)]
        rest = rest * np.sin(angles)
    parts.append(rest)
    largest = (
        1.7 ** sum(exponents) * np.prod([part**e for part, e in zip(parts, exponents, strict=True)], axis=0).max()
    )
    claimed = largest_monomial(exponents, 1.7)
    assert largest <= claimed * (1 + 1e-12)
    assert largest >= claimed * (1 - CLOSE)


def test_the_bend_of_tanh_is_the_largest_one() -> None:
    tanh = np.tanh(np.linspace(-3, 3, 200001))
    largest = float(np.abs(2 * tanh * (1 - tanh**2)).max())
    assert largest <= BEND <= largest * (1 + 1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_the_constants_of_a_network_hold_on_a_grid(seed: int) -> None:
    """Two weights: products of separate largest values, so that they are not attained, but nearly."""
    problem = MLP(num_blocks=2, inputs=1, hidden=1, samples=1, lam=0.3, seed=seed)
    found, claimed = extremes(problem), constants(problem)
    assert all(found[name] <= value + 1e-9 * problem.L for name, value in claimed.items()), (found, claimed)
    # the bound of one row, by cells of beta, against its own formula on a grid
    reach, label = abs(float(problem.features[0, 0])), abs(float(problem.labels[0]))
    beta = np.linspace(0, math.sqrt(problem.limit), 20001)
    output = beta * np.minimum(1.0, reach * np.sqrt(np.maximum(problem.limit - beta**2, 0)))
    largest = float((reach**2 * (beta**2 + BEND * beta * (label + output))).max())
    assert largest <= problem.L_ij[0, 0] - 0.3 <= largest * 1.02


def test_the_inequality_of_one_term_is_the_least_on_a_grid() -> None:
    u = np.linspace(0.01, 20, 400001)
    least = float(((2 * u + 3 * np.sin(2 * u)) ** 2 / (2 * (u**2 + 3 * np.sin(u) ** 2))).min())
    assert least * (1 - 1e-3) <= pl_of_one_term() <= least


@FAMILIES
def test_the_lower_bound_of_f_is_the_least_value_on_a_grid(problem: Any) -> None:
    points = grid(problem)
    least = float(problem.value(points).min())
    assert problem.f_star <= least + 1e-12
    if type(problem) in (QuadCos, Huber):
        return  # -sum a_c, and a dual bound: not attained
    span = float(problem.value(problem.start)) - problem.f_star
    assert problem.f_star >= least - 0.02 * span, (problem.f_star, least)
