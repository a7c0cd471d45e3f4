"""A run under way, from a plan to a record. No line here knows a method's name."""

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch
from tqdm import tqdm

from experiments.configuration import build, device_name
from experiments.errors import UserError
from experiments.interruption import Interrupted, Interruption
from experiments.methods import Trainable
from experiments.randomness import DROPOUT, seeded, stream_seed
from experiments.training import spectrum
from experiments.training.capacity import out_of_memory
from experiments.training.checkpoint import KEPT, require_room
from experiments.training.course import Course
from experiments.training.export import export
from experiments.training.loading import Loading
from experiments.training.loop import Training, any_length, columns
from experiments.training.observer import Observer, Step
from experiments.training.planning import Plan
from experiments.training.run import Run
from experiments.workloads import Task
from records import Record
from records.provenance import provenance


def execute(
    run: Run, *, restart: bool = False, loading: Loading | None = None, observer: Observer | None = None
) -> Record:
    """Train, evaluate before and after, and write the record, also when the run fails.

    It goes on from the newest whole checkpoint of this very run, unless `restart`. A failing run raises nothing: its
    record has status "failed" and the error's message.

    Args:
        run: what is executed.
        restart: remove the checkpoints and start anew.
        loading: keeps models and data between the runs of a process.
        observer: is told of the run while it lives.

    Raises:
        Interrupted: after SIGTERM or Ctrl-C, with a checkpoint and a record of status "interrupted" written.
        ValueError: before anything is computed, when method and model do not fit.
        UserError: before anything is computed, when a folder cannot be written to or lacks room, and when no
            checkpoint can be used; at the end, when the record cannot be written.
    """
    planned, checkpoints = run.plan, run.checkpoints
    expected, every = planned.expected, planned.config.how.checkpoint.every
    require_room(run.path.parent, 0, "records_dir")
    if run.export is not None:
        require_room(run.export.parent, 0, "export")
    if every is not None:
        held = 1 if planned.stop_early is None else 2  # the state, and the best one
        require_room(
            checkpoints.folder,
            held * (KEPT + 1) * (expected.weights + expected.state) if every <= planned.config.steps else 0,
        )
    if restart:
        checkpoints.remove()
    saved = checkpoints.load()
    origin = provenance(device_name(planned.device.type))
    running = Running(run, {"predicted_bytes": asdict(expected)}, origin, loading or Loading(), observer)
    error, stopped = "", None
    with Interruption() as interruption, seeded(stream_seed(planned.config.seed, DROPOUT)), any_length():
        try:
            running.measure(saved, interruption)
        except Interrupted as signal:
            stopped = signal
            running.save()
        except torch.OutOfMemoryError as failure:
            error = out_of_memory(planned, failure)
        except Exception as failure:  # whatever stops a run is its result; the other runs of a study go on
            error = f"{type(failure).__name__}: {failure}"
        record = Record(
            kind="train",
            study=run.study,
            name=run.name,
            key=planned.key,
            status="interrupted" if stopped else "failed" if error else "finished",
            config=planned.identity,
            measurements=running.measured(),
            provenance=running.provenance,
            error=error,
        )
        running.observer.end(record)
        try:
            run.write(record)
        except OSError as failure:
            running.save()
            raise UserError(
                f"the record {run.path} cannot be written "
                f"({failure.strerror}); the run's state is kept in {checkpoints.folder}, and the same command goes on "
                "from it"
            ) from failure
    if stopped:
        raise stopped
    if not error:
        checkpoints.remove()
    return record


