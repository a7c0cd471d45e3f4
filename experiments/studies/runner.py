"""Executes the runs of studies: skips, takes over, resumes, retries; one after another here, or in several processes.

Any number of commands may work on one study (the same command started again, also by a launcher of Hydra on other
machines that share the folder): each run is locked by whoever works on it. A run that two studies have in common, by
its key, is executed once.
"""

import itertools
import os
import re
import tempfile
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing import connection, get_context
from pathlib import Path
from typing import Any

import torch

from bcd.execution import keep_graphs
from experiments.interruption import Interruption
from experiments.studies import estimate
from experiments.studies.progress import Progress
from experiments.studies.show import summary
from experiments.studies.worker import BUSY, THERE, attempt, work
from experiments.training.loading import Loading
from experiments.training.run import Run
from records import LIVE, Record, load


def execute(
    listed: Sequence[Run], name: str, *, force: bool = False, retry: bool = False, workers: int = 1
) -> list[Record]:
    """Run what is not finished.

    A failing run stops no other; Interrupted (see `running.execute`) stops all.

    Args:
        listed: runs of one study or of several.
        name: what the table calls the studies of `listed`.
        force: run everything, finished or not.
        retry: run also what failed before.
        workers: processes that each execute one run after another.

    Returns:
        The records that are there at the end, in the order of `listed`.
    """
    progress = Progress(name, listed, workers)
    elsewhere = {} if force or not listed else _by_key(listed[0].records_dir)
    first: dict[str, Run] = {}
    same: dict[str, list[Run]] = {}
    for run in listed:
        path = None if run.state == "finished" else elsewhere.get(run.plan.key)
        if path is None and not force and not wanted(run, retry, progress.say):
            continue
        if path is not None:
            record = load(path)
            take_over(record, run)
            progress.say(f"{run.name}: finished before in the study {record.study}, taken over")
            progress.ended(run, "finished")
        elif run.plan.key in first:
            same.setdefault(run.plan.key, []).append(run)
        else:
            first[run.plan.key] = run

    def ended(run: Run, status: str, why: str) -> None:
        record = run.record
        told = f"{run.name}: {why}" if why or record is None else summary(record)
        if status == BUSY:
            progress.say(f"{run.name}: another process works on it, skipped")
        elif status != THERE:
            progress.say(f"{told}  ({progress.seconds(run):.0f} s)")
        state = "finished" if status == THERE else status if status != BUSY else "to do"
        progress.ended(run, state or "failed")
        for other in same.get(run.plan.key, []):
            if record is not None:
                take_over(record, other)
            progress.ended(other, state or "failed")

    with progress, keep_graphs():
        if workers == 1:
            loading = Loading(keep=len(first) > 1)
            for run in first.values():
                progress.started(run)
                ended(run, attempt(run, force, loading), "")
                loading.clear(run.plan.device)
        else:
            _several(list(first.values()), force, workers, progress, ended)
    return [record for run in listed if (record := run.record) is not None]


def take_over(record: Record, run: Run) -> None:
    """Write the record of this very run in another study as that of the run."""
    run.write(replace(record, study=run.study, name=run.name))


def _by_key(folder: Path) -> dict[str, Path]:
    """Key -> record, for all finished runs below the folder; files that are no records are passed over."""
    paths = {}
    for path in sorted(folder.glob("*/*.json")):
        # Searched and not parsed: a record may hold columns of many steps, and two fields are asked for.
        text = path.read_text(encoding="utf-8", errors="replace")
        key = re.search(r'^ "key": "(\w+)"', text, re.MULTILINE)
        if key and re.search(r'^ "status": "finished"', text, re.MULTILINE):
            paths[key[1]] = path
    return paths


def remove_strangers(listed: Sequence[Run], folder: Path) -> None:
    """Remove the records of an earlier form of the study, because whoever reads the study reads its folder."""
    for path in folder.glob("*.json"):
        if path.stem not in {run.name for run in listed}:
            print(f"{path.name}: no run of the study any more, removed")
            path.unlink()
            path.with_suffix(LIVE).unlink(missing_ok=True)


def wanted(run: Run, retry: bool, say: Any) -> bool:
    """Whether the run is to be executed; says why not."""
    if run.state == "finished":
        unwritten = "; only force=true writes export=..." if run.export is not None else ""
        say(f"{run.name}: finished before, skipped{unwritten}")
        return False
    if run.state == "failed" and not retry:
        assert run.record is not None
        say(f"{run.name}: failed before ({run.record.error}); retry=true runs it again")
        return False
    return True


