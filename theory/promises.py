"""What Theorems B1+ and B2 promise for one visit of one block, D = 1, from numbers that can be measured.

A visit of BAdam with K steps of size alpha from gradient g, on a block of d coordinates with smoothness L:

    B1+   f(z^0) - f(z^K) >= coef ||g||^2,   coef of the master lemma with Lambda = 0
    B2    f(z^0) - f(z^K) >= alpha K (||g||_1 - d eps) - alpha^2 L d (C + N)      (line B2.5)

A block is a mapping as in the record of experiments.curvature: size d, gradient (norm, l1), curvature (value, L).
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from bcd import Adam
from theory.bounds.b2 import constants_of
from theory.bounds.master import best_theta, recipe_of


def b1_visit(rule: Adam, L: float, G: float, alpha: float, inner_steps: int) -> float:
    """Coefficient of ||g||^2 in Theorem B1+ for a visit of one block; G bounds the entries of its gradients.

    0 where alpha is too large for the theorem.

    >>> 0 < b1_visit(Adam(eps=1.0), 1.0, 1.0, 0.1, 2) < 0.1
    True
    """
    recipe = recipe_of(rule, inner_steps)
    a = alpha * L / rule.eps
    c = 1 - a - a**2 * recipe.sigma**2
    if c <= 0:
        return 0.0
    p, q = alpha / (2 * (G + rule.eps)), c * rule.eps / (2 * alpha)
    drift, part = L * math.sqrt(float(recipe.inner)), c / (1 + a * recipe.sigma) ** 2
    theta = float(best_theta(*(np.array(y) for y in (p, q, drift, part))))
    richer = p * (1 + theta * part)
    return inner_steps * (richer if theta == 1 else 1 / (1 / richer + drift**2 / (q * (1 - theta))))


def b2_visit(rule: Adam, block: Mapping[str, Any], alpha: float, inner_steps: int) -> float:
    """Decrease of one visit by Theorem B2 for one block; negative where it says nothing."""
    constants = constants_of(rule.betas, inner_steps)
    first = alpha * inner_steps * (block["gradient"]["l1"] - block["size"] * rule.eps)
    return first - alpha**2 * block["curvature"]["value"] * block["size"] * float(constants.C + constants.N)


def b2_best(rule: Adam, block: Mapping[str, Any], inner_steps: int) -> tuple[float, float]:
    """(alpha, decrease) where `b2_visit` is largest; (0, 0) where it is never positive."""
    constants = constants_of(rule.betas, inner_steps)
    gain = max(inner_steps * (block["gradient"]["l1"] - block["size"] * rule.eps), 0.0)
    alpha = gain / (2 * block["curvature"]["value"] * block["size"] * float(constants.C + constants.N))
    return alpha, alpha * gain / 2
