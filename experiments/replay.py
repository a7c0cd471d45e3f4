"""Rerun a CPU record and compare every metric: `python -m experiments.replay RECORD.json [--rtol X]`, or, of committed
results, `python -m experiments.replay results/STUDY.jsonl NAME`.

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
from experiments.training.watching import Observers, Terminal
from records import Record, load, load_lines
from records.provenance import source_hash

NOT_COMPARED = ("seconds",)
LEFT_OUT = "steps.lr"
"""The column of metrics that committed results do not have, see `records.commit`; the configuration gives it."""
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
    if not any(place.startswith(LEFT_OUT) for place in before):
        after = {place: value for place, value in after.items() if not place.startswith(LEFT_OUT)}
    lines = [
        f"{place}: only in {'the record' if place in before else 'the replay'}" for place in before.keys() ^ after
    ]
    for place in before.keys() & after.keys():
        if not math.isclose(before[place], after[place], rel_tol=rtol, abs_tol=0.0):
            lines.append(f"{place}: {before[place]!r} recorded, {after[place]!r} replayed")
    return sorted(lines)


def recorded(path: Path, name: str | None) -> Record:
    """The record of a file of one run, or the one of this name of a study's file.

    Raises:
        UserError: when there is no such record.
    """
    if not path.is_file():
        raise UserError(f"there is no record {path}; make study writes those of the quick study")
    if path.suffix != ".jsonl":
        if name is not None:
            raise UserError(f"{path} is the record of one run; drop {name}")
        return load(path)
    runs = {record.name: record for record in load_lines(path)}
    if name not in runs:
        wrong = "many runs; name one of" if name is None else f"no run {name!r}; it has"
        raise UserError(f"{path} has {wrong} {', '.join(runs)}")
    return runs[name]


def replay(path: Path, rtol: float, name: str | None = None) -> list[str]:
    """Run the record's configuration again.

    Returns:
        The `differences`.

    Raises:
        UserError: for a record of a GPU or of a failed run, and when the replay fails.
    """
    old = recorded(path, name)
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
        new = execute(Run(planned, old.study), observer=Observers([Terminal(planned.name, planned.device)]))
    if new.error:
        raise UserError(f"the replay failed: {new.error}")
    return differences(old, new, rtol)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("record", type=Path, help="a run's .json, or a study's .jsonl followed by the run's name")
    parser.add_argument("name", nargs="?", help="of the run in a study's .jsonl")
    parser.add_argument("--rtol", type=float, default=0.0, help="largest relative difference allowed (default 0)")
    arguments = parser.parse_args()
    with exit_codes():
        lines = replay(arguments.record, arguments.rtol, arguments.name)
        old = recorded(arguments.record, arguments.name)
    compared = sum(1 for _ in leaves(old.measurements))
    print("\n".join(lines) or f"{old.name}: {compared} metrics equal (rtol {arguments.rtol:g})")
    if lines:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
