"""Who watches a run: a line on the terminal, a file that grows, and one of the known trackers.

None of them waits for the device: the loop has the loss and the norm of a step on the host in any case. The modules
that compute a run do not import this one, so that what is shown is no part of a run's key.
"""

import importlib
import importlib.util
import json
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from bcd.checks import require_choice
from experiments.errors import UserError, first_line
from experiments.training.observer import Observer, Step
from experiments.training.run import Run
from records import LIVE, ROOT, Record

TRACKERS = {"tensorboard": "tensorboard", "trackio": "trackio", "wandb": "wandb"}
"""track= -> the package on PyPI that it needs, which is imported under the same name."""
WINDOW = 20
"""Steps over which a rate is taken."""
REFRESH = 0.5
"""Seconds between two texts on the terminal."""


def require_track(track: str | None) -> None:
    """Check track= before any work.

    Raises:
        ValueError: for an unknown one.
        UserError: when its package is not installed.
    """
    if track is None:
        return
    require_choice("track", track, tuple(TRACKERS))
    if importlib.util.find_spec(TRACKERS[track]) is None:
        raise UserError(f"track={track} needs the package {TRACKERS[track]}: pip install {TRACKERS[track]}")


def live_file(run: Run) -> Path:
    """The file that grows while the run lives, beside its record."""
    return run.path.with_suffix(LIVE)


def watching(run: Run) -> Observer:
    """Everybody who watches a run: the terminal, its live file, and the tracker that the configuration names.

    Args:
        run: that is to be executed.
    """
    track = run.plan.config.how.get("track")
    observers: list[Observer] = [Terminal(run.name, run.plan.device), Lines(live_file(run))]
    if track == "tensorboard":
        observers.append(TensorBoard(run.path.with_suffix(".tensorboard")))
    elif track is not None:
        observers.append(Tracker(track, run))
    return Observers(observers)


class Observers(Observer):
    """Several observers as one; one that fails is told of in a line and hears no more, and the run goes on."""

    def __init__(self, observers: list[Observer]) -> None:
        self._observers = observers

    def start(self, steps: int, done: int, seen: Mapping[str, int]) -> None:
        self._tell(lambda each: each.start(steps, done, seen))

    def step(self, step: Step) -> None:
        self._tell(lambda each: each.step(step))

    def evaluated(self, done: int, metrics: Mapping[str, Any]) -> None:
        self._tell(lambda each: each.evaluated(done, metrics))

    def end(self, record: Record) -> None:
        self._tell(lambda each: each.end(record))

    def _tell(self, what: Callable[[Observer], None]) -> None:
        for each in list(self._observers):
            try:
                what(each)
            except Exception as failure:  # a disk that is full or a service that is away must not end a run
                self._observers.remove(each)
                reason = f"{type(failure).__name__}: {first_line(failure)}"
                tqdm.write(f"{type(each).__name__} watches no more ({reason}); the run goes on", file=sys.stderr)


class Rate:
    """Things a second over the last `WINDOW` steps, evaluations and loading left out."""

    def __init__(self) -> None:
        self.name, self._last = "", 0
        self._counts: deque[tuple[int, float]] = deque(maxlen=WINDOW)

    def start(self, seen: Mapping[str, int]) -> None:
        self.name, self._last = next(iter(seen.items()), ("", 0))

    def step(self, step: Step) -> None:
        count = step.seen.get(self.name, 0)
        if count > self._last:  # not after a rollback
            self._counts.append((count - self._last, step.metrics["seconds"]))
        self._last = count

    @property
    def value(self) -> float:
        """0 where nothing was counted."""
        seconds = sum(second for _, second in self._counts)
        return sum(count for count, _ in self._counts) / seconds if seconds else 0.0


