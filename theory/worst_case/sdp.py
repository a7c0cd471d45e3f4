"""The semidefinite program of a worst case, in its dual form: the least constant that the inequalities prove.

    minimise C  subject to  base + C scaled = sum_k lambda_k q_k + sum_i <S_i, Gram_i>,  lambda >= 0,  S_i >= 0.

The identity is one linear equation for each function value and one symmetric matrix S_i for each block. Solved in
float64 by Clarabel through cvxpy; `certify` makes an exact proof of it.
"""

import warnings
from dataclasses import dataclass
from fractions import Fraction

import cvxpy as cp
import numpy as np
import scipy.sparse as sp
from cvxpy.error import SolverError as NumericalError

from theory.worst_case.cases import Case, Identity, Key, identity
from theory.worst_case.forms import Form

SETTINGS: tuple[dict[str, object], ...] = ({}, {"direct_solve_method": "qdldl"})
"""Of Clarabel, one after another until it reaches its accuracy: the rounding of the first depends on the processor."""


class SolverError(RuntimeError):
    """The solver found no optimum; the message has its status."""


@dataclass(frozen=True)
class Solution:
    """A solution of the semidefinite program.

    Attributes:
        constant: C.
        multipliers: lambda.
        margin: t with lambda >= t and S_i >= t I; 0 unless asked for.
    """

    constant: float
    multipliers: dict[Key, float]
    margin: float


def columns(forms: list[Form], positions: dict) -> sp.csr_matrix:
    """Function values as columns, one for each form; rows in the order of `positions`."""
    entries = [
        (positions[name], k, float(value)) for k, form in enumerate(forms) for name, value in form.values.items()
    ]
    return _sparse(entries, (len(positions), len(forms)))


def gram_columns(forms: list[Form], block: int, basis: tuple[str, ...]) -> sp.csr_matrix:
    """Matrices of one block as columns, flattened row by row; one for each form."""
    at, size = {name: index for index, name in enumerate(basis)}, len(basis)
    entries = [
        (at[a] * size + at[b], k, float(value))
        for k, form in enumerate(forms)
        for (a, b), value in form.grams.get(block, {}).items()
    ]
    return _sparse(entries, (size * size, len(forms)))


def _sparse(entries: list[tuple[int, int, float]], shape: tuple[int, int]) -> sp.csr_matrix:
    rows, cols, values = zip(*entries, strict=True) if entries else ((), (), ())
    return sp.csr_matrix((np.array(values, dtype=float), (rows, cols)), shape=shape)


def solve(data: Identity, constant: Fraction | None = None) -> Solution:
    """The least constant, or the largest margin t for a given constant.

    Raises:
        SolverError: when there is no optimum: no constant is valid, or the given one is not.
    """
    keys, forms = list(data.inequalities), list(data.inequalities.values())
    names = {
        name: n for n, name in enumerate({name for form in [*forms, data.scaled, data.base] for name in form.values})
    }
    multipliers, margin = cp.Variable(len(forms)), cp.Variable()
    C = cp.Variable() if constant is None else float(constant)
    t = 0 if constant is None else margin
    ends = columns([data.base, data.scaled], names).toarray()
    constraints = [columns(forms, names) @ multipliers == ends[:, 0] + C * ends[:, 1], multipliers >= t]
    for block, basis in enumerate(data.bases):
        size = len(basis)
        both = gram_columns([data.base, data.scaled], block, basis).toarray()
        rest = both[:, 0] + C * both[:, 1] - gram_columns(forms, block, basis) @ multipliers
        constraints.append(cp.reshape(rest, (size, size), order="C") - t * np.eye(size) >> 0)
    # Where nothing bounds the margin, 1 is margin enough.
    goal = cp.Minimize(C) if constant is None else cp.Maximize(margin)
    problem = cp.Problem(goal, constraints if constant is None else [*constraints, margin <= 1])
    # A margin needs no accuracy, because what is made of it is checked exactly.
    enough = (cp.OPTIMAL,) if constant is None else (cp.OPTIMAL, cp.OPTIMAL_INACCURATE)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Solution may be inaccurate")
        for settings in SETTINGS:
            try:
                problem.solve(solver=cp.CLARABEL, **settings)
            except NumericalError:  # numerical trouble; the status is the one before
                continue
            if problem.status in (*enough, cp.INFEASIBLE, cp.UNBOUNDED):
                break
    if problem.status not in enough:
        raise SolverError(f"the worst case has no solution: {problem.status or 'numerical trouble'}")
    value = np.asarray(problem.value, dtype=float).item()
    values = dict(zip(keys, np.asarray(multipliers.value, dtype=float).tolist(), strict=True))
    if constant is None:
        return Solution(value, values, 0.0)
    return Solution(float(constant), values, value)


def worst_case(case: Case) -> float:
    """C of a case.

    >>> round(worst_case(Case("epoch", blocks=2)), 4)
    2.7553
    """
    return solve(identity(case)).constant
