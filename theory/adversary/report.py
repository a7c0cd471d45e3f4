"""The tables of the adversary, from the measurements of a record."""

from collections.abc import Mapping, Sequence
from typing import Any

from theory.adversary.search import CEILING


def ratio(value: float) -> str:
    """`value` for a table; a violated line whose right side is not positive has the ratio infinity."""
    return "inf" if value >= CEILING else f"{value:.4f}" if value < 100 else f"{value:.4g}"


def tightness(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line of a proof a row."""
    lines = [f"{'target':14}{'theorem':14}{'line':10}{'best ratio':>11}{'must reach':>12}{'over all starts':>17}"]
    for row in rows:
        least = "" if row["least"] is None else f"{row['least']:.6g}"
        exact = "" if row["exact"] is None else f"{row['exact']:.6f}"
        cells = f"{row['target']:14}{row['bound']:14}{row['line']:10}{row['ratio']:>11.6f}{least:>12}{exact:>17}"
        lines.append(cells.rstrip())
    return lines


def verdict(row: Mapping[str, Any]) -> str:
    """killed, SURVIVES, or survives where that is no failure."""
    return "killed" if row["killed"] else "SURVIVES" if row["required"] else "survives (loose)"


def mutants(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """One stronger statement a row: the line that it breaks at its witness, and the least factor that dies there."""
    lines = [f"{'target':14}{'mutant':28}{'line':10}{'ratio':>10}{'true':>9}{'dies at':>9}  verdict"]
    for row in rows:
        factor = "" if row["dies_at"] is None else f"{row['dies_at']:.2f}"
        lines.append(
            f"{row['target']:14}{row['mutant']:28}{row['line']:10}{ratio(row['ratio']):>10}"
            f"{ratio(row['true_ratio']):>9}{factor:>9}  {verdict(row)}"
        )
    return lines


def controls(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """One negative control a row."""
    lines = [f"{'theorem':14}{'negative control':36}{'line':10}{'ratio':>10}{'true':>9}"]
    for row in rows:
        both = f"{ratio(row['ratio']):>10}{ratio(row['true_ratio']):>9}"
        word = "rejected" if row["killed"] else "NOT REJECTED"
        lines.append(f"{row['bound']:14}{row['mutant']:36}{row['line']:10}{both}  {word}")
    return lines


def maps(items: Sequence[Mapping[str, Any]]) -> list[str]:
    """The best ratio in every cell of every map."""
    lines = []
    for item in items:
        fixed = ", ".join(f"{name}={value:g}" for name, value in item["fixed"].items())
        lines += ["", f"{item['kind']}, {fixed}", f"{item['y']:>12} | {item['x']}"]
        lines.append(f"{'':12} | " + "".join(f"{x:>8g}" for x in item["xs"]))
        for y, values in zip(item["ys"], item["ratio"], strict=True):
            lines.append(f"{y:>12g} | " + "".join(f"{value:>8.3f}" for value in values))
    return lines


def report(measurements: Mapping[str, Any]) -> list[str]:
    """Everything, and the last line with the verdict."""
    required = [row for row in measurements["mutants"] if row["required"]]
    loose = [row for row in measurements["mutants"] if not row["required"]]
    rejected = sum(row["killed"] for row in measurements["controls"])
    reached = [row for row in measurements["tightness"] if row["least"] is not None]
    head = "FAILS" if measurements["failures"] else "HOLDS"
    return [
        "Best ratio lhs/rhs that the adversary finds for each line; 1 is equality",
        *tightness(measurements["tightness"]),
        "\nStronger statements and the line that refutes them",
        *mutants(measurements["mutants"]),
        "\nFalse statements made by hand",
        *controls(measurements["controls"]),
        *maps(measurements["maps"]),
        "",
        *measurements["failures"],
        f"{head}: {measurements['evaluations']} instances, {len(measurements['violations'])} violations, "
        f"{sum(row['ratio'] >= row['least'] for row in reached)} of {len(reached)} lines as tight as wanted, "
        f"{sum(row['killed'] for row in required)} of {len(required)} mutants killed "
        f"(and {sum(row['killed'] for row in loose)} of {len(loose)} of loose lines), "
        f"{rejected} of {len(measurements['controls'])} controls rejected",
    ]
