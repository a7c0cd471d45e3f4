"""A process that executes one run after another: imports, compiled graphs, models and data are there once.

The parent sends plans through a pipe and gets back what became of each. Runs share nothing that changes a result: each
has its own copy of the model and its own generators.
"""

import fcntl
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from bcd.execution import keep_graphs
from experiments.errors import UserError
from experiments.training import planning, run
from experiments.training.interruption import Interrupted
from experiments.training.loading import Loading

BUSY, THERE = "busy", "there"
"""What became of a run that was not executed: another process works on it; another process has finished it."""


class BusyError(Exception):
    """Another process works on this run."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path` (made if missing). Raises BusyError when another process holds it.

    The system frees a lock when its process ends, however it ends.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(path) from None
        yield


def attempt(planned: planning.Plan, study: str, force: bool, loading: Loading | None = None) -> str:
    """Execute the run unless another process works on it or has finished it; returns the record's status, `BUSY` or
    `THERE`. Raises what `run.execute` raises."""
    try:
        with locked(planning.checkpoints(planned, study).lock):
            if not force and planning.finished(planned, study):
                return THERE
            return run.execute(planned, study, restart=force, loading=loading).status
    except BusyError:
        return BUSY


def work(connection: Connection, log: str) -> None:
    """Execute what comes through `connection`, (plan, study, force) each, until None comes; answers with (status, "")
    or ("", why it cannot be done at all).

    log: file that gets what the runs print, for the parent in case of a crash.
    """
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(file, stream.fileno())
    # Ctrl-C on a terminal reaches every process of it; the parent decides between runs.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    loading = Loading(keep=True)
    with keep_graphs():
        while True:
            try:
                task = connection.recv()
            except EOFError:  # the parent is gone
                return
            if task is None:
                return
            planned, study, force = task
            try:
                answer = attempt(planned, study, force, loading), ""
            except UserError as error:
                answer = "", str(error)
            except Interrupted as stop:
                raise SystemExit(stop.code) from None
            loading.clear(planned.device)
            connection.send(answer)
