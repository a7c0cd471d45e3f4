"""Mutation testing: the stronger claims of every theorem and what refutes them.

One row for the lines of a proof whose constant is improved by 2, with the line that dies last; one for every other
change that survives or is not refuted at once, and one for all the rest.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from paper.read.theorems import line, theorem
from records import Record

SOURCES = {"adversary": ("verify", "adversary")}
LINE = "left side x 2"
FIELDS = {
    "constant": "constant of the theorem",
    "kappa": "$\\kappa_K$",
    "coupling": "coupling $\\Lambda$",
    "pl": "$\\mu$",
    "radius": "$R$",
    "spread": "$L_i d_i$, $\\ell_i$",
    "error": "$M_k$",
    "change": "$V'_k$",
    "inside": "way inside a visit",
    "between": "coupling $\\ell_{ij}$",
    "omega": "$\\omega_k$",
    "sigma": "$\\sigma_c$ in $\\hat v$",
    "reach": "$\\rho_k$ of the split",
    "square": "$s^2$",
    "coupled": "$\\chi=1$",
    "corrected": "bias correction",
    "effective": "effective steps $S$",
    "pathwise": "read pathwise",
    "drift": "drift",
    "moved": "displacement by noise",
    "whole": "right side",
}
VALUES = {"2": "doubled", "0.5": "halved", "0": "dropped", "False": "dropped", "True": "yes"}
CLEAR = 1.05
"""Largest factor at which a change dies that needs no row of its own; what is dropped has none."""

INFINITE = 1e6  # the adversary cuts ratios here


def text(adversary: Sequence[Record]) -> str:
    rows = adversary[0].measurements["mutants"]
    lines = [r"\begin{tabular}{@{}lllrrrl@{}}", r"\toprule"]
    lines += [r"theorem & stronger claim & line & its ratio & true ratio & dies at & verdict \\", r"\midrule"]
    for bound in dict.fromkeys(row["bound"] for row in rows):
        of_bound = [row for row in rows if row["bound"] == bound]
        improved = _clearest([row for row in of_bound if row["mutant"] == LINE], "line")
        changed = _clearest([row for row in of_bound if row["mutant"] != LINE], "mutant")
        killed = sum(row["killed"] for row in improved)
        hardest = min(improved, key=lambda row: (row["killed"], row["ratio"]))
        shown = [(hardest, f"each of {len(improved)} lines $\\times2$", f"{killed} of {len(improved)} killed")]
        clear = [row for row in changed if row["killed"] and (row["dies_at"] is None or row["dies_at"] <= CLEAR)]
        named = changed if len(clear) < 2 else [row for row in changed if row not in clear]
        shown += [(row, _claim(row["mutant"]), "killed" if row["killed"] else "survives") for row in named]
        if len(clear) > 1:
            hardest = min(clear, key=lambda row: row["ratio"])
            shown.append((hardest, f"each of {len(clear)} other changes", f"{len(clear)} of {len(clear)} killed"))
        for place, (row, claim, verdict) in enumerate(shown):
            factor = "--" if row["dies_at"] is None else f"{row['dies_at']:.2f}"
            cells = [theorem(bound) if not place else "", claim, line(row["line"])]
            cells += [_ratio(row["ratio"]), _ratio(row["true_ratio"]), factor, verdict]
            lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _clearest(rows: Sequence[Mapping[str, Any]], key: str) -> list[Mapping[str, Any]]:
    """A theorem is attacked in several places: of the rows with one value of `key` the one that is refuted best."""
    best: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        clearest = best.get(row[key])
        if clearest is None or (row["killed"], row["ratio"]) > (clearest["killed"], clearest["ratio"]):
            best[row[key]] = row
    return list(best.values())


def _claim(mutant: str) -> str:
    """constant = 0.5, effective False: a field of the statement and its value."""
    field, value = mutant.rsplit(" = ", 1) if " = " in mutant else mutant.rsplit(" ", 1)
    return f"{FIELDS.get(field, field)}: {VALUES.get(value, value)}"


def _ratio(value: float) -> str:
    return r"$\infty$" if value >= INFINITE else f"{value:.3f}" if value < 100 else f"{value:.0f}"
