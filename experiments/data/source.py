"""Rows from the Hugging Face hub by name, or from local files of the same schema; never both silently."""

import functools
import io
import json
import lzma
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.configuration import input_path
from experiments.errors import UserError, first_line
from experiments.hub import one_try

SUFFIXES = (".jsonl", ".jsonl.xz", ".json", ".parquet")


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
                    raise UserError(f"{self.name(split)}, row {number}: the field {field!r} {has}")
        if not rows:
            raise UserError(f"{self.name(split)} has no rows")
        return rows


def read_file(path: Path) -> list[dict[str, Any]]:
    """The rows of a file with one of `SUFFIXES`; read once as long as size and time stay the same.

    Raises:
        UserError: naming file and row, when it cannot be read or is no table of objects.
    """
    try:
        stat = path.stat()
        return _file_rows(path, stat.st_size, stat.st_mtime_ns)
    except (OSError, EOFError, lzma.LZMAError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


@functools.lru_cache(maxsize=8)
def _file_rows(path: Path, size: int, changed: int) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return _parquet_rows(path)
    content = path.read_bytes()
    text = (lzma.decompress(content) if path.suffix == ".xz" else content).decode(
        "utf-8-sig"
    )  # some begin with a mark
    if path.suffix == ".json":
        rows = _parse(path, 1, text)
        if not isinstance(rows, list):
            raise UserError(f"{path} is no list of rows")
    else:
        rows = [_parse(path, number, line.strip()) for number, line in enumerate(io.StringIO(text), 1) if line.strip()]
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise UserError(f"{path}, row {number}: not an object with fields")
    if "\\u" in text:  # JSON can write half of a character, which is no text
        for number, row in enumerate(rows, 1):
            for field, value in row.items():
                _require_text(f"{path}, row {number}: the field {field!r}", value)
    return rows


def _require_text(where: str, value: Any) -> None:
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            half = ascii(value[error.start])
            raise UserError(f"{where} has half of a character ({half}) at {error.start}; mend or remove it") from None
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            _require_text(where, item)


def _parse(path: Path, number: int, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {number + error.lineno - 1}: no valid JSON ({error.msg})") from error


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
