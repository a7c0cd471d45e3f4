"""Entry point: the adversary against every theorem -> tightness table, mutation table, slack maps -> one record.

    python -m theory.adversary [TARGET ...] [--tier quick|full] [--seed 0] [--workers N] [--force]

Exit codes: 0 the theorems hold, are as tight as they claim, and every stronger statement that must die is refuted;
1 otherwise; 2 bad input. The quick tier is the study adversary-quick, the full one adversary, which the paper reads.
"""

import argparse
import os
import sys
from collections.abc import Sequence

import records
from records.provenance import source_hash
from theory.adversary.report import report
from theory.adversary.run import TIERS, chosen, measure
from theory.recorded import recorded

STUDIES = {"quick": "adversary-quick", "full": "adversary"}


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m theory.adversary", description="attack the theorems")
    parser.add_argument("targets", nargs="*", help="names of theory.adversary.targets; all and the maps when none")
    parser.add_argument("--tier", choices=list(TIERS), default="quick", help="how long it searches; default quick")
    parser.add_argument("--seed", type=int, default=0, help="of the search; default 0")
    parser.add_argument(
        "--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes; default: a core each"
    )
    parser.add_argument("--force", action="store_true", help="compute again although the record exists")
    options = parser.parse_args(arguments)
    try:
        names = [target.name for target in chosen(options.targets)]
        if options.workers < 1 or options.seed < 0:
            raise ValueError(f"workers={options.workers}, seed={options.seed} is not possible: at least 1 and 0")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    tier = TIERS[options.tier]
    config = {"tier": options.tier, "seed": options.seed, "targets": names, **tier}
    # a part of the targets is another study, so that the record of all of them stays
    study = STUDIES[options.tier]
    if options.targets:
        study += f"-{records.digest(options.targets)[:8]}"
    name = f"{options.tier}-seed{options.seed}"
    record, where = recorded(
        study,
        name,
        config,
        {"code": source_hash(("bcd", "theory"))},
        lambda: measure(options.targets, tier, seed=options.seed, workers=options.workers),
        force=options.force,
    )
    print("\n".join([where, "", *report(record.measurements)]))
    return 1 if record.measurements["failures"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
