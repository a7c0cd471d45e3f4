"""A table of the sweep while it runs: one row a bound and family, with its state, and the time that is left.

Only a terminal shows it. It stands below the rows of the report, which scroll above it, and goes when the sweep ends;
elsewhere the rows of the report are all that is printed.
"""

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

Name = tuple[str, str]

FINISHED = 3
"""Finished rows that stay above the first one that is not."""


class LiveTable:
    """Context manager; bound and family name a row.

    Args:
        rows: in the order of the report.
        parts: tasks of a row.
        console: that of stdout unless given.
        clock: seconds, increasing.
    """

    def __init__(
        self,
        rows: Sequence[Name],
        parts: int,
        *,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rows, self.parts, self.clock = list(rows), parts, clock
        self.done = dict.fromkeys(self.rows, 0)
        self.running: dict[Name, Callable[[], bool]] = {}
        self.verdicts: dict[Name, str] = {}
        self.start = clock()
        console = console or Console()
        self.live = Live(self, console=console, refresh_per_second=4, transient=True) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.live:
            self.live.stop()

    def part_done(self, name: Name) -> None:
        """One more task of this row is finished."""
        self.done[name] += 1

    def state(self, name: Name) -> str:
        """Waiting, running with the finished share of the tasks, or the verdict."""
        if name in self.verdicts:
            return self.verdicts[name]
        if self.done[name] or (name in self.running and self.running[name]()):
            return f"running {self.done[name]}/{self.parts}"
        return "waiting"

    def remaining(self) -> str:
        """Remaining time if the other tasks take as long as the finished ones; "?" before the first."""
        done, total = sum(self.done.values()), self.parts * len(self.rows)
        return str(timedelta(seconds=round((self.clock() - self.start) * (total - done) / done))) if done else "?"

    def __rich__(self) -> Table:
        most = (self.live.console.height if self.live else 24) - 6
        open_rows = [place for place, name in enumerate(self.rows) if name not in self.verdicts]
        first = max(0, min(open_rows[0] - FINISHED if open_rows else len(self.rows), len(self.rows) - most))
        table = Table("bound", "problem", "state")
        table.caption = f"{len(self.verdicts)} of {len(self.rows)} done, {self.remaining()} left"
        for name in self.rows[first : first + max(1, most)]:
            table.add_row(*name, self.state(name))
        return table
