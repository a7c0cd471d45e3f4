"""Run records: the hand-off from experiments/ and theory/ to paper/. One JSON file a run.

A record has three parts besides its identity: the resolved `config`, the `measurements`, and the `provenance`
(commit, dirty flag, versions, device). Failed and interrupted runs are records too. `OUTPUTS` holds what this clone
ran and is ignored by git; `COMMITTED` holds results of GPU or long runs and is part of the repository.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OUTPUTS = ROOT / "outputs" / "records"
COMMITTED = ROOT / "records"

SCHEMA = 1
KINDS = ("train", "verify", "curvature", "profile", "overlap", "tuning", "evaluate", "compare")
STATUSES = ("finished", "failed", "interrupted")
TEXTS = ("kind", "study", "name", "key", "status", "error")
MAPPINGS = ("config", "measurements", "provenance")


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

    kind: which entry point wrote it, one of `KINDS`.     study: name of the study, or "single".
    name: readable name of the run, unique in its study.  key: `run_key` of its config and of what it read.
    status: one of `STATUSES`.                            error: message of a failed run, else "".
    config: resolved configuration.                       measurements: everything that was measured.
    provenance: what `records.provenance.provenance` returned when the run began.
    path: the file that it was read from; not part of the record.

    Raises RecordError when a field has the wrong type or an unknown value.
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


def digest(value: Any) -> str:
    """SHA-256 of a JSON value in canonical form (sorted keys, no spaces); NaN is refused."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def run_key(config: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """Identity of a run: the same resolved config and the same hashes of the code and data that produce it.

    inputs: name -> hash, for example ``{"code": ..., "data": ..., "model": ...}``.
    """
    return digest({"config": config, "inputs": dict(inputs)})


def write(record: Record, folder: Path) -> Path:
    """Write `record` to ``folder/study/name.json`` and return the path.

    The file appears whole or not at all (written beside, synced, renamed), and an older record of that name is
    replaced. NaN and infinity are refused, because JSON has no name for them.
    """
    content = {name: value for name, value in asdict(record).items() if name != "path"}
    text = NUMBERS.sub(_on_one_line, json.dumps(content, indent=1, allow_nan=False)) + "\n"
    path = folder / record.study / f"{record.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    return path


NUMBERS = re.compile(r"\[\n[^\[\]{}\"]*\]")
"""A list of numbers in indented JSON; within a string a line break would be escaped."""


def _on_one_line(found: re.Match[str]) -> str:
    return re.sub(r"\n *", " ", found[0]).replace("[ ", "[").replace(" ]", "]")


def load(path: Path) -> Record:
    """Read one record. Raises RecordError, naming the file, when it is no valid record."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Record(**content, path=path)
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError, RecordError) as error:
        raise RecordError(f"{path} is not a valid record: {error}") from error


def load_study(study: str, *, kind: str, folder: Path = OUTPUTS) -> list[Record]:
    """The finished records of one study and kind, ordered by name; an empty list when there are none."""
    records = [load(path) for path in sorted((folder / study).glob("*.json"))]
    return [record for record in records if record.kind == kind and record.status == "finished"]


def find(study: str, name: str, key: str, folder: Path = OUTPUTS) -> Record | None:
    """The finished record of that study and name if it has that key, else None."""
    path = folder / study / f"{name}.json"
    if not path.exists():
        return None
    record = load(path)
    return record if record.key == key and record.status == "finished" else None
