"""Entry point: the curves of the paper's figures -> one record.

    python -m theory.curves [--force]

Exit codes: 0 a zero of the mean field is never below its bound and an exact contraction never above its theorem's,
1 otherwise.
"""

import argparse
import sys
from typing import Any

from records.provenance import source_hash
from theory.curves import floor, match, steps, vacuous
from theory.recorded import recorded

STUDY, NAME = "curves", "curves"
CONFIG: dict[str, Any] = {
    "blocks": [2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128],
    "gammas": [0.05, 0.2, 0.5, 1.0, 1.6],
    "inner_steps": [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 100, 200],
    "contraction": {
        "example": {"sizes": [2, 2, 2, 2], "coupling": 0.5, "condition": 20.0, "heterogeneity": 4.0, "seed": 0},
        "gammas": [0.2, 1.0],
    },
    "floor": {
        "chances": [0.1, 0.3, 0.45],
        "inner_steps": [1, 2, 3, 4, 6, 8, 12, 25, 50, 100, 200],
        "eps": 1e-8,
        "alphas": {"0.3": [0.1, 0.03, 0.01, 0.004], "0.45": [0.004]},
        "simulated_steps": [1, 4, 12, 50],
        "runs": 2000,
    },
    "vacuous": {
        "blocks": 4,
        "coordinates": 1000,
        "inner_steps": [1, 2, 5, 10, 20, 50, 100, 200],
        "long": [1, 3, 10, 30, 100, 300, 1000, 3000, 10000, 30000, 100000],
        "log_eps": [-8 + 0.5 * i for i in range(17)],
    },
    "match": {
        "setting": {
            "blocks": 8,
            "size": 4,
            "share": 0.25,
            "rates": [2 ** (exponent / 2) for exponent in (-6, -7, -5, -8, -4, -9, -3, -10, -2, -1, 0)],
            "longest": 1500,
            "groups": 5,
            "runs": 32,
        },
        "couplings": [0.0, 0.1, 0.3, 0.6, 1.0],
        "inner_steps": [1, 10],
        "floor_steps": [1, 2, 3, 5, 8, 12, 20, 30, 40, 50, 60, 70, 80, 100, 140, 200],
    },
}

ADAM, L1_STEPS = (0.9, 0.999), [1, 10, 50, 100]
"""beta1 and beta2 of torch, and the K for which the constant of Theorem B2 is quoted."""


def measure(config: dict[str, Any]) -> dict[str, Any]:
    """Everything as JSON values."""
    shape, field, never, compared = (config[name] for name in ("contraction", "floor", "vacuous", "match"))
    contraction = steps.contraction(shape["example"], shape["gammas"], config["inner_steps"])
    predicted = floor.predicted(field["chances"], field["inner_steps"], field["eps"])
    pairs = [
        *(pair for p, zeros in predicted["zero"].items() for pair in zip(predicted["bound"][p], zeros, strict=True)),
        *(
            pair
            for gamma, exact in contraction["exact"].items()
            for pair in zip(exact, contraction["theorem"][gamma], strict=True)
        ),
    ]
    return {
        "blocks": steps.blocks(config["blocks"]),
        "gain": steps.gain(config["gammas"], config["inner_steps"]),
        "l1": {"inner_steps": L1_STEPS, "constant": steps.l1(ADAM, L1_STEPS)},
        "contraction": contraction,
        "floor": {
            **predicted,
            "simulated": floor.simulated(
                field["alphas"], field["simulated_steps"], eps=field["eps"], runs=field["runs"]
            ),
        },
        "vacuous": vacuous.table(
            never["blocks"], never["coordinates"], never["inner_steps"], never["long"], never["log_eps"]
        ),
        "match": {
            "penalties": match.penalties(
                match.Setting(**compared["setting"]), compared["couplings"], compared["inner_steps"]
            ),
            "floor": match.floors(compared["floor_steps"], ADAM),
        },
        "holds": all(low <= high for low, high in pairs),
    }


def report(measurements: dict[str, Any]) -> list[str]:
    """The lines to print, from the measurements of a record."""
    curve = measurements["floor"]
    lines = [f"{'K':>5}" + "".join(f"{f'g*, p={p}':>12}{'at least':>10}" for p in curve["zero"])]
    for row, K in enumerate(curve["inner_steps"]):
        values = "".join(f"{curve['zero'][p][row]:>12.4f}{curve['bound'][p][row]:>10.4f}" for p in curve["zero"])
        lines.append(f"{K:>5}{values}")
    lines += ["", f"{'p':>5}{'K':>5}{'alpha':>8}{'simulated':>12}{'error':>10}"]
    for row in curve["simulated"]:
        lines.append(f"{row['p']:>5}{row['inner_steps']:>5}{row['alpha']:>8}{row['mean']:>12.4f}{row['error']:>10.4f}")
    for name, grid in measurements["vacuous"]["maps"].items():
        what = "block epochs until it says anything" if grid["epochs"] else "floor over what is known"
        lines += ["", f"{name}: log10 of the {what}; columns K"]
        lines.append(f"{'eps':>8}" + "".join(f"{K:>8}" for K in grid["inner_steps"]))
        for log, values in zip(measurements["vacuous"]["log_eps"], grid["values"], strict=True):
            cells = "".join(f"{'never' if value is None else f'{value:.1f}':>8}" for value in values)
            lines.append(f"{10**log:>8.0e}{cells}")
    lines += ["", f"{'K':>5}{'c':>6}{'1/chi':>8}{'predicted':>11}{'measured':>10}   N_BAdam/N_Adam, Theorem F1"]
    for row in measurements["match"]["penalties"]:
        values = f"{1 / row['chi']:>8.2f}{row['predicted']:>11.2f}{row['measured']:>10.2f}"
        lines.append(f"{row['inner_steps']:>5}{row['coupling']:>6}{values}")
    floors = measurements["match"]["floor"]
    lines += ["", f"{'K':>5}{'floor of F2':>13}{'beta1 = 1 - 1/K':>17}"]
    for values in zip(*(floors[name] for name in ("inner_steps", "fixed", "growing")), strict=True):
        lines.append(f"{values[0]:>5}{values[1]:>13.3f}{values[2]:>17.3f}")
    rows = zip(measurements["l1"]["inner_steps"], measurements["l1"]["constant"], strict=True)
    lines += ["", "(C + N)/K of Theorem B2: " + ", ".join(f"{constant:.2f} for K = {K}" for K, constant in rows)]
    return [*lines, "", "HOLDS" if measurements["holds"] else "FAILS"]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m theory.curves", description="curves of the paper's figures")
    parser.add_argument("--force", action="store_true", help="compute again although the record exists")
    force = parser.parse_args(arguments).force
    inputs = {"code": source_hash(("bcd", "theory"))}
    record, where = recorded(STUDY, NAME, CONFIG, inputs, lambda: measure(CONFIG), force=force)
    print("\n".join([where, "", *report(record.measurements)]))
    return 0 if record.measurements["holds"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
