"""A process that executes one run after another: imports, compiled graphs, models and data are there once.

The parent sends runs through a pipe and gets back what became of each. Runs share nothing that changes a result: each
has its own copy of the model and its own generators.
"""

import os
import signal
import sys
from multiprocessing.connection import Connection

from bcd.execution import keep_graphs
from experiments.errors import UserError
from experiments.interruption import Interrupted
from experiments.training.checkpoint import BusyError
from experiments.training.loading import Loading
from experiments.training.run import Run
from experiments.training.running import execute
from experiments.training.watching import watching

BUSY, THERE = "busy", "there"
"""What became of a run that was not executed: another process works on it; another process has finished it."""


def attempt(run: Run, force: bool, loading: Loading | None = None) -> str:
    """Execute the run unless another process works on it or has finished it.

    Returns:
        The record's status, `BUSY` or `THERE`.

    Raises:
        Interrupted: see `execute`.
        UserError: see `execute`.
    """
    try:
        with run.locked():
            if not force and run.finished:
                return THERE
            return execute(run, restart=force, loading=loading, observer=watching(run)).status
    except BusyError:
        return BUSY


def work(connection: Connection, log: str) -> None:
    """Execute one run after another, as the parent sends them.

    Args:
        connection: brings (run, force) each, until None comes; gets (status, "") or ("", why it cannot be done at
            all).
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
            run, force = task
            try:
                answer = attempt(run, force, loading), ""
            except UserError as error:
                answer = "", str(error)
            except Interrupted as stop:
                raise SystemExit(stop.code) from None
            loading.clear(run.plan.device)
            connection.send(answer)
