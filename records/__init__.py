"""Run records: the hand-off from experiments/ and theory/ to paper/.

A record has three parts besides its identity: the resolved `config`, the `measurements`, and the `provenance`
(commit, dirty flag, versions, device). Failed and interrupted runs are records too. `OUTPUTS` holds what this clone
ran, a file a run, and is ignored by git. `COMMITTED` holds results of GPU or long runs, a file a study with a line a
run, and is part of the repository; `python -m records.commit` writes it. Whatever reads records reads both forms.
"""

import hashlib
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:  # importing pandas takes a second, which only `frame` needs
    import pandas

ROOT = Path(__file__).resolve().parent.parent
OUTPUTS = ROOT / "outputs" / "records"
COMMITTED = ROOT / "results"

SCHEMA = 1
KINDS = ("train", "verify", "curvature", "profile", "overlap", "tuning", "evaluate", "compare")
STATUSES = ("finished", "failed", "interrupted")
TEXTS = ("kind", "study", "name", "key", "status", "error")
MAPPINGS = ("config", "measurements", "provenance")
NAME_BYTES = 160
"""Of the name of a record: files have 255, and there are endings and folders with a name and more in theirs."""
LIVE = ".live.jsonl"
"""Ending of the file beside a record that grows while its run lives; it is no record and may be removed."""
NOT_FINITE = "not_finite"
"""Measurement of a record that lists where its measurements were NaN or infinite."""


class RecordError(ValueError):
    """A file or a value that does not follow the schema of records; the message names it."""


def require_writable(folder: Path, option: str = "records_dir") -> None:
    """Raise RecordError unless files can be written to the folder, made if missing, that the option names."""
    probe = folder / ".probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink(missing_ok=True)  # another process in the same folder removes it too
    except OSError as error:
        raise RecordError(
            f"{folder} cannot be written to ({error.strerror}); choose another folder with {option}=..."
        ) from error


@dataclass(frozen=True)
class Record:
    """One run; every field holds JSON values only.

    Attributes:
        kind: which entry point wrote it, one of `KINDS`.
        study: name of the study, or "single".
        name: readable name of the run, unique in its study.
        key: `run_key` of its config and of what it read.
        status: one of `STATUSES`.
        error: message of a failed run, else "".
        config: resolved configuration.
        measurements: everything that was measured.
        provenance: what `records.provenance.provenance` returned when the run began.
        path: the file that it was read from, of one run or of a study; not part of the record.

    Raises:
        RecordError: when a field has the wrong type or an unknown value.
    """

    kind: str
    study: str
    name: str
    key: str
    status: str
    config: dict[str, Any]
    measurements: dict[str, Any]
    provenance: dict[str, Any]
    error: str = ""
    schema: int = SCHEMA
    path: Path | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        for names, wanted in ((TEXTS, str), (MAPPINGS, dict)):
            for name in names:
                if not isinstance(value := getattr(self, name), wanted):
                    raise RecordError(f"{name} must be a {wanted.__name__}, got {value!r}")
        for name, allowed in (("kind", KINDS), ("status", STATUSES), ("schema", (SCHEMA,))):
            if (value := getattr(self, name)) not in allowed:
                raise RecordError(f"{name}={value!r} is not one of {', '.join(map(str, allowed))}")
        if (self.status == "failed") != bool(self.error):
            raise RecordError(f"status={self.status!r} does not go with error={self.error!r}")


def not_finite(value: Any) -> str:
    """Where a JSON value has NaN or infinity, as the error of a record; empty when nowhere.

    >>> not_finite({"loss": float("nan")}), not_finite({"loss": 1.0})
    ('not finite: loss', '')
    """
    places = finite(value)[1]
    return f"not finite: {', '.join(places[:3])}{' and more' if len(places) > 3 else ''}" if places else ""


def file_name(text: str) -> str:
    """A text as the name of a record, of at most `NAME_BYTES` bytes; a longer one is cut and ends with its hash.

    >>> file_name("badam, lr 0.1")
    'badam_lr_0.1'
    """
    name = re.sub(r"[^\w.=-]+", "_", text).strip(".") or "_"
    encoded = name.encode()
    if len(encoded) <= NAME_BYTES:
        return name
    mark = f"-{digest(text)[:8]}"
    return encoded[: NAME_BYTES - len(mark)].decode(errors="ignore") + mark


def require_name(option: str, name: Any) -> None:
    """Raise RecordError unless a study or record can have that name: it becomes a file's."""
    if not isinstance(name, str) or name != file_name(name):
        raise RecordError(
            f"{option}={name!r} is not possible: it becomes the name of a file; give letters, digits and _ . = -, at "
            f"most {NAME_BYTES} bytes"
        )


