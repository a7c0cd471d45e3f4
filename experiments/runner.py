"""Executes the runs of a study: skips, resumes, retries; one after another here, or several at once in processes.

Any number of processes may work on one study (`workers=4`, or the same command started again, also by a launcher of
Hydra on other machines that share the folder): each run is locked by whoever works on it.
"""

import fcntl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from experiments import run
from experiments.live import Progress
from experiments.study import Entry, summary
from records import Record


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


def execute(
    listed: Sequence[Entry],
    name: str,
    *,
    force: bool = False,
    retry: bool = False,
    command: Callable[[Entry], list[str]] | None = None,
    workers: int = 1,
) -> list[Record]:
    """Run what is not finished (with `retry` also what failed, with `force` everything); returns the records.

    workers: runs at the same time; more than one need `command`, which makes the command line of one run.
    A failing run stops no other; Interrupted (see `run.execute`) stops all.
    """
    progress = Progress(name, listed, workers)
    todo = [entry for entry in listed if force or wanted(entry, retry, progress.say)]
    with progress:
        if workers == 1 or command is None:
            for entry in todo:
                _one(entry, name, force, progress)
        else:
            _several(todo, name, command, workers, progress)
    return [record for entry in listed if (record := run.recorded(entry.plan, name)) is not None]


def remove_strangers(listed: Sequence[Entry], folder: Path) -> None:
    """Remove the records of an earlier form of the study, because whoever reads the study reads its folder."""
    for path in folder.glob("*.json"):
        if path.stem not in {entry.plan.name for entry in listed}:
            print(f"{path.name}: no run of the study any more, removed")
            path.unlink()


def wanted(entry: Entry, retry: bool, say: Callable[[str], None]) -> bool:
    """Whether the run is to be executed; says why not."""
    if entry.state == "finished":
        say(f"{entry.plan.name}: finished before, skipped")
        return False
    if entry.state == "failed" and not retry:
        assert entry.record is not None
        say(f"{entry.plan.name}: failed before ({entry.record.error}); retry=true runs it again")
        return False
    return True


def _one(entry: Entry, name: str, force: bool, progress: Progress) -> None:
    try:
        with locked(run.checkpoints(entry.plan, name).folder.with_suffix(".lock")):
            # Another process may have finished it since the list was made.
            if not force and run.finished(entry.plan, name):
                progress.ended(entry, "finished")
                return
            progress.started(entry)
            record = run.execute(entry.plan, name, restart=force)
            progress.say(f"{summary(record)}  ({progress.seconds(entry):.0f} s)")
            progress.ended(entry, record.status)
    except BusyError:
        progress.say(f"{entry.plan.name}: another process works on it, skipped")


def _several(
    todo: Sequence[Entry], name: str, command: Callable[[Entry], list[str]], workers: int, progress: Progress
) -> None:
    """Each run in a process of its own, so that neither memory nor a crash is shared; signals are passed on."""
    waiting, running = list(todo), dict[subprocess.Popen[str], Entry]()
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                entry = waiting.pop(0)
                process = subprocess.Popen(
                    command(entry), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=run.ROOT
                )
                running[process] = entry
                progress.started(entry)
            for process in [process for process in running if process.poll() is not None]:
                entry = running.pop(process)
                record = run.recorded(entry.plan, name)
                last = (process.communicate()[1].strip().splitlines() or [""])[-1]
                told = summary(record) if record else f"{entry.plan.name}: ended with {process.returncode}: {last}"
                progress.say(f"{told}  ({progress.seconds(entry):.0f} s)")
                progress.ended(entry, record.status if record else "failed")
            time.sleep(0.2)
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()


def command_of(overrides: Sequence[str]) -> Callable[[Entry], list[str]]:
    """The command line of one run of the study that `overrides` started."""
    own = [item for item in overrides if not item.startswith(("workers=", "worker=", "only="))]
    return lambda entry: [
        sys.executable,
        "-m",
        "experiments.train",
        *own,
        "workers=1",
        f"only='{entry.plan.name}'",
        "retry=true",
    ]
