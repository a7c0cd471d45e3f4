"""From a solution in float64 to an exact rational proof.

1. Solve for C*. 2. Fix C = C* (1 + 10^-4), rounded up, and solve for the largest margin t with lambda >= t and
S_i >= t I. 3. Round lambda to a decimal grid. 4. Restore the linear identity in the function values exactly: the
smallest correction in the Euclidean norm, A'(AA')^{-1} r, in Fractions. 5. Check lambda >= 0 and the pivots of
S_i = LDL' > 0 in Fractions. The coarsest grid that passes is kept, so that the files are small.
"""

import math
from fractions import Fraction

from theory.worst_case.cases import Case, Identity, Key, identity
from theory.worst_case.forms import Form
from theory.worst_case.sdp import solve

SLACKS = (1e-4, 1e-3)  # the second where the first leaves less margin than the solver's accuracy
GRIDS = range(3, 13)  # decimal places of the multipliers

Matrix = list[list[Fraction]]


class CertificateError(ValueError):
    """No rounding of the solution proves the claim."""


def eliminate(matrix: Matrix, right: list[Fraction]) -> list[Fraction]:
    """Solve a symmetric positive definite system exactly.

    >>> eliminate([[Fraction(2), Fraction(1)], [Fraction(1), Fraction(2)]], [Fraction(3), Fraction(3)])
    [Fraction(1, 1), Fraction(1, 1)]
    """
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for k, pivot in enumerate(rows):
        for other in rows[k + 1 :]:
            factor = other[k] / pivot[k]
            if factor:
                other[k:] = [a - factor * b for a, b in zip(other[k:], pivot[k:], strict=True)]
    solution: list[Fraction] = []
    for k in reversed(range(len(rows))):
        solved = sum((a * x for a, x in zip(rows[k][k + 1 : -1], reversed(solution), strict=True)), Fraction())
        solution.append((rows[k][-1] - solved) / rows[k][k])
    return solution[::-1]


def corrected(data: Identity, target: Form, multipliers: dict[Key, Fraction]) -> dict[Key, Fraction]:
    """The nearest multipliers, in the Euclidean norm, for which the function values agree exactly."""
    forms = data.inequalities
    # Every form is a sum of differences of function values, so that one of the equations follows from the others.
    names = sorted({name for key in forms for name in forms[key].values}, key=str)[1:]
    normal = [[Fraction()] * len(names) for _ in names]
    residual = [target.values.get(name, Fraction()) for name in names]
    at = {name: index for index, name in enumerate(names)}
    for key, form in forms.items():
        entries = [(at[name], value) for name, value in form.values.items() if name in at]
        for i, a in entries:
            residual[i] -= multipliers[key] * a
            for j, b in entries:
                normal[i][j] += a * b
    shift = eliminate(normal, residual)
    return {
        key: multipliers[key] + sum(value * shift[at[name]] for name, value in form.values.items() if name in at)
        for key, form in forms.items()
    }


def pivots(gram: dict, basis: tuple[str, ...]) -> list[Fraction]:
    """The pivots of LDL', up to the first that is not positive."""
    matrix = [[gram.get((a, b), Fraction()) for b in basis] for a in basis]
    diagonal = []
    for k, row in enumerate(matrix):
        diagonal.append(row[k])
        if row[k] <= 0:
            break
        for other in matrix[k + 1 :]:
            factor = other[k] / row[k]
            if factor:
                other[k:] = [a - factor * b for a, b in zip(other[k:], row[k:], strict=True)]
    return diagonal


def proves(data: Identity, target: Form, multipliers: dict[Key, Fraction]) -> bool:
    """Whether the multipliers prove target >= 0, exactly."""
    rest = Form().add(target)
    for key, form in data.inequalities.items():
        rest.add(form, -multipliers[key])
    return (
        min(multipliers.values()) >= 0
        and not any(rest.values.values())
        and all(min(pivots(rest.grams[block], basis)) > 0 for block, basis in enumerate(data.bases))
    )


def round_up(value: float, digits: int = 6) -> Fraction:
    """To a fraction with 10^digits as denominator, before it is reduced.

    >>> round_up(2.75530951)
    Fraction(275531, 100000)
    """
    return Fraction(math.ceil(value * 10**digits), 10**digits)


def certify(case: Case) -> tuple[Fraction, dict[Key, Fraction]]:
    """(constant, multipliers) of an exact proof; the constant is 0 for the measure descent, which has none.

    Raises:
        SolverError: when the claim is false.
        CertificateError: when no grid of `GRIDS` is fine enough.
    """
    data = identity(case)
    least = None if case.measure == "descent" else solve(data).constant
    for constant in [Fraction()] if least is None else [round_up(least * (1 + slack)) for slack in SLACKS]:
        target = Form().add(data.base).add(data.scaled, constant)
        approximate = solve(data, constant).multipliers
        for digits in GRIDS:
            grid = {key: Fraction(round(value * 10**digits), 10**digits) for key, value in approximate.items()}
            exact = corrected(data, target, grid)
            if proves(data, target, exact):
                return constant, exact
    raise CertificateError(f"no rounding proves {case}; its constant is about {least}")
