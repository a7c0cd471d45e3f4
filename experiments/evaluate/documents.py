"""Test sets of the tasks: from the Hugging Face hub by name, or from a local folder in the same schema."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.data.source import SUFFIXES, read_file
from experiments.errors import UserError, first_line
from experiments.hub import one_try


@dataclass(frozen=True)
class Source:
    """Where a task's test set is.

    Attributes:
        local: name of the file in a local folder, without its suffix, for example ``gsm8k.test``.
        hub: name of the data set on the hub; empty: there is none in this schema.
        configurations: of the hub's data set, one after another; empty: its only one.
        split: of the hub's data set.
        keep: field -> the values of the rows that stay; None: all stay.
        option: the option that names a local copy, for messages.
    """

    local: str
    hub: str = ""
    configurations: tuple[str, ...] = ()
    split: str = "test"
    keep: Mapping[str, Sequence[Any]] | None = None
    option: str = "downstream.folder"

    def rows(self, folder: Path | None, fields: Sequence[str]) -> tuple[list[dict[str, Any]], str]:
        """All rows, and a sentence that says where they are from.

        Args:
            folder: local folder; None: the hub. Never the one in place of the other.
            fields: that every row must have.

        Raises:
            UserError: when the data cannot be had or lacks one of `fields`.
        """
        rows, origin = self._from_hub() if folder is None else self._from_folder(folder)
        for number, row in enumerate(rows, 1):
            if missing := [name for name in fields if row.get(name) is None]:
                raise UserError(
                    f"{origin}: row {number} lacks the field {', '.join(missing)}; it has {', '.join(row)}"
                )
        if self.keep:
            rows = [row for row in rows if all(row[name] in values for name, values in self.keep.items())]
        if not rows:
            raise UserError(f"{origin}: there is no row")
        return rows, origin

    def _from_folder(self, folder: Path) -> tuple[list[dict[str, Any]], str]:
        paths = [path for suffix in SUFFIXES if (path := folder / f"{self.local}{suffix}").is_file()]
        if len(paths) != 1:
            raise UserError(
                f"{folder} has {'no' if not paths else 'more than one'} {self.local}{{{','.join(SUFFIXES)}}}; "
                f"put one there, leave the task out, or drop {self.option} to load it from the hub"
            )
        return read_file(paths[0]), f"local file {paths[0].name}"

    def _from_hub(self) -> tuple[list[dict[str, Any]], str]:
        if not self.hub:
            raise UserError(f"{self.local} is not on the hub in this schema; give {self.option}=... with its file")
        from datasets import load_dataset

        rows: list[dict[str, Any]] = []
        for name in self.configurations or (None,):
            try:
                with one_try():
                    rows += [dict(row) for row in load_dataset(self.hub, name, split=self.split)]  # pyright: ignore[reportArgumentType, reportCallIssue]
            except Exception as error:  # the hub client raises many kinds; each means that the data is not there
                reason = first_line(error)
                raise UserError(
                    f"the hub's {self.hub} ({name or 'default'}, {self.split}) cannot be had ({reason}); "
                    f"give {self.option}=... to read a local copy"
                ) from error
        return rows, f"hub {self.hub}, split {self.split}"
