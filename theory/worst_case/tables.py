"""The figures for the paper: worst cases by semidefinite programming beside the constants of the theorems."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from theory.bounds.a1 import kappa
from theory.bounds.triangular import recursion, tau
from theory.worst_case.cases import Case
from theory.worst_case.certify import CertificateError, certify
from theory.worst_case.sdp import SolverError, worst_case

HUNDREDTHS = 200  # a = 2 is the limit of one gradient step


def recursive_constant(blocks: int, inner_steps: int = 1, gamma: float = 1.0) -> float:
    """C_rec of Theorem A1 for L_i = L = 1."""
    cross = math.sqrt(gamma * inner_steps / (1 - gamma / 2))
    return recursion(math.sqrt(2 / kappa(gamma, inner_steps)), cross, blocks) ** 2


def epochs(blocks: Sequence[int]) -> dict[str, list[float]]:
    """One block epoch, K = 1, a = 1: the exact worst case C*(D) and C_rec, both in units of L."""
    return {
        "blocks": list(blocks),
        "worst_case": [worst_case(Case("epoch", D)) for D in blocks],
        "theorem": [recursive_constant(D) for D in blocks],
    }


def triangular(blocks: Sequence[int]) -> dict[str, list[float]]:
    """Lemma T: the exact supremum of its ratio (not squared), tau(D) and sqrt(D - 1), in units of L."""
    return {
        "blocks": list(blocks),
        "worst_case": [math.sqrt(worst_case(Case("triangular", D, rule="free"))) for D in blocks],
        "tau": [tau(D) for D in blocks],
        "root": [math.sqrt(D - 1) for D in blocks],
    }


def inner_steps(blocks: int, steps: Sequence[int]) -> dict[str, Any]:
    """The effect of K on C*(D): long steps gamma = 1, which hurt, and short steps gamma = 1/K, which do not."""
    table: dict[str, Any] = {"blocks": blocks, "inner_steps": list(steps)}
    for name, gammas in (("long", [Fraction(1)] * len(steps)), ("short", [Fraction(1, K) for K in steps])):
        pairs = list(zip(steps, gammas, strict=True))
        table[name] = {
            "worst_case": [worst_case(Case("epoch", blocks, K, step=gamma)) for K, gamma in pairs],
            "theorem": [recursive_constant(blocks, K, float(gamma)) for K, gamma in pairs],
        }
    return table


def largest_step(inner_steps: int, ratio: Fraction, decay: Fraction = Fraction(9, 10)) -> int:
    """The largest a in hundredths for which an exact certificate says that a visit never increases f, by bisection.

    a = alpha h_max L and ratio = h_max/h_min of the rule sector, decay = beta1. Every step that is returned has its
    proof; that the next hundredth has none is the solver's word only.
    """
    proved, failed = 0, HUNDREDTHS
    while failed - proved > 1:
        middle = (proved + failed) // 2
        case = Case("descent", 1, inner_steps, rule="sector", step=Fraction(middle, 100), decay=decay, ratio=ratio)
        try:
            certify(case)
        except (CertificateError, SolverError):
            failed = middle
        else:
            proved = middle
    return proved


def step_limit(inner_steps: int, decay: float = 0.9) -> float:
    """a_max = 2/(1 + sqrt(1 + 4 sigma_K^2)) of Theorem B1 (any ratio), sigma_K = || W ||_2, W strictly lower,

    W_kl = b^{k-l} (1 - b^l)/(1 - b^k).

    >>> [round(step_limit(K), 3) for K in (1, 2, 5, 10)]
    [1.0, 0.841, 0.534, 0.326]
    """
    k, l = np.ogrid[1 : inner_steps + 1, 1 : inner_steps + 1]  # noqa: E741
    weights = np.where(l < k, decay ** np.maximum(k - l, 0) * (1 - decay**l) / (1 - decay**k), 0.0)
    return 2 / (1 + math.sqrt(1 + 4 * float(np.linalg.norm(weights, 2)) ** 2))


def descent(steps: Sequence[int], ratios: Sequence[int]) -> dict[str, Any]:
    """How long the steps of BAdam's sector may be: the theorem's limit and what certificates prove."""
    return {
        "inner_steps": list(steps),
        "theorem": [step_limit(K) for K in steps],
        "certified": {str(ratio): [largest_step(K, Fraction(ratio)) / 100 for K in steps] for ratio in ratios},
    }
