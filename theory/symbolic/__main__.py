"""Prove every identity and print the list; exit code 1 if one of them is not proved.

python -m theory.symbolic
"""

import argparse
import sys
from collections.abc import Sequence

from theory.symbolic import adaptive, deterministic, stochastic
from theory.symbolic.identity import Identity, proved

IDENTITIES = [
    value
    for module in (deterministic, adaptive, stochastic)
    for value in vars(module).values()
    if isinstance(value, Identity)
]


def main(arguments: Sequence[str] = ()) -> int:
    """Print a line an identity; 0 if all of them are proved."""
    parser = argparse.ArgumentParser(prog="python -m theory.symbolic", description="prove every identity by algebra")
    parser.parse_args(arguments)
    failed = 0
    for identity in IDENTITIES:
        equations = identity.build()
        # without an equation there is nothing that could be false
        holds = bool(equations) and all(proved(equation) for equation in equations)
        failed += not holds
        word = "PROVED" if holds else "NOT PROVED"
        print(f"{identity.theorem:18}{identity.name:38}{len(equations):>3} equations  {word}")
        print(f"    {identity.statement}")
    print(f"\n{'FAILS' if failed else 'PROVED'}: {len(IDENTITIES) - failed} of {len(IDENTITIES)} identities")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
