"""How loose the certified constants are: the showcase of every family of conf/problem against an adversary.

    python -m theory.problems              all families
    python -m theory.problems quadcos mlp

certified/sampled must be at least 1 for every constant but mu, pl and f*, where certified <= sampled.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import hydra
from omegaconf import OmegaConf

from theory.problems.sampling import compare

FOLDER = Path(__file__).parents[2] / "conf" / "problem"


def load(name: str, *, seeds: int = 1) -> Any:
    """The family of conf/problem/{name}.yaml with this number of seeds."""
    tree = {"tier": "here", "tiers": {"here": {"seeds": seeds}}, "problem": OmegaConf.load(FOLDER / f"{name}.yaml")}
    return hydra.utils.instantiate(OmegaConf.create(tree).problem, _convert_="all")


def table(name: str) -> list[str]:
    """One row for each constant of the showcase of a family."""
    rows = []
    for constant, bound, sampled in compare(load(name).showcase()):
        sign = -1 if constant.startswith("-") else 1
        ratio = f"{bound / sampled:10.3f}" if sampled else f"{'':>10}"
        rows.append(f"{name:12}{constant.lstrip('-'):8}{sign * bound:14.6g}{sign * sampled:14.6g}{ratio}")
    return rows


def main() -> int:
    """Print the table; 2 for an unknown family."""
    families = sorted(path.stem for path in FOLDER.glob("*.yaml"))
    parser = argparse.ArgumentParser(
        prog="python -m theory.problems", description="how loose the certified constants of the problem families are"
    )
    parser.add_argument("families", nargs="*", help=f"all when none is named: {', '.join(families)}")
    names = parser.parse_args().families or families
    lines = [f"{'family':12}{'':8}{'certified':>14}{'sampled':>14}{'ratio':>10}"]
    for name in names:
        if not (FOLDER / f"{name}.yaml").exists():
            known = ", ".join(sorted(path.stem for path in FOLDER.glob("*.yaml")))
            sys.stderr.write(f"error: problem={name!r} is not one of {known}\n")
            return 2
    for name in dict.fromkeys(names):
        lines += table(name)
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
