"""Make the certificates again: solve, round, prove, write.

    python -m theory.certificates.make [name ...]      all of `CASES`, or those named

Another version of the solver may find other multipliers and a constant that differs in the last digit.
"""

import argparse
import json
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

from theory.certificates.words import statement
from theory.worst_case import Case, certify

FOLDER = Path(__file__).parent


def fractions(*texts: str) -> tuple[Fraction, ...]:
    return tuple(map(Fraction, texts))


def decimal(fraction: str) -> str:
    """For file names: 2/5 -> 0.4."""
    return f"{float(Fraction(fraction)):g}"


def sector(measure: str, blocks: int, steps: int, step: str, ratio: str, decay: str = "9/10") -> Case:
    """BAdam in its sector: `steps` = K, step = alpha h_max L, ratio = h_max/h_min, decay = beta1."""
    return Case(
        measure, blocks, steps, rule="sector", step=Fraction(step), decay=Fraction(decay), ratio=Fraction(ratio)
    )


def momentum(blocks: int, steps: int, step: str, decay: str) -> Case:
    return Case("epoch", blocks, steps, rule="momentum", step=Fraction(step), decay=Fraction(decay))


def convex(epochs: int, *lipschitz: str) -> Case:
    return Case("convex", len(lipschitz), epochs=epochs, lipschitz=fractions(*lipschitz))


LARGEST_2 = {1: 199, 2: 168, 3: 163, 4: 163, 5: 163, 6: 162, 8: 159, 10: 156}
LARGEST_1000 = {1: 199, 2: 138, 4: 84, 8: 48, 10: 40}

EPOCH = {f"epoch-D{D}": Case("epoch", D) for D in (1, 2, 3, 4, 8, 16)}
INNER = {f"epoch-D2-K{K}": Case("epoch", 2, K) for K in (2, 4, 8)}
SMALL_STEPS = {f"epoch-D2-K{K}-small": Case("epoch", 2, K, step=Fraction(1, K)) for K in (2, 4, 8)} | {
    "epoch-D1-K4-small": Case("epoch", 1, 4, step=Fraction(1, 4))
}
TRIANGULAR = {f"triangular-D{D}": Case("triangular", D, rule="free") for D in (2, 4, 8, 16)}
MOMENTUM = {
    f"momentum-D{D}-K{K}-a{decimal(a)}-b{decimal(b)}": momentum(D, K, a, b)
    for D, K, a, b in (
        (1, 2, "1/2", "1/2"),
        (1, 4, "1/4", "9/10"),
        (2, 2, "1/2", "1/2"),
        (2, 3, "1/4", "9/10"),
        (2, 4, "1/4", "9/10"),
    )
}
BADAM = {
    f"badam-D{D}-K{K}-a{decimal(a)}-ratio{ratio}": sector("epoch", D, K, a, ratio)
    for D, K, a, ratio in (
        (1, 4, "1/4", "2"),
        (2, 1, "1/2", "2"),
        (2, 2, "1/2", "2"),
        (2, 4, "1/4", "2"),
        (2, 4, "1/4", "10"),
        (2, 4, "1/8", "100"),
        (3, 2, "2/5", "2"),
        (4, 2, "1/4", "2"),
    )
}
# The largest steps in hundredths, as `theory.worst_case.tables.largest_step` finds them.
DESCENT = {
    f"descent-K{K}-ratio{ratio}": sector("descent", 1, K, f"{a}/100", ratio)
    for ratio, steps in (("2", LARGEST_2), ("1000", LARGEST_1000))
    for K, a in steps.items()
}
CONVEX = {
    "convex-L1-1-n8": convex(4, "1", "1"),
    "convex-L1-1-1-n9": convex(3, "1", "1", "1"),
    "convex-L1-2-10-n9": convex(3, "1", "2", "10"),
}
CASES: dict[str, Case] = EPOCH | INNER | SMALL_STEPS | TRIANGULAR | MOMENTUM | BADAM | DESCENT | CONVEX


def parameters(case: Case) -> dict[str, Any]:
    """The fields that the words of the claim name."""
    fields: dict[str, Any] = {
        name: getattr(case, name) for name in ("measure", "rule", "blocks", "inner_steps", "epochs")
    }
    if case.rule != "free":
        fields["step"] = str(case.step)
    if case.rule in ("momentum", "sector"):
        fields["decay"] = str(case.decay)
    if case.rule == "sector":
        fields["ratio"] = str(case.ratio)
    if case.lipschitz:
        fields["lipschitz"] = list(map(str, case.lipschitz))
    return fields


def content(case: Case) -> dict[str, Any]:
    """What the file of a case holds."""
    bound, multipliers = certify(case)
    constant = None if case.measure == "descent" else str(bound)
    fields = parameters(case)
    return {
        "claim": statement(fields, constant),
        "parameters": fields,
        "constant": constant,
        "multipliers": [[str(value), *key] for key, value in multipliers.items() if value],
    }


def text(certificate: dict[str, Any]) -> str:
    """JSON with one multiplier a line."""
    lines = ",\n".join(map(json.dumps, certificate["multipliers"]))
    head = json.dumps({**certificate, "multipliers": []}, indent=1).removesuffix("[]\n}")
    return f"{head}[\n{lines}\n]}}\n"


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m theory.certificates.make", description="make the worst-case certificates again"
    )
    parser.add_argument("names", nargs="*", help="certificates; all when none is named")
    names = parser.parse_args(arguments).names
    if unknown := sorted(set(names) - set(CASES)):
        parser.error(f"{', '.join(unknown)} is not one of {', '.join(CASES)}")
    for name in names or CASES:
        certificate = content(CASES[name])
        (FOLDER / f"{name}.json").write_text(text(certificate), encoding="utf-8")
        print(f"{name:32}{certificate['constant'] or '-':>18}")


if __name__ == "__main__":
    main(sys.argv[1:])
