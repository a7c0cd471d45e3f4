"""Rows from the Hugging Face hub by name, or from local files of the same schema; never both silently."""

import csv
import functools
import gzip
import io
import json
import lzma
import sys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.configuration import input_path
from experiments.data.faults import Faults
from experiments.errors import UserError, first_line
from experiments.hub import one_try

SUFFIXES = (".jsonl", ".jsonl.xz", ".jsonl.gz", ".json", ".csv", ".parquet")


@dataclass(frozen=True)
class Source:
    """Where the rows of a data set are.

    A missing local file is an error; the hub is not tried then. Whatever cannot be read is a UserError of one line.

    Attributes:
        hub: name on the hub; None for data that are local only.
        file: name of the data set's files in a local folder.
        configs: configurations on the hub whose rows are put one after the other; none: the default one.
        local: None reads the hub. A folder holds ``file.split`` with one of `SUFFIXES`; a file is the train split.
        revision: of the hub's repository, a commit or tag.
    """

    hub: str | None
    file: str
    configs: Sequence[str] = ()
    local: str | None = None
    revision: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "configs", tuple(self.configs))  # hashable, for the cache of what was read

    def name(self, split: str) -> str:
        """What messages call the rows."""
        return f"{self.hub or self.file} ({split})" if self.local is None else str(self.path(split))

    def path(self, split: str) -> Path:
        """The local file of a split.

        Raises:
            UserError: unless there is exactly one.
        """
        assert self.local is not None
        local = input_path(self.local)
        if local.is_file():
            if split != "train":
                raise UserError(f"{self.local} is one file, so it has no {split} split")
            if not local.name.endswith(SUFFIXES):
                raise UserError(f"{local}: the name ends in none of {', '.join(SUFFIXES)}")
            return local
        stem = f"{self.file}.{split}"
        paths = [path for suffix in SUFFIXES if (path := local / f"{stem}{suffix}").is_file()]
        if len(paths) != 1:
            what = f"both {paths[0].name} and {paths[1].name}" if paths else f"no {stem}{{{','.join(SUFFIXES)}}}"
            raise UserError(
                f"{self.local} has {what}; give a folder with one such file"
                + (f", or null for {self.hub} from the hub" if self.hub else "")
            )
        return paths[0]

    def rows(self, split: str, fields: Sequence[str], optional: Sequence[str] = ()) -> list[dict[str, Any]]:
        """All rows of a split.

        Args:
            split: name of the split.
            fields: texts that every row must have.
            optional: what is a text where a row has it.

        Raises:
            UserError: when one of `fields` is missing in a row, or a field is no text.
        """
        rows = _hub_rows(self, split) if self.local is None else read_file(self.path(split))
        for number, row in enumerate(rows, 1):
            for field in (*fields, *(field for field in optional if field in row)):
                if not isinstance(row.get(field), str):
                    has = f"is {row[field]!r}, no text" if field in row else f"is missing (it has {', '.join(row)})"
                    own = "" if field in row or self.local is None else "; for other fields: data=file data.path=FILE"
                    raise UserError(f"{self.name(split)}, row {number}: the field {field!r} {has}{own}")
        if not rows:
            raise UserError(f"{self.name(split)} has no rows")
        return rows


def read_file(path: Path) -> list[dict[str, Any]]:
    """The rows of a file with one of `SUFFIXES`; read once as long as size and time stay the same.

    A .json file is a list of rows, or an object that has such a list under ``data``. The first line of a .csv file
    has the names of the fields; its values are texts.

    Raises:
        UserError: naming file and row, when it cannot be read or is no table of objects; see `Faults`.
    """
    try:
        stat = path.stat()
        return _file_rows(path, stat.st_size, stat.st_mtime_ns)
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


@functools.lru_cache(maxsize=8)
def _file_rows(path: Path, size: int, changed: int) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return _parquet_rows(path)
    content = path.read_bytes()
    unpack = {".xz": lzma.decompress, ".gz": gzip.decompress}.get(path.suffix, bytes)
    faults = Faults(path)
    text = _text(unpack(content), faults)
    if path.suffix == ".csv":
        return _csv_rows(path, text)
    rows = _json_rows(path, text) if path.suffix == ".json" else _lines(text, faults)
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            faults.add(f"row {number}", "not an object with fields")
        elif "\\u" in text:  # JSON can write half of a character, which is no text
            for field, value in row.items():
                if (half := _half(value)) is not None:
                    faults.add(
                        f"row {number}", f"the field {field!r} has half of a character {half}; mend or remove it"
                    )
    faults.check()
    return rows


