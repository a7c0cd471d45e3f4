"""A JSON Lines file that grows by whole lines: what a killed process leaves can be read and continued."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Journal:
    """Rows in the order in which they were appended."""

    path: Path

    def read(self) -> list[dict[str, Any]]:
        """All whole lines; a torn last line (of a process killed while it wrote) is left out."""
        if not self.path.exists():
            return []
        rows = []
        for line in self.path.read_bytes().split(b"\n"):
            try:
                row = json.loads(line)
            except ValueError:  # torn, or the nothing after the last newline
                continue
            if isinstance(row, dict):
                rows.append(row)
        return rows

    def append(self, *rows: Mapping[str, Any]) -> None:
        """Add lines in one write that is synced, so that each is there whole or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows).encode()
        handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size = os.fstat(handle).st_size
            if size and os.pread(handle, 1, size - 1) != b"\n":
                text = b"\n" + text  # what was torn stays a line of its own
            written = 0
            while written < len(text):
                written += os.write(handle, text[written:])
            os.fsync(handle)
        finally:
            os.close(handle)