def digest(value: Any) -> str:
    """SHA-256 of a JSON value in canonical form (sorted keys, no spaces); NaN is refused."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def run_key(config: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """Identity of a run: the same resolved config and the same hashes of the code and data that produce it.

    Args:
        inputs: name -> hash, for example ``{"code": ..., "data": ..., "model": ...}``.
    """
    return digest({"config": config, "inputs": dict(inputs)})


def write(record: Record, folder: Path) -> Path:
    """Write `record` to ``folder/study/name.json`` and return the path.

    The file appears whole or not at all, and an older record of that name is replaced. JSON has no name for NaN and
    infinity: where one was measured the file has null, and the measurement `NOT_FINITE` lists the places.

    Raises:
        ValueError: for NaN or infinity outside the measurements.
    """
    measurements, places = finite(record.measurements)
    if places:
        record = replace(record, measurements=measurements | {NOT_FINITE: places})
    text = NUMBERS.sub(_on_one_line, json.dumps(content(record), indent=1, allow_nan=False)) + "\n"
    path = folder / record.study / f"{record.name}.json"
    replace_file(path, text)
    return path


def finite(value: Any, place: str = "") -> tuple[Any, list[str]]:
    """A JSON value with None for every NaN and infinity, and their places.

    >>> finite({"loss": float("nan"), "curve": [1.0, float("inf")]})
    ({'loss': None, 'curve': [1.0, None]}, ['loss', 'curve.1'])
    """
    if isinstance(value, float) and not math.isfinite(value):
        return None, [place]
    if not isinstance(value, dict | list | tuple):
        return value, []
    pairs = list(value.items() if isinstance(value, dict) else enumerate(value))
    checked = [(key, *finite(item, f"{place}.{key}".lstrip("."))) for key, item in pairs]
    places = [name for _, _, names in checked for name in names]
    if isinstance(value, dict):
        return {key: item for key, item, _ in checked}, places
    return [item for _, item, _ in checked], places


def content(record: Record) -> dict[str, Any]:
    """The record as JSON."""
    return {name: value for name, value in asdict(record).items() if name != "path"}


def replace_file(path: Path, text: str) -> None:
    """Write a file that appears whole or not at all: beside its place, synced, renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")  # two processes may write the same
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


NUMBERS = re.compile(r"\[\n[^\[\]{}\"]*\]")
"""A list of numbers in indented JSON; within a string a line break would be escaped."""


def _on_one_line(match: re.Match[str]) -> str:
    return re.sub(r"\n *", " ", match[0]).replace("[ ", "[").replace(" ]", "]")


def load(path: Path) -> Record:
    """Read the record of one run.

    Raises:
        RecordError: naming the file, when it is no valid record.
    """
    try:
        return Record(**json.loads(path.read_text(encoding="utf-8")), path=path)
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError, RecordError) as error:
        raise RecordError(f"{path} is not a valid record: {error}") from error


def load_lines(path: Path) -> list[Record]:
    """Read the records of one study, a line each.

    Raises:
        RecordError: naming file and line, when a line is no valid record of the study that the file is named after,
            when names are not in order, or when two runs have one name or one key.
    """
    try:
        return parse_lines(path.read_text(encoding="utf-8"), path)
    except UnicodeDecodeError as error:
        raise RecordError(f"{path} is not a file of records: {error}") from error


def parse_lines(text: str, path: Path) -> list[Record]:
    """As `load_lines`, of the text that the file has or is to have."""
    records: list[Record] = []
    lines_of: dict[str, int] = {}
    for number, line in enumerate(text.removesuffix("\n").split("\n"), 1):
        place = f"{path}, line {number}"
        try:
            record = Record(**json.loads(line), path=path)
        except json.JSONDecodeError as error:
            raise RecordError(f"{place} is not a valid record: {error.msg} at character {error.pos + 1}") from error
        except (TypeError, RecordError) as error:
            raise RecordError(f"{place} is not a valid record: {error}") from error
        if record.study != path.stem:
            raise RecordError(f"{place}: study={record.study!r} is not {path.stem!r}, as the file is named")
        if records and record.name == records[-1].name:
            raise RecordError(f"{place}: name={record.name!r} is that of line {number - 1} too")
        if records and record.name < records[-1].name:
            raise RecordError(f"{place}: name={record.name!r} is not in order after {records[-1].name!r}")
        if record.key in lines_of:
            raise RecordError(
                f"{place}: key={record.key!r} of {record.name!r} is that of line {lines_of[record.key]} too"
            )
        lines_of[record.key] = number
        records.append(record)
    return records


def read_study(study: str, folder: Path = OUTPUTS) -> list[Record]:
    """All records of one study in a folder, ordered by name; an empty list when there are none.

    They are those of ``folder/STUDY/NAME.json``, a file a run, or of ``folder/STUDY.jsonl``, a line a run.

    Raises:
        RecordError: when there are both, or when one of them is not valid.
    """
    singles, together = sorted((folder / study).glob("*.json")), folder / f"{study}.jsonl"
    if together.is_file():
        if singles:
            raise RecordError(f"{together} and {singles[0].parent} both hold records of {study}; remove one of them")
        return load_lines(together)
    return sorted(map(load, singles), key=lambda record: record.name)