class _Worker:
    """A process of `experiments.studies.worker` and the run that it has."""

    def __init__(self, index: int, folder: Path) -> None:
        self.index = index
        self.run: Run | None = None
        self.forms: set[str] = set()  # of the runs that it had: their graphs are compiled
        self.log = folder / f"{index}.log"
        self.connection, other = get_context("spawn").Pipe()
        self.process = get_context("spawn").Process(target=work, args=(other, str(self.log)), daemon=True)
        with _environment(index):
            self.process.start()
        other.close()  # so that the end of the process is the end of the pipe

    def give(self, run: Run, force: bool) -> None:
        self.run = run
        self.forms.add(run.plan.form)
        with suppress(BrokenPipeError):  # a process that died meanwhile has no answer, see there
            self.connection.send((run, force))

    def answer(self) -> tuple[str, str]:
        """What became of the run; the process may have died of it."""
        try:
            return self.connection.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            lines = self.log.read_text(errors="replace").strip().splitlines() if self.log.exists() else []
            last = f": {lines[-1]}" if lines else ""
            return "", f"its process ended with {self.process.exitcode}{last}; the same command tries it again"


SCARCE = (
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "CUSOLVER_STATUS_ALLOC_FAILED",
)
"""How torch and the libraries say that the GPU had no memory left."""

DEFAULTS = {"TORCHINDUCTOR_COMPILE_THREADS": "1", "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
"""Of processes that share a GPU: none that compile beside them, no memory lost between batches of other lengths."""


@contextmanager
def _environment(index: int) -> Iterator[None]:
    """What the process that is started inside the block finds: one of the GPUs, in turn, and no progress bars."""
    new = {"TQDM_DISABLE": "1"}
    if (count := torch.cuda.device_count()) > 0:
        devices = os.environ.get("CUDA_VISIBLE_DEVICES")
        visible = devices.split(",") if devices else [str(i) for i in range(count)]
        new |= {"CUDA_VISIBLE_DEVICES": visible[index % count]}
        new |= {name: os.environ.get(name, value) for name, value in DEFAULTS.items()}
    before = {name: os.environ.get(name) for name in new}
    os.environ.update(new)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _several(todo: list[Run], force: bool, workers: int, progress: Progress, ended: Any) -> None:
    """Each process gets a run when it has none, one study after another; signals end all, each with a checkpoint.

    At first every process gets a form of its own as far as there are some, and then keeps to it: compiling costs more
    than a short run, and graphs that one process left on the disk are cheaper for the next one.

    A process that dies, of a signal or in a library, is replaced; its run leaves what it had written. A run that found
    no memory on the GPU, which others use too, is tried once more at the end.
    """
    together, again = max(1, torch.cuda.device_count()), set[str]()
    studies = itertools.groupby(todo, key=lambda run: run.study)
    waiting = [run for _, runs in studies for part in rounds(list(runs)) for run in interleaved(part, together)]
    with tempfile.TemporaryDirectory() as logs, Interruption():
        running: dict[Any, _Worker] = {}

        def give(worker: _Worker) -> None:
            run = waiting.pop(next_for(worker.forms, waiting))
            running[worker.connection] = worker
            progress.started(run)
            worker.give(run, force)

        try:
            for index in range(min(workers, len(waiting))):
                give(_Worker(index, Path(logs)))
            while running:
                for ready in connection.wait(list(running)):
                    worker = running.pop(ready)
                    run = worker.run
                    assert run is not None
                    ended(run, *worker.answer())
                    record = run.record
                    error = record.error if record is not None else ""
                    if any(text in error for text in SCARCE) and run.plan.key not in again:
                        again.add(run.plan.key)
                        waiting.append(run)
                    if "CUDA error" in error or not waiting:  # after such an error a process is of no further use
                        worker.process.terminate()
                        worker.process.join()
                    if waiting:
                        give(worker if worker.process.is_alive() else _Worker(worker.index, Path(logs)))
        finally:
            for worker in running.values():
                worker.process.terminate()
            for worker in running.values():
                worker.process.join()


def next_for(forms: Container[str], waiting: Sequence[Run]) -> int:
    """Index of the first run of the study in turn that has one of the forms, else of the first run."""
    same = (i for i, run in enumerate(waiting) if run.study == waiting[0].study and run.plan.form in forms)
    return next(same, 0)


def rounds(todo: Sequence[Run]) -> list[list[Run]]:
    """The first run of every form, the second of every form, and so on."""
    seen, runs_by_round = Counter[str](), list[list[Run]]()
    for run in todo:
        if seen[run.plan.form] == len(runs_by_round):
            runs_by_round.append([])
        runs_by_round[seen[run.plan.form]].append(run)
        seen[run.plan.form] += 1
    return runs_by_round


def interleaved(todo: Sequence[Run], together: int = 1) -> list[Run]:
    """The longest runs and the shortest in turn, `together` of each: what runs at the same time has other needs."""
    waiting = sorted(todo, key=lambda run: -estimate.estimated(run))
    order: list[Run] = []
    while waiting:
        order += waiting[:together]
        waiting = waiting[together:]
        order += waiting[-together:]
        waiting = waiting[:-together]
    return order
