"""The epoch form of Theorem A1 on one quadratic: its supremum over all starts is an eigenvalue."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from theory.bounds.a1 import epoch_constants
from theory.bounds.splitting import splitting
from theory.numbers import Array
from theory.problems import Problem
from theory.problems.quadratic import Quadratic


def epoch_form(problem: Quadratic, setting: Mapping[str, Any]) -> tuple[float, Array]:
    """Largest ||grad f(x)||^2/(f(x) - f(x^+)) of one block epoch over all starts, and a start with minimiser 0.

    With u = -P^{-1} grad f (`theory.bounds.splitting`) the decrease is u'Eu/2, E = P + P' - A, so that the largest
    quotient is 2 lambda_max(P E^{-1} P') and grad f its eigenvector.
    """
    split = splitting(problem, blocks_of(problem, setting), setting["gamma"] / problem.L_i, setting["inner_steps"])
    largest = split.P @ np.linalg.solve(split.energy, split.P.T)
    values, vectors = np.linalg.eigh((largest + largest.T) / 2)
    return 2 * float(values[-1]), np.linalg.solve(problem.matrix, vectors[:, -1])


def blocks_of(problem: Problem, setting: Mapping[str, Any]) -> list[int]:
    """The order of the first block epoch."""
    return list(range(len(problem.sizes)))[:: -1 if setting["order"] == "descending" else 1]


def largest_over_starts(problem: Any, setting: Mapping[str, Any]) -> float:
    """The largest ratio of the line `epoch` of Theorem A1 over all starts for this quadratic, exactly."""
    gamma, K = setting["gamma"], setting["inner_steps"]
    constants = epoch_constants(problem, blocks_of(problem, setting), gamma=gamma, inner_steps=K)
    return epoch_form(problem, setting)[0] / min(constants["C_scalar"], constants["C_matrix"], constants["C_rec"])


def worst_start(problem: Quadratic, setting: Mapping[str, Any]) -> Array:
    """The start at which that ratio is attained; the minimiser of the problem must be 0."""
    return epoch_form(problem, setting)[1]
