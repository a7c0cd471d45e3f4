"""Rerun a CPU record and compare every metric: `python -m experiments.replay RECORD.json [--rtol X]`.

The same machine, versions and sources give the same numbers to the last bit; another processor rounds differently,
which --rtol allows for. Seconds are measured, not reproduced, and are left out.
"""

import argparse
import math
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from experiments.command import exit_codes
from experiments.errors import UserError
from experiments.training import planning
from experiments.training.run import Run
from experiments.training.running import execute
from records import Record, load
from records.provenance import source_hash

NOT_COMPARED = ("seconds",)
FORMER = {
    "nonfinite": "stop",
    "accumulation": 1,
}
"""What records from before these keys did."""


def leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """(path, number) for every metric inside nested dicts and lists; what is not known is no metric."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in NOT_COMPARED:
                yield from leaves(inner, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from leaves(inner, f"{place}[{i}]")
    elif value is not None:
        yield place, value


def differences(old: Record, new: Record, rtol: float) -> list[str]:
    """One line for every metric that is missing on one side or differs by more than rtol."""
    before, after = dict(leaves(old.measurements)), dict(leaves(new.measurements))
    lines = [
        f"{place}: only in {'the record' if place in before else 'the replay'}" for place in before.keys() ^ after
    ]
    for place in before.keys() & after.keys():
        if not math.isclose(before[place], after[place], rel_tol=rtol, abs_tol=0.0):
            lines.append(f"{place}: {before[place]!r} recorded, {after[place]!r} replayed")
    return sorted(lines)


def replay(path: Path, rtol: float) -> list[str]:
    """Run the record's configuration again.

    Returns:
        The `differences`.

    Raises:
        UserError: for a record of a GPU or of a failed run, and when the replay fails.
    """
    old = load(path)
    if old.kind != "train" or old.status != "finished":
        raise UserError(f"{path} is a {old.status} {old.kind} record; only finished train records can be replayed")
    if old.config["device"] != "cpu":
        raise UserError(f"{path} was computed on {old.provenance['device']}; only CPU records can be replayed here")
    with tempfile.TemporaryDirectory() as folder:
        how = {"records_dir": folder, "checkpoint": {"every": None, "folder": folder}, "export": None}
        config = OmegaConf.create({**FORMER, **old.config, "how": how})
        assert OmegaConf.is_dict(config)
        planned = planning.plan(config, old.config["choices"], old.name)
        if planned.key != old.key:
            print(
                f"note: code, data or model changed since the record (code now {source_hash()[:12]})", file=sys.stderr
            )
        new = execute(Run(planned, old.study))
    if new.error:
        raise UserError(f"the replay failed: {new.error}")
    return differences(old, new, rtol)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("record", type=Path)
    parser.add_argument("--rtol", type=float, default=0.0, help="largest relative difference allowed (default 0)")
    arguments = parser.parse_args()
    with exit_codes():
        if not arguments.record.is_file():
            raise UserError(f"there is no record {arguments.record}; make study writes those of the quick study")
        lines = replay(arguments.record, arguments.rtol)
    compared = sum(1 for _ in leaves(load(arguments.record).measurements))
    print("\n".join(lines) or f"{arguments.record.name}: {compared} metrics equal (rtol {arguments.rtol:g})")
    if lines:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
