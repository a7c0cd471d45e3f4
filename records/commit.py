"""Entry point: `python -m records.commit STUDY [...]` makes results/STUDY.jsonl of the single records of a study.

    python -m records.commit headline methods              # of outputs/records, into results/ where they are not yet
    python -m records.commit cost --merge                  # runs made again or added: replaces those of the same name
    python -m records.commit scale --replace               # what results/scale.jsonl holds goes
    python -m records.commit cost --from FOLDER            # of FOLDER/cost/*.json, as from another machine

A line a run, sorted by name. Two columns of the metrics of steps are left out: the learning rate, which the schedule
and `method.lr` give, and the seconds of packed runs. Packed are train runs with `execution=packed`
(conf/execution/packed.yaml): several of them share a GPU, and their seconds tell how busy it was.

Failed runs are results and become lines. Interrupted runs are refused, and so are runs of sources with changes that
no commit holds, unless --allow-dirty is given. Nothing is written unless all studies can be.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import records
from records import Record, RecordError

PACKED = "packed"


@dataclass(frozen=True)
class Committed:
    """What the file of one study is to hold.

    Attributes:
        path: the file.
        lines: every run, as it will be there.
        added: names of runs that the file does not have yet.
        changed: names of runs that differ from those of the file.
        removed: names of runs of the file that it will not have any more.
        without: column of the metrics of steps -> how many of the runs that were read lost it.
    """

    path: Path
    lines: Sequence[Record]
    added: Sequence[str]
    changed: Sequence[str]
    removed: Sequence[str]
    without: dict[str, int]


def is_packed(record: Record) -> bool:
    """Whether the run shared a GPU with others."""
    return record.kind == "train" and record.config.get("choices", {}).get("execution") == PACKED


def columns_left_out(record: Record) -> list[str]:
    """The columns of the metrics of steps that a committed run does not have."""
    if record.kind != "train":
        return []
    left_out = ("lr", "seconds") if is_packed(record) else ("lr",)
    return [column for column in left_out if column in record.measurements.get("steps", {})]


def committed(record: Record) -> Record:
    """The record without these columns."""
    left_out = columns_left_out(record)
    if not left_out:
        return record
    steps = {column: values for column, values in record.measurements["steps"].items() if column not in left_out}
    return replace(record, measurements=record.measurements | {"steps": steps})


def text_of(lines: Sequence[Record]) -> str:
    """The file of a study."""
    return "".join(f"{json.dumps(records.content(line), separators=(',', ':'), allow_nan=False)}\n" for line in lines)


def plan(study: str, source: Path, *, merge: bool, replace_all: bool, allow_dirty: bool) -> Committed:
    """What the file of a study is to hold.

    Args:
        study: name of the study.
        source: folder of single records.
        merge: keep the file's runs that the source does not have.
        replace_all: drop them.
        allow_dirty: take runs of sources that no commit holds.

    Raises:
        RecordError: when that is not possible; the message names the runs and the way out.
    """
    path = records.COMMITTED / f"{study}.jsonl"
    runs = [records.load(file) for file in sorted((source / study).glob("*.json"))]
    if not runs:
        raise RecordError(f"{source / study} has no records")
    if interrupted := [run.name for run in runs if run.status == "interrupted"]:
        raise RecordError(
            f"{study}: {', '.join(interrupted)} did not finish; run the study again, or delete the files"
        )
    if not allow_dirty and (dirty := [run.name for run in runs if run.provenance.get("dirty") is not False]):
        raise RecordError(
            f"{study}: {', '.join(dirty)} ran with changes that no commit holds, so that nobody can repeat it; "
            "commit and run again, or give --allow-dirty"
        )
    before = {record.name: record for record in records.load_lines(path)} if path.exists() else {}
    if before and not (merge or replace_all):
        raise RecordError(f"{path} exists; --merge adds to it, --replace makes it anew")
    lines = {run.name: committed(run) for run in runs}
    if len(lines) < len(runs):
        raise RecordError(f"{study}: two files of {source / study} hold runs of one name")
    after = before | lines if merge else lines
    without: dict[str, int] = {}
    for column in (column for run in runs for column in columns_left_out(run)):
        without[column] = without.get(column, 0) + 1
    result = Committed(
        path=path,
        lines=sorted(after.values(), key=lambda record: record.name),
        added=sorted(lines.keys() - before.keys()),
        changed=sorted(name for name in lines.keys() & before.keys() if lines[name] != before[name]),
        removed=sorted(before.keys() - after.keys()),
        without=without,
    )
    records.parse_lines(text_of(result.lines), path)  # what a reader would refuse is not written
    return result


def report(made: Committed) -> str:
    """What was written, for readers."""
    failed = [record for record in made.lines if record.status == "failed"]
    counts = f"{len(made.lines)} runs, {len(failed)} of them failed"
    lines = [
        f"{made.path}: {counts}; {len(made.added)} added, {len(made.changed)} changed, {len(made.removed)} removed"
    ]
    names = {"lr": "the learning rate of every step", "seconds": "the seconds of every step"}
    lines += [f"  left out: {names[column]}, of {count} runs" for column, count in made.without.items()]
    lines += [f"  removed: {name}" for name in made.removed]
    lines += [f"  failed: {record.name}: {record.error}" for record in failed]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m records.commit", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("studies", nargs="+", metavar="STUDY", help="of the runs that become one file each")
    parser.add_argument(
        "--from",
        dest="source",
        type=Path,
        default=records.OUTPUTS,
        metavar="FOLDER",
        help="folder with STUDY/*.json (default: outputs/records)",
    )
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument(
        "--merge", action="store_true", help="add to a file that exists; runs of one name are replaced"
    )
    existing.add_argument("--replace", action="store_true", help="make a file that exists anew")
    parser.add_argument("--allow-dirty", action="store_true", help="take runs of sources with changes too")
    options = parser.parse_args(arguments)
    try:
        plans = [
            plan(
                study,
                options.source,
                merge=options.merge,
                replace_all=options.replace,
                allow_dirty=options.allow_dirty,
            )
            for study in dict.fromkeys(options.studies)
        ]
        for made in plans:
            records.replace_file(made.path, text_of(made.lines))
            print(report(made))
    except (RecordError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