def load_study(study: str, *, kind: str, folder: Path = OUTPUTS) -> list[Record]:
    """The finished records of one study and kind, ordered by name; an empty list when there are none."""
    return [record for record in read_study(study, folder) if record.kind == kind and record.status == "finished"]


def read(study: str, name: str, folder: Path = OUTPUTS) -> Record | None:
    """The record of that study and name, in either form; None when there is none."""
    path = folder / study / f"{name}.json"
    if path.exists():
        return load(path)  # without reading the others: a study asks for each of its runs
    if not (folder / f"{study}.jsonl").is_file():
        return None
    return next((record for record in read_study(study, folder) if record.name == name), None)


def find(study: str, name: str, key: str, folder: Path = OUTPUTS) -> Record | None:
    """The finished record of that study and name if it has that key, else None."""
    record = read(study, name, folder)
    return record if record and record.key == key and record.status == "finished" else None


def studies(folder: Path) -> list[str]:
    """The studies that a folder has records of, in either form."""
    singles = {path.parent.name for path in folder.glob("*/*.json")}
    return sorted(singles | {path.stem for path in folder.glob("*.jsonl") if not path.name.endswith(LIVE)})


def at(place: str | Path) -> list[Record]:
    """The records of a study by its name, of a folder, or of a file, ordered by study and name.

    Args:
        place: a file of one run (.json) or of a study (.jsonl); a folder of such files or of studies; or the name of a
            study, which is sought in `OUTPUTS` and then in `COMMITTED`.

    Raises:
        RecordError: when there are no records, with the studies that there are, or when one is not valid.
    """
    path = Path(place).expanduser()
    if path.is_file():
        return load_lines(path) if path.suffix == ".jsonl" else [load(path)]
    if path.is_dir():
        singles = sorted(map(load, path.glob("*.json")), key=lambda record: record.name)
        if found := singles or [record for study in studies(path) for record in read_study(study, path)]:
            return found
        raise RecordError(f"{place} has no records: neither NAME.json, STUDY/NAME.json nor STUDY.jsonl")
    for folder in (OUTPUTS, COMMITTED):
        if found := read_study(str(place), folder):
            return found
    there = dict.fromkeys([*studies(OUTPUTS), *studies(COMMITTED)])
    raise RecordError(f"{place} is no file, no folder and none of the studies {', '.join(there)}")


Each = Literal["run", "step", "point"]


def frame(place: str | Path, each: Each = "run", *, kind: str | None = None) -> "pandas.DataFrame":
    """Records as a table of pandas.

        records.frame("headline").groupby("config.choices.method")["measurements.test.heldout_loss"].mean()

    Columns are the fields of a record; what is nested in config, measurements and provenance has dots in its name. A
    run that lacks a value has NaN. Lists of measurements are left out of a row a run: those over steps and over
    evaluations are what "step" and "point" are for, and those over items are in `at(place)`.

    Args:
        place: see `at`.
        each: what a row is: a "run"; a "step" of training, with its metrics; a "point" of the curve of evaluations.
            Rows of steps and points have the fields study, name and the run's configuration besides.
        kind: only the records of this kind, one of `KINDS`; None: all.

    Raises:
        RecordError: as `at`, for an unknown `each` or kind, and when no record is left.
    """
    import pandas

    for name, value, allowed in (("each", each, get_args(Each)), ("kind", kind, (*KINDS, None))):
        if value not in allowed:
            raise RecordError(f"{name}={value!r} is not one of {', '.join(map(str, allowed))}")
    found = [record for record in at(place) if kind in (None, record.kind)]
    if not found:
        raise RecordError(f"{place} has no records of kind={kind!r}")
    rows = [row for record in found for row in (_rows(record, each) if each != "run" else [_flat(record)])]
    return pandas.DataFrame(rows)


def _flat(record: Record) -> dict[str, Any]:
    """A record as one level of names; lists stay where they are a configuration's."""
    row: dict[str, Any] = {name: getattr(record, name) for name in TEXTS}
    for name in MAPPINGS:
        row |= {key: value for key, value in _leaves(getattr(record, name), name) if _shown(key, value)}
    return row


def _shown(key: str, value: Any) -> bool:
    return key.startswith("config.") or not (isinstance(value, list) or key.endswith(".right"))


def _leaves(tree: Any, place: str) -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from _leaves(value, f"{place}.{key}")
    elif not isinstance(tree, dict):
        yield place, tree


def _rows(record: Record, each: Each) -> list[dict[str, Any]]:
    """A row a step, counted from 1 as steps done, or a row a point of the curve."""
    run = {name: getattr(record, name) for name in ("study", "name")} | dict(_leaves(record.config, "config"))
    if each == "point":
        return [run | point for point in record.measurements.get("curve", [])]
    columns = record.measurements.get("steps", {})
    count = max(map(len, columns.values()), default=0)
    return [run | {"step": i + 1} | {name: values[i] for name, values in columns.items()} for i in range(count)]