class Running:
    """A run under way: what was measured so far, and the state that a checkpoint holds.

    Args:
        run: that is under way.
        measurements: of its record so far.
        origin: provenance of its record.
        loading: see `execute`.
        observer: see `execute`.
    """

    def __init__(
        self,
        run: Run,
        measurements: dict[str, Any],
        origin: dict[str, Any],
        loading: Loading | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.run, self.planned, self.checkpoints = run, run.plan, run.checkpoints
        self.measurements, self.provenance = measurements, origin
        self._loading = loading or Loading()
        self.observer = observer or Observer()
        self._training: Training | None = None
        self._begin, self._before = time.perf_counter(), 0.0
        self._peak, self._counts = 0, True  # bytes; whether what is allocated now counts

    def seconds(self) -> float:
        """Seconds of the run, those before an interruption included."""
        return self._before + time.perf_counter() - self._begin

    def measured(self) -> dict[str, Any]:
        """The measurements in the form of a record."""
        steps = {} if self._training is None else {"steps": columns(self._training.metrics)}
        return self.measurements | steps | {"seconds": self.seconds()}

    def save(self) -> None:
        """Write a checkpoint of the state between two steps; nothing before the first step needs one."""
        if self._training is not None:
            state = {name: self.measurements[name] for name in ("before", "curve")}
            if (best := self._course.best) is not None:
                state["best"] = best
            state |= {"training": self._training.state_dict(), "seconds": self.seconds(), "peak": self._peak}
            self.checkpoints.save(self._training.steps, state)

    def measure(self, saved: tuple[int, dict[str, Any], list[str]] | None, interruption: Interruption) -> None:
        """Evaluate, train, evaluate again.

        Args:
            saved: what `Checkpoints.load` found, to go on from; None: start anew.
            interruption: signals, which wait for the end of a step.
        """
        planned, into = self.planned, self.measurements
        model, processor = self._loading.model(planned)
        task = planned.workload.task(processor, self._loading.data(planned, processor), planned.setting)
        task.require_model(model)
        task.announce(planned.name)
        into["data"] = task.about
        execution = planned.execution()

        def evaluate(trainable: Trainable, label: str) -> dict[str, Any]:
            with trainable.evaluating(), execution.autocasting(planned.device):
                metrics = task.evaluate(trainable.model, label)
            self.observer.evaluated(training.steps, metrics)
            return metrics

        if saved is None:
            into["curve"] = []

            def before() -> dict[str, Any]:
                with execution.autocasting(planned.device):
                    return task.evaluate(model, "evaluate before")

            into["before"] = _once(planned.untrained_key, before)
            if not math.isfinite(loss := into["before"]["heldout_loss"]):
                raise FloatingPointError(
                    f"the held-out loss before training is {loss}: the weights or the data are broken"
                    + ("" if planned.config.dtype == "float32" else f", or dtype={planned.config.dtype} is too narrow")
                )
        training = start(planned, model, task, self._rollback)
        trainable = training.trainable
        into["trained_parameters"] = sum(part.numel for visit in trainable.visits for part in visit)
        self._course = Course(planned, task, into, lambda: evaluate(trainable, "evaluate"))
        if saved is not None:
            self._resume(training, *saved)
        self._training = training
        self.observer.start(planned.config.steps, training.steps, task.seen(training.steps))
        if saved is None:
            self.observer.evaluated(0, into["before"])
        self._train(training, task, interruption, self._course)
        self._course.restore(training)
        into["measured_bytes"] = asdict(training.peak)
        into["peak_allocated"] = self._peak or None
        into["rollbacks"] = training.rollbacks
        into["method"] = trainable.report()
        after = evaluate(trainable, "evaluate after")
        if not math.isfinite(loss := after["heldout_loss"]):
            raise FloatingPointError(f"the held-out loss after training is {loss}; try a smaller method.lr")
        into["after"] = after
        self._course.end(training, after)
        if planned.workload.data.test:
            self.save()  # a test set that cannot be read must not cost the training
            with trainable.evaluating(), execution.autocasting(planned.device):
                into["test"], self.provenance["test_rows"] = task.test(trainable.model, "evaluate on the test set")
        if self.run.export is not None:
            with trainable.evaluating():
                into["export"] = export(task, trainable, self.run.export)
        if planned.config.get("spectrum"):
            untrained, _ = self._loading.model(planned)
            into["spectrum"] = spectrum.of_change(untrained, trainable)

    def _rollback(self) -> dict[str, Any]:
        return (self.checkpoints.load() or (0, {}, []))[1]["training"]

    def _resume(self, training: Training, step: int, state: dict[str, Any], refused: list[str]) -> None:
        for line in refused:
            tqdm.write(line, file=sys.stderr)
        tqdm.write(f"{self.planned.name}: goes on after step {step}, from {self.checkpoints.folder}", file=sys.stderr)
        training.load_state_dict(state["training"])
        self.measurements["before"], self.measurements["curve"] = state["before"], state["curve"]
        self._course.best = state.get("best")
        self._before, self._peak = state["seconds"], state["peak"]
        self.provenance["resumed_after_step"] = step

    def _train(self, training: Training, task: Task, interruption: Interruption, course: Course) -> None:
        config, every = self.planned.config, self.planned.config.how.checkpoint.every
        if config.nonfinite == "rollback" and not training.steps:
            self.save()
        with training.prepared(), self._peak_noted():
            while training.steps < config.steps:
                if course.due(training.steps):
                    with self._peak_left_out():
                        course.evaluate(training)
                if course.over(training):
                    break
                active = tuple(training.trainable.active())
                with interruption.postponed():
                    training.step()
                    if training.metrics:  # a rollback may lead to the beginning
                        done = training.steps
                        self.observer.step(Step(done, training.metrics[-1], task.seen(done), active))
                if every is not None and training.steps % every == 0 and training.steps < config.steps:
                    with interruption.postponed():
                        self.save()

    @contextmanager
    def _peak_noted(self) -> Iterator[None]:
        """The largest number of bytes allocated inside the block is a peak of the run."""
        self._note_peak()
        try:
            yield
        finally:
            self._note_peak(count=self._counts)

    @contextmanager
    def _peak_left_out(self) -> Iterator[None]:
        """What is allocated inside the block is not: evaluating needs other memory than training."""
        self._note_peak(count=True)
        self._counts = False
        yield
        self._note_peak()
        self._counts = True

    def _note_peak(self, *, count: bool = False) -> None:
        if self.planned.device.type == "cuda":
            self._peak = max(self._peak, torch.cuda.max_memory_allocated() if count else 0)
            torch.cuda.reset_peak_memory_stats()


def start(planned: Plan, model: Any, task: Task, rollback: Callable[[], dict[str, Any]] | None = None) -> Training:
    """The training of a plan before its first step.

    Args:
        planned: what is trained.
        model: loaded; it is made trainable.
        task: the workload, loaded.
        rollback: see `Training`.
    """
    config = planned.config
    trainable = planned.method()(model)
    return Training(
        trainable,
        build(config.schedule)(trainable.optimizer),
        task.batches,
        task.loss,
        accumulation=config.accumulation,
        max_grad_norm=config.max_grad_norm,
        nonfinite=config.nonfinite,
        execution=planned.execution(),
        rollback=rollback,
    )


_evaluations: dict[str, dict[str, Any]] = {}


def _once(key: str, evaluate: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The untrained model scores the same for every method of a study, so one process evaluates it once."""
    if key not in _evaluations:
        _evaluations[key] = evaluate()
    return _evaluations[key]
