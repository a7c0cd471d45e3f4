"""A plan as a run of a study: the one place that knows its record, its state and its checkpoints."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from experiments import configuration
from experiments.training.checkpoint import BusyError, Checkpoints, locked
from experiments.training.planning import Plan
from records import Record, load, write


class Run:
    """A plan in a study.

    Runs that are equal in study and name write the same record.

    Args:
        plan: what is run.
        study: name of the study; "single" for a run of no study.
        cell: the run's value of every axis of its study.
    """

    def __init__(self, plan: Plan, study: str = "single", cell: Mapping[str, Any] | None = None) -> None:
        self.plan, self.study = plan, study
        self.cell: Mapping[str, Any] = cell or {}
        self._read: tuple[tuple[int, int], Record] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without the record that was read: another process reads it anew."""
        return vars(self) | {"_read": None}

    @property
    def name(self) -> str:
        """Name of the plan and of the record, unique in the study."""
        return self.plan.name

    @property
    def place(self) -> tuple[str, str]:
        """Study and name: what no two runs share."""
        return self.study, self.name

    @property
    def records_dir(self) -> Path:
        """The folder of all studies that the record goes to."""
        return configuration.folder(self.plan.config)

    @property
    def path(self) -> Path:
        """The record's file, whether or not it is there."""
        return self.records_dir / self.study / f"{self.name}.json"

    @property
    def record(self) -> Record | None:
        """The record of this very run (configuration, code, model and data), finished or not, when there is one.

        A file of another run under this name is none. A file that did not change is read once.
        """
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return None
        stamp = (status.st_mtime_ns, status.st_size)
        if self._read is None or self._read[0] != stamp:
            self._read = stamp, load(self.path)
        record = self._read[1]
        return record if record.key == self.plan.key else None

    @property
    def state(self) -> str:
        """Status of the record; "to do" when there is none."""
        return "to do" if self.record is None else self.record.status

    @property
    def finished(self) -> Record | None:
        """The record, when the run is finished."""
        return self.record if self.state == "finished" else None

    @property
    def checkpoints(self) -> Checkpoints:
        """Where the run keeps its state; runs of another configuration, code, model or data have another folder."""
        folder = configuration.output_path(self.plan.config.how.checkpoint.folder) / self.study
        return Checkpoints(folder / f"{self.name}-{self.plan.key[:12]}", self.plan.key)

    @property
    def export(self) -> Path | None:
        """Folder that gets the trained model, None where the configuration asks for none."""
        folder = self.plan.config.how.export
        return None if folder is None else configuration.output_path(folder) / self.study / self.name

    def write(self, record: Record) -> Path:
        """Write the record as that of this run."""
        return write(record, self.records_dir)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else works on the run inside the block.

        Raises:
            BusyError: when another process does.
        """
        with locked(self.checkpoints.lock):
            yield

    @property
    def busy(self) -> bool:
        """Whether another process works on the run at this moment."""
        try:
            with self.locked():
                return False
        except BusyError:
            return True
