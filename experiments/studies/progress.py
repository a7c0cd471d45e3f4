"""One live table of a study on a terminal; plain lines elsewhere."""

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack

from rich.console import Console
from rich.live import Live
from rich.table import Table
from tqdm import tqdm

from experiments.studies import estimate
from experiments.studies.show import between, left
from experiments.training.run import Run

ROWS = 12
"""Runs shown at once: those under way, and as many of the next as fit."""


class Progress:
    """What is under way, done and left.

    Args:
        name: of the study.
        listed: all its runs.
        workers: runs at the same time.
        console: where the table goes; None: stdout.
    """

    def __init__(self, name: str, listed: Sequence[Run], workers: int, console: Console | None = None) -> None:
        self._name, self._listed, self._workers = name, listed, workers
        self._console = console or Console(file=sys.stdout)
        self._states = {run.place: run.state for run in listed}
        self._begins: dict[tuple[str, str], float] = {}
        self._measured, self._estimated = 0.0, 0.0  # seconds of the runs that ended here
        self._open = ExitStack()

    def __enter__(self) -> "Progress":
        # Each run draws its own bar with tqdm; two live displays on one terminal would overwrite each other.
        if self._console.is_terminal and self._workers > 1:
            self._open.enter_context(Live(self, console=self._console, refresh_per_second=1))
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def say(self, line: str) -> None:
        """Print a line above the table, as it is: brackets are no markup."""
        if self._workers == 1:
            tqdm.write(line, file=sys.stdout)
        else:
            self._console.print(line, highlight=False, markup=False)

    def started(self, run: Run) -> None:
        self._states[run.place] = "running"
        self._begins[run.place] = time.perf_counter()
        if self._workers == 1:
            self.say(self.remaining())

    def ended(self, run: Run, status: str) -> None:
        self._states[run.place] = status
        if run.place in self._begins:
            self._measured += self.seconds(run)
            self._estimated += estimate.estimated(run)

    def seconds(self, run: Run) -> float:
        """Since the run was started here."""
        return time.perf_counter() - self._begins[run.place]

    def remaining(self) -> str:
        """Runs done and the time left, estimated from the arithmetic and corrected by the runs that ended here.

        Before any has ended it is a range, as far as the machine's speed varied when it was measured.
        """
        scale = self._measured / self._estimated if self._estimated else 1.0
        states = self._states
        seconds = 0.0
        for run in self._listed:
            if states[run.place] in ("to do", "interrupted"):
                seconds += scale * estimate.estimated(run)
            elif states[run.place] == "running":
                seconds += max(0.0, scale * estimate.estimated(run) - self.seconds(run))
        done = sum(state in ("finished", "failed") for state in states.values())
        seconds /= self._workers
        if self._estimated or not seconds:
            about = left(seconds)
        else:
            about = between(*(share * seconds for share in estimate.spread(self._listed)))
        return f"study {self._name}: {done} of {len(states)} runs done, about {about} left"

    def __rich__(self) -> Table:
        table = Table(title=self.remaining(), title_justify="left", box=None)
        for column in ("run", "state", "seconds", "estimated"):
            table.add_column(column, justify="left" if column in ("run", "state") else "right")
        rows = [run for run in self._listed if self._states[run.place] == "running"]
        rows += [run for run in self._listed if self._states[run.place] in ("to do", "interrupted")]
        for run in rows[:ROWS]:
            running = self._states[run.place] == "running"
            since = f"{self.seconds(run):.0f}" if running else ""
            table.add_row(run.name, self._states[run.place], since, f"{estimate.estimated(run):.0f}")
        if len(rows) > ROWS:
            table.add_row(f"and {len(rows) - ROWS} more", "", "", "")
        return table
