"""Checkpoints of a run: written whole or not at all, checked by SHA-256, refused when they are of another run.

A checkpoint is two files: `step-00000060.pt` holds the state (torch.save of tensors, numbers, strings, lists and
dicts), and `step-00000060.json` its size, its SHA-256 and the key of the run (`records.run_key`). The second file is
written last, each through a partial file that is synced and renamed, so that a process killed at any moment leaves
either the new checkpoint or the one before it.
"""

import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import torch
from filelock import FileLock, Timeout

from experiments.errors import UserError
from records import RecordError, require_writable

KEPT = 2
"""Checkpoints of a run that stay: the newest, and the one before it in case the newest is damaged later."""


class CheckpointError(UserError):
    """A checkpoint that cannot be used or written; the message names the file."""


@dataclass(frozen=True)
class Seal:
    """What the second file says of the first.

    Attributes:
        key: of the run.
        step: optimizer steps done.
        bytes: size of the first file.
        sha256: of the first file.
    """

    key: str
    step: int
    bytes: int
    sha256: str


class _Hashing(io.RawIOBase):
    """A file to write that counts and hashes what passes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._sum = hashlib.sha256()
        self.bytes = 0

    def write(self, data: Any) -> int:
        self._sum.update(data)
        self.bytes += len(data)
        return self._file.write(data)

    @property
    def sha256(self) -> str:
        return self._sum.hexdigest()


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one run.

    Attributes:
        folder: of this run alone.
        key: of the run.
    """

    folder: Path
    key: str

    @property
    def lock(self) -> Path:
        """The file that whoever works on the run holds; beside the folder, which ends with the run."""
        return self.folder.with_name(f"{self.folder.name}.lock")  # a name may have dots: with_suffix would cut it

    def save(self, step: int, state: Mapping[str, Any]) -> Path:
        """Write the state after `step` optimizer steps and remove all but the newest `KEPT`.

        Returns:
            Path of the new checkpoint.

        Raises:
            CheckpointError: when it cannot be written; the older checkpoints are untouched then.
        """
        path = self.folder / f"step-{step:08d}.pt"
        partial = path.with_suffix(".partial")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                hashing = _Hashing(file)
                torch.save(dict(state), hashing)  # pyright: ignore[reportArgumentType]
                _sync(file)
            # A sealed file of the same step (a run that starts again) must not carry the seal of another content.
            path.with_suffix(".json").unlink(missing_ok=True)
            partial.replace(path)
            seal = Seal(self.key, step, hashing.bytes, hashing.sha256)
            with partial.open("w", encoding="utf-8") as file:
                json.dump(asdict(seal), file)
                _sync(file)
            partial.replace(path.with_suffix(".json"))
        except (OSError, RuntimeError) as error:  # torch's writer turns what the file raises into a RuntimeError
            reason = error.__context__ if isinstance(error.__context__, OSError) else error
            if self.folder.is_dir():  # where a file has the folder's place, unlink would raise as well
                partial.unlink(missing_ok=True)
            raise CheckpointError(
                f"the checkpoint {path} cannot be written ({reason}); free space or choose another folder with "
                f"checkpoint.folder=... ; {self._last_good()}"
            ) from error
        for old in self.steps()[:-KEPT]:
            self._remove(old)
        return path

    def load(self) -> tuple[int, dict[str, Any], list[str]] | None:
        """The newest checkpoint that is whole.

        Returns:
            Steps done, state, and one line for each newer checkpoint that is refused; None when there is no checkpoint
            at all.

        Raises:
            CheckpointError: when there are some and none can be used.
        """
        refused: list[str] = []
        for step in reversed(self.steps()):
            try:
                return step, self.read(step), refused
            except CheckpointError as error:
                refused.append(str(error))
        if refused:
            raise CheckpointError(
                "; ".join(refused) + f"; no checkpoint in {self.folder} can be used: remove it to start again"
            )
        return None

    def read(self, step: int) -> dict[str, Any]:
        """The state after `step` steps.

        Raises:
            CheckpointError: when it is damaged, foreign or missing.
        """
        path = self.folder / f"step-{step:08d}.pt"
        seal = self._seal(path)
        if seal.key != self.key:
            raise CheckpointError(
                f"the checkpoint {path} is refused: it belongs to another configuration, code, model or data "
                f"(key {seal.key[:12]}, this run has {self.key[:12]})"
            )
        try:
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise CheckpointError(f"the checkpoint {path} is refused: {error.strerror}") from error
        if sha256 != seal.sha256:
            size = path.stat().st_size
            what = f"{size} of {seal.bytes} bytes" if size != seal.bytes else "other bytes of the same number"
            raise CheckpointError(f"the checkpoint {path} is refused: it is damaged (SHA-256 differs, {what})")
        return torch.load(path, map_location="cpu", weights_only=True)

    def steps(self) -> list[int]:
        """Steps of the sealed checkpoints, ascending."""
        names = (re.fullmatch(r"step-(\d{8,})\.json", path.name) for path in self.folder.glob("step-*.json"))
        return sorted(int(name[1]) for name in names if name)  # others are a sync program's copies, for example

    def remove(self) -> None:
        """Remove all of them: the run is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _seal(self, path: Path) -> Seal:
        try:
            return Seal(**json.loads(path.with_suffix(".json").read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise CheckpointError(f"the checkpoint {path} is refused: its .json cannot be read ({error})") from error

    def _remove(self, step: int) -> None:
        path = self.folder / f"step-{step:08d}.pt"
        path.with_suffix(".json").unlink(missing_ok=True)  # first the seal: what has none does not count
        path.unlink(missing_ok=True)

    def _last_good(self) -> str:
        for step in reversed(self.steps()):
            try:
                self.read(step)
            except CheckpointError:
                continue
            return f"the last good one is {self.folder / f'step-{step:08d}.pt'}"
        return "there is none before it"


class BusyError(Exception):
    """Another process works on this run."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path` (made if missing).

    The system frees a lock when its process ends, however it ends.

    Raises:
        BusyError: when another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise BusyError(path) from None
    try:
        yield
    finally:
        lock.release()


def require_room(folder: Path, needed: int, option: str = "checkpoint.folder") -> None:
    """Raise CheckpointError unless files can be written to `folder` (made if missing) and `needed` bytes are free.

    Args:
        folder: where files will go.
        needed: bytes.
        option: the option that names the folder, for messages.
    """
    try:
        require_writable(folder, option)
    except RecordError as error:
        raise CheckpointError(str(error)) from error
    if (free := shutil.disk_usage(folder).free) < needed:
        raise CheckpointError(
            f"{folder} has {free / 1e9:.2f} GB free, and the checkpoints of this run need {needed / 1e9:.2f} GB; "
            f"free space or choose another folder with {option}=..."
        )


def _sync(file: IO[Any]) -> None:
    file.flush()
    os.fsync(file.fileno())
