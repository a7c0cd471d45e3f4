"""Entry point: worst cases beside the theorems, all certificates checked again -> one record.

    python -m theory.worst_case [--force]

Exit codes: 0 every certificate holds and no theorem is smaller than a worst case, 1 otherwise.
"""

import argparse
import hashlib
import json
import sys
import time
from fractions import Fraction
from importlib import metadata
from pathlib import Path
from typing import Any

from records.provenance import source_hash
from theory.certificates import verify
from theory.recorded import recorded
from theory.worst_case import tables

STUDY, NAME = "worst_case", "tables"
CONFIG: dict[str, Any] = {
    "blocks": [1, 2, 3, 4, 8, 16],
    "triangular_blocks": [2, 4, 8, 16],
    "inner_steps": [1, 2, 4, 8],
    "inner_steps_blocks": 2,
    "ratios": [2, 10, 1000],
}
FOLDER = Path(verify.__file__).parent


def certificates() -> list[dict[str, Any]]:
    """Each certificate with the verdict of the checker."""
    rows = []
    for path in sorted(FOLDER.glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        start = time.perf_counter()
        verified = verify.check(content)
        constant = content["constant"]
        rows.append(
            {
                "name": path.stem,
                "claim": content["claim"],
                "parameters": content["parameters"],
                "constant": constant,
                "value": None if constant is None else float(Fraction(constant)),
                "multipliers": len(content["multipliers"]),
                "verified": verified,
                "seconds": round(time.perf_counter() - start, 3),
            }
        )
    return rows


def measure(config: dict[str, Any]) -> dict[str, Any]:
    """Everything as JSON values."""
    epochs = tables.epochs(config["blocks"])
    triangular = tables.triangular(config["triangular_blocks"])
    steps = tables.inner_steps(config["inner_steps_blocks"], config["inner_steps"])
    rows = certificates()
    # The solver is accurate to about 1e-6; where a theorem is exact (D = 1, tau(2)) the two agree to that.
    pairs = [
        *zip(epochs["worst_case"], epochs["theorem"], strict=True),
        *zip(triangular["worst_case"], triangular["tau"], strict=True),
        *(
            pair
            for name in ("long", "short")
            for pair in zip(steps[name]["worst_case"], steps[name]["theorem"], strict=True)
        ),
    ]
    return {
        "epochs": epochs,
        "triangular": triangular,
        "inner_steps": steps,
        "descent": tables.descent(config["inner_steps"], config["ratios"]),
        "certificates": rows,
        "solver": {name: metadata.version(name) for name in ("clarabel", "cvxpy")},
        "holds": all(row["verified"] for row in rows) and all(low <= high * (1 + 1e-5) for low, high in pairs),
    }


def report(measurements: dict[str, Any]) -> list[str]:
    """The lines to print, from the measurements of a record."""
    epochs, triangular, steps = (measurements[name] for name in ("epochs", "triangular", "inner_steps"))
    lines = [f"{'D':>4}{'C*(D)':>10}{'C_rec':>10}"]
    lines += [f"{D:>4}{C:>10.4f}{T:>10.4f}" for D, C, T in zip(*epochs.values(), strict=True)]
    lines += ["", f"{'D':>4}{'Lemma T':>10}{'tau(D)':>10}{'sqrt(D-1)':>11}"]
    lines += [f"{D:>4}{C:>10.4f}{t:>10.4f}{r:>11.4f}" for D, C, t, r in zip(*triangular.values(), strict=True)]
    lines += ["", f"{'K':>4}{'gamma=1':>10}{'C_rec':>10}{'gamma=1/K':>11}{'C_rec':>10}    D = {steps['blocks']}"]
    columns = [steps[name][kind] for name in ("long", "short") for kind in ("worst_case", "theorem")]
    for K, a, b, c, d in zip(steps["inner_steps"], *columns, strict=True):
        lines.append(f"{K:>4}{a:>10.4f}{b:>10.4f}{c:>11.4f}{d:>10.4f}")
    limits = measurements["descent"]
    lines += ["", f"{'K':>4}{'a_max':>10}" + "".join(f"{f'ratio {ratio}':>12}" for ratio in limits["certified"])]
    for K, limit, *proved in zip(limits["inner_steps"], limits["theorem"], *limits["certified"].values(), strict=True):
        lines.append(f"{K:>4}{limit:>10.3f}" + "".join(f"{a:>12.2f}" for a in proved))
    lines += ["", f"{'certificate':34}{'constant':>18}"]
    for row in measurements["certificates"]:
        lines.append(f"{row['name']:34}{row['constant'] or '-':>18}  {'verified' if row['verified'] else 'REJECTED'}")
    return [*lines, "", "HOLDS" if measurements["holds"] else "FAILS"]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m theory.worst_case", description="worst cases and certificates")
    parser.add_argument("--force", action="store_true", help="compute again although the record exists")
    force = parser.parse_args(arguments).force
    files = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(FOLDER.glob("*.json")))).hexdigest()
    inputs = {"code": source_hash(("theory",)), "certificates": files}
    record, where = recorded(STUDY, NAME, CONFIG, inputs, lambda: measure(CONFIG), force=force)
    print("\n".join([where, "", *report(record.measurements)]))
    return 0 if record.measurements["holds"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
