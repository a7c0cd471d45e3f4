"""Exact check of the worst-case certificates beside this file: standard library, rational arithmetic, nothing else.

A certificate claims that a form in function values and inner products is >= 0. The check builds form and inequalities
of the class from the parameters (see theory/worst_case/cases.py), subtracts multiplier * inequality, and accepts if
multipliers are >= 0, no function value is left and the matrix of every block is positive semidefinite.
"""

import json
import sys
import time
from collections import defaultdict
from fractions import Fraction
from pathlib import Path

from theory.certificates.words import statement


def plus(u: dict, v: dict, scale: Fraction | int = 1) -> dict:
    return {name: u.get(name, 0) + scale * v.get(name, 0) for name in u | v}


def add(gram: defaultdict, u: dict, v: dict, scale: Fraction | int) -> None:
    for x, y in ((x, y) for x in u for y in v if u[x] and v[y]):
        gram[x, y] += scale * u[x] * v[y] / 2
        gram[y, x] += scale * u[x] * v[y] / 2


def semidefinite(rows: list) -> bool:  # LDL': no pivot is negative, and a pivot 0 has a row of zeros
    while rows:
        (pivot, *rest), *rows = rows
        if pivot < 0 or (pivot == 0 and any(rest)):
            return False
        rows = [[x - (y and row[0] * y / pivot) for x, y in zip(row[1:], rest, strict=True)] for row in rows]
    return True


def residual(p: dict, C: Fraction, multipliers: list) -> tuple[dict, list[defaultdict]]:
    """Claim - sum multiplier * inequality: point -> coefficient of its value; for each block, pair -> coefficient."""
    D, K, measure, rule, one = p["blocks"], p["inner_steps"], p["measure"], p["rule"], Fraction(1)
    a, b, kappa = Fraction(p.get("step", 1)), Fraction(p.get("decay", 0)), Fraction(p.get("ratio", 1))
    L, N, convex = [Fraction(value) for value in p.get("lipschitz", [1] * D)], D * K * p["epochs"], measure == "convex"
    values, grams, sectors = defaultdict(Fraction), [defaultdict(Fraction) for _ in L], {}
    allowed = {"smooth": not convex, "convex": convex, "sector": rule == "sector"}
    # triangular: grad f(x^0) = 0, as subtracting a linear function from f changes neither the claim nor the class
    g = {n: {f"g{n}": one} if n or measure != "triangular" else {} for n in range(N + 1)} | {"min": {}}
    x = {0: [{"x": one}] * D, "min": [{}] * D} if convex else {0: [{}] * D}  # convex: relative to the minimiser
    for n in range(1, N + 1):
        i, k = (n - 1) // K % D, (n - 1) % K + 1
        mean = {f"g{n - k + j}": (1 - b) * b ** (k - 1 - j) / (1 - b**k if rule == "sector" else 1) for j in range(k)}
        step = {f"s{n}": one} if rule in ("sector", "free") else plus({}, mean, -a / L[i])
        sectors[n] = grams[i], plus(step, mean, a), plus(step, mean, a / kappa)
        x[n] = [plus(u, step) if q == i else u for q, u in enumerate(x[n - 1])]
    fall = {"epoch": C, "triangular": 0 * one}.get(measure, one)
    values |= {"min" if convex else 0: fall, N: -fall}
    for i, gram in enumerate(grams):
        turn, move = {"epoch": g[0], "triangular": g[i]}.get(measure, {}), x[N if measure == "triangular" else 0][i]
        add(gram, turn, turn, -1)
        add(gram, move, move, C)
    for value, kind, *at in multipliers:
        if (scale := Fraction(value)) < 0 or not allowed[kind]:
            raise ValueError(f"{value} {kind} {at} is not possible")
        if kind == "sector":
            add(*sectors[at[0]], scale=scale)
            continue
        i, j, half = at[0], at[1], Fraction(kind == "smooth", 2)
        values[i] -= scale
        values[j] += scale
        for q, gram in enumerate(grams):
            move, turn = plus(x[i][q], x[j][q], -1), plus(g[i], g[j], -1)
            add(gram, plus(g[j], turn, half), move, scale)
            add(gram, move, move, -scale * half / 2)
            add(gram, turn, turn, scale / 4 if kind == "smooth" else scale / (2 * L[q]) * (q == at[2]))
    return values, grams


def check(content: dict) -> bool:
    """Whether the certificate proves its claim, and the claim is that of its parameters."""
    p, constant = content["parameters"], content["constant"]
    same = content["claim"] == statement(p, constant)  # raises an error if a parameter is not possible
    values, grams = residual(p, Fraction(constant or 0), content["multipliers"])
    matrices = ([[gram[x, y] for y in names] for x in names] for gram in grams if (names := {u for u, _ in gram}))
    return same and not any(values.values()) and all(map(semidefinite, matrices))


def main(paths: list) -> int:
    failed = 0
    for path in map(Path, paths or sorted(Path(__file__).parent.glob("*.json"))):
        start, content = time.perf_counter(), json.loads(path.read_text(encoding="utf-8"))
        try:
            verdict = "verified" if check(content) else "REJECTED"
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            verdict = f"REJECTED: {error!r}"
        failed += verdict != "verified"
        print(f"{path.stem:30} {verdict} in {time.perf_counter() - start:.2f} s\n    {content['claim']}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
