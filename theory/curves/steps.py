"""The effect of the number of blocks D and of the steps a visit K on the constants of the theorems."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from theory.bounds.a1 import epoch_constants, kappa
from theory.bounds.b2 import constants_of
from theory.bounds.splitting import splitting
from theory.bounds.triangular import tau
from theory.problems.quadratic import Quadratic
from theory.worst_case.tables import recursive_constant


def blocks(numbers: Sequence[int]) -> dict[str, list[float]]:
    """tau(D) of Lemma T beside sqrt(D - 1), and C_rec of Theorem A1 for L_i = L = gamma = K = 1."""
    return {
        "blocks": list(numbers),
        "tau": [tau(D) for D in numbers],
        "root": [math.sqrt(D - 1) for D in numbers],
        "constant": [recursive_constant(D) for D in numbers],
    }


def gain(gammas: Sequence[float], steps: Sequence[int]) -> dict[str, Any]:
    """kappa_K of Theorem A1 for every gamma."""
    return {
        "inner_steps": list(steps),
        "kappa": {f"{gamma:g}": [kappa(gamma, K) for K in steps] for gamma in gammas},
    }


def l1(betas: tuple[float, float], steps: Sequence[int]) -> list[float]:
    """(C + N)/K of Theorem B2: what multiplies alpha sum_i L_i d_i in its bound, for every K.

    >>> [round(constant, 2) for constant in l1((0.9, 0.999), [1, 2])]
    [0.5, 1.69]
    """
    constants = [constants_of(betas, K) for K in steps]
    return [float(each.C + each.N) / K for each, K in zip(constants, steps, strict=True)]


def contraction(example: Mapping[str, Any], gammas: Sequence[float], steps: Sequence[int]) -> dict[str, Any]:
    """One ascending block epoch on one quadratic, for every gamma: the exact factor c_K of Theorem A6 and the factor
    1 - 2 mu/C_t of Theorem A3; and the exact factor of exact block minimisation (Theorem A5).

    Args:
        example: arguments of `theory.problems.quadratic.Quadratic`.
    """
    problem = Quadratic(**example)
    order = range(len(problem.sizes))
    exact: dict[str, list[float]] = {}
    theorem: dict[str, list[float]] = {}
    for gamma in gammas:
        alpha = np.asarray(gamma / problem.L_i)
        exact[f"{gamma:g}"] = [splitting(problem, order, alpha, K).contraction()[0] for K in steps]
        constants = [epoch_constants(problem, order, gamma=gamma, inner_steps=K) for K in steps]
        least = [min(each["C_scalar"], each["C_matrix"], each["C_rec"]) for each in constants]
        theorem[f"{gamma:g}"] = [1 - 2 * problem.pl / C for C in least]
    return {
        "problem": dict(example),
        "inner_steps": list(steps),
        "exact": exact,
        "theorem": theorem,
        "minimisation": splitting(problem, order).contraction()[0],
    }