class Terminal(Observer):
    """One line: how far, the time left, loss, rate, memory of the GPU and the active block.

    The memory is the largest number of bytes allocated since the last evaluation.

    Args:
        name: of the run.
        device: that it trains on.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        self._name, self._device, self._rate = name, device, Rate()
        self._bar: Any = None
        self._heldout, self._next = "", 0.0

    def start(self, steps: int, done: int, seen: Mapping[str, int]) -> None:
        self._bar = tqdm(total=steps, initial=done, desc=f"train {self._name}", unit="step", leave=False)
        self._rate.start(seen)

    def step(self, step: Step) -> None:
        self._rate.step(step)
        now = time.perf_counter()
        shown = not self._bar.disable and (now >= self._next or step.number == self._bar.total)
        if shown:
            self._next = now + REFRESH
            self._bar.set_postfix_str(self.text(step), refresh=False)
        self._bar.update(step.number - self._bar.n)
        if shown:
            self._bar.refresh()

    def text(self, step: Step) -> str:
        """What the line says of a step."""
        loss = step.metrics["loss"]
        parts = ["loss skipped" if loss is None else f"loss {loss:.4g}"]
        parts += [self._heldout] if self._heldout else []
        if value := self._rate.value:
            parts.append(
                f"{value / 1000:.1f}k {self._rate.name}/s" if value >= 1e4 else f"{value:.0f} {self._rate.name}/s"
            )
        if self._device.type == "cuda":
            parts.append(f"{torch.cuda.max_memory_allocated() / 1e9:.2f} GB")
        if step.active:
            parts.append(
                step.active[0] if len(step.active) == 1 else f"{step.active[0]} and {len(step.active) - 1} more"
            )
        return ", ".join(parts)

    def evaluated(self, done: int, metrics: Mapping[str, Any]) -> None:
        self._heldout = f"held-out {metrics['heldout_loss']:.4g}"

    def end(self, record: Record) -> None:
        if self._bar is not None:
            self._bar.close()


class Lines(Observer):
    """A file with a line of JSON for each event, which grows while the run lives.

    A run that starts anew begins a new file. One that goes on writes behind what is there: of two lines of one step
    the later one counts. Nothing reads the file but who watches; it may be removed at any time.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._file = path, None

    def start(self, steps: int, done: int, seen: Mapping[str, int]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("a" if done else "w", encoding="utf-8", buffering=1)
        self._write({"event": "start", "step": done, "steps": steps, "time": time.time()})

    def step(self, step: Step) -> None:
        line = {"event": "step", "step": step.number, **step.metrics, **step.seen, "time": time.time()}
        self._write(line | ({"active": step.active} if step.active else {}))

    def evaluated(self, done: int, metrics: Mapping[str, Any]) -> None:
        self._write({"event": "evaluation", "step": done, **metrics, "time": time.time()})

    def end(self, record: Record) -> None:
        self._write({"event": "end", "status": record.status, "error": record.error, "time": time.time()})
        if self._file is not None:
            self._file.close()

    def _write(self, line: dict[str, Any]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(line) + "\n")


class Scalars(Observer):
    """Numbers by name for a tracker, which a subclass sends."""

    def __init__(self) -> None:
        self._rate = Rate()

    def start(self, steps: int, done: int, seen: Mapping[str, int]) -> None:
        self._rate.start(seen)

    def step(self, step: Step) -> None:
        self._rate.step(step)
        values = {f"train/{name}": value for name, value in {**step.metrics, **step.seen}.items()}
        self._send(step.number, values | {f"train/{self._rate.name or 'items'}_per_second": self._rate.value})

    def evaluated(self, done: int, metrics: Mapping[str, Any]) -> None:
        self._send(done, {f"heldout/{name.removeprefix('heldout_')}": value for name, value in metrics.items()})

    def _send(self, done: int, values: Mapping[str, Any]) -> None:
        numbers = {name: float(value) for name, value in values.items() if isinstance(value, int | float)}
        self.send(done, numbers)

    def send(self, done: int, values: Mapping[str, float]) -> None:
        """Give the tracker the numbers that hold after `done` steps."""
        raise NotImplementedError


class TensorBoard(Scalars):
    """Event files: `tensorboard --logdir` on any folder above shows them.

    Args:
        folder: of the files.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder, self._writer = folder, None

    def start(self, steps: int, done: int, seen: Mapping[str, int]) -> None:
        super().start(steps, done, seen)
        writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter
        # What a former start wrote of later steps is hidden.
        self._writer = writer(str(self._folder), purge_step=done + 1 if done else None)

    def send(self, done: int, values: Mapping[str, float]) -> None:
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, done)

    def end(self, record: Record) -> None:
        if self._writer is not None:
            self._writer.close()


class Tracker(Scalars):
    """trackio or wandb, which have the same functions: the study is the project, the run keeps its name.

    Where they write and which account they use is set by their own environment variables and files.

    Args:
        package: name of the package.
        run: that is watched.
    """

    def __init__(self, package: str, run: Run) -> None:
        super().__init__()
        self._package, self._run, self._open = package, run, None

    def start(self, steps: int, done: int, seen: Mapping[str, int]) -> None:
        super().start(steps, done, seen)
        named: dict[str, Any] = {"project": self._run.study, "name": self._run.name, "config": self._run.plan.identity}
        if self._package == "wandb":  # the same run goes on under its key; trackio knows it by its name
            named |= {"id": self._run.plan.key[:32], "dir": str(ROOT / "outputs")}
        resume = "allow" if done or self._package == "wandb" else "never"
        self._open = importlib.import_module(self._package).init(**named, resume=resume)

    def send(self, done: int, values: Mapping[str, float]) -> None:
        if self._open is not None:
            self._open.log(dict(values), step=done)

    def end(self, record: Record) -> None:
        if self._open is not None:
            self._open.finish()
