"""The exact certificates: what each claims and the rational constant that its multipliers prove."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from records import Record

SOURCES = {"worst_case": ("verify", "worst_case")}
CLAIMS = {"epoch": "block epoch", "triangular": "Lemma T", "convex": "convex", "descent": "descent"}
RULES = {"gradient": "gradient", "momentum": "momentum", "sector": "BAdam", "free": "any"}


def text(worst_case: Sequence[Record]) -> str:
    (record,) = worst_case
    rows = [r"\begin{tabular}{@{}llrrrlllrrrr@{}}", r"\toprule"]
    head = r"claim & steps & $D$ & $K$ & $T$ & $a$ & $\beta_1$ & $h_{\max}/h_{\min}$ & constant $C$ & decimal"
    rows += [head + r" & multipliers & seconds \\", r"\midrule"]
    every = record.measurements["certificates"]
    previous = None
    for claim in CLAIMS:
        for row in sorted((r for r in every if r["parameters"]["measure"] == claim), key=_order):
            if previous not in (None, claim):
                rows.append(r"\addlinespace")
            previous = claim
            rows.append(_row(row) + r" \\")
    return "\n".join([*rows, r"\bottomrule", r"\end{tabular}", ""])


def _order(row: dict[str, Any]) -> tuple:
    p = row["parameters"]
    numbers = (p["blocks"], p["inner_steps"], Fraction(p.get("ratio", 1)), Fraction(p.get("step", 1)))
    return list(RULES).index(p["rule"]), *numbers, p.get("lipschitz", [])


def _row(row: dict[str, Any]) -> str:
    p, constant = row["parameters"], row["constant"]
    claim = CLAIMS[p["measure"]]
    if "lipschitz" in p:
        claim += f", $L=({','.join(p['lipschitz'])})$"
    if not row["verified"]:
        claim += r" \textbf{(rejected)}"
    cells = [
        claim,
        RULES[p["rule"]],
        *(str(p[name]) for name in ("blocks", "inner_steps", "epochs")),
        _decimal(p["step"]) if "step" in p else "--",
        _decimal(p["decay"]) if "decay" in p else "--",
        p.get("ratio", "--"),
        f"${constant}$" if constant else "--",
        f"{row['value']:.5f}" if constant else "--",
        str(row["multipliers"]),
        f"{row['seconds']:.2f}",
    ]
    return " & ".join(cells)


def _decimal(fraction: str) -> str:
    return f"{float(Fraction(fraction)):g}"