def _text(content: bytes, faults: Faults) -> str:
    """The content as text, without the mark that some files begin with."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        for number, line in enumerate(content.split(b"\n"), 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                byte = line[error.start]
                faults.add(
                    f"line {number}", f"byte {byte:#04x} at {error.start} is no UTF-8; save the file as UTF-8 text"
                )
        faults.check()
        raise  # no line is to blame alone


def _lines(text: str, faults: Faults) -> list[Any]:
    rows = []
    for number, line in enumerate(io.StringIO(text), 1):
        if line.strip():
            try:
                rows.append(json.loads(line.strip()))
            except json.JSONDecodeError as error:
                faults.add(f"line {number}", f"no valid JSON ({error.msg})")
    faults.check()
    return rows


def _json_rows(path: Path, text: str) -> list[Any]:
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {error.lineno}: no valid JSON ({error.msg})") from error
    if isinstance(rows, dict) and isinstance(rows.get("data"), list):
        return rows["data"]
    if not isinstance(rows, list):
        raise UserError(f'{path} is no list of rows, and no object with one under "data"')
    return rows


def _csv_rows(path: Path, text: str) -> list[dict[str, Any]]:
    csv.field_size_limit(sys.maxsize)  # of the process; the default refuses texts of 128 KiB
    reader, faults = csv.DictReader(io.StringIO(text, newline=""), strict=True), Faults(path)
    try:
        names = list(reader.fieldnames or ())
        if len(set(names)) < len(names) or not all(name.strip() for name in names):
            raise UserError(
                f"{path}, line 1: the names of the fields are {', '.join(map(repr, names))}; make each one unique"
            )
        rows = []
        for number, row in enumerate(reader, 1):
            if None in row or None in row.values():
                has = len(names) + len(row.get(None, ())) - list(row.values()).count(None)  # pyright: ignore
                faults.add(
                    f"row {number} (line {reader.line_num})",
                    f"{has} values for {len(names)} fields ({', '.join(names)}); put a value with commas in quotes",
                )
            rows.append(row)
    except csv.Error as error:
        raise UserError(
            f"{path}, after line {reader.line_num}: no valid CSV ({error}); double the quotes in a value"
        ) from error
    faults.check()
    return rows


def _half(value: Any) -> str | None:
    """Half of a character in the value or in what it holds, and where; None where there is none."""
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            return f"({value[error.start]!a}) at {error.start}"
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            if (half := _half(item)) is not None:
                return half
    return None


def _parquet_rows(path: Path) -> list[dict[str, Any]]:
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise UserError(f"{path}: reading parquet needs the package pyarrow (pip install pyarrow)") from error
    try:
        return parquet.read_table(path).to_pylist()
    except arrow.ArrowInvalid as error:
        raise UserError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error


def _local_files(source: Source, split: str) -> str:
    """What to do without the hub, in the words of the commands that read data."""
    return (
        f"give a folder that has {source.file}.{split}.jsonl: data.source.local=FOLDER for a run, "
        "local_data=FOLDER for a study, local=FOLDER for experiments.overlap"
    )


@functools.lru_cache(maxsize=8)
def _hub_rows(source: Source, split: str) -> list[dict[str, Any]]:
    if source.hub is None:
        raise UserError(f"{source.file} is on no hub in this form: {_local_files(source, split)}")
    try:
        from datasets import disable_progress_bars, load_dataset
    except ImportError as error:
        raise UserError(
            f"{source.hub} is loaded from the hub by the package datasets, which is missing: pip install datasets, or "
            f"{_local_files(source, split)}"
        ) from error
    disable_progress_bars()
    rows: list[dict[str, Any]] = []
    for config in source.configs or (None,):
        try:
            with one_try():
                rows += load_dataset(source.hub, config, split=split, revision=source.revision).to_list()  # pyright: ignore
        except Exception as error:  # the hub client raises many kinds; each means that the data are not there
            reason = first_line(error)
            raise UserError(
                f"{source.hub}{f' ({config})' if config else ''}, split {split}, cannot be had from the hub "
                f"({reason}); {_local_files(source, split)}"
            ) from error
    return rows
