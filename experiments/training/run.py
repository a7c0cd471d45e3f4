"""One run, from a plan to a record. No line here knows a method's name."""

import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch
from tqdm import tqdm

from experiments.configuration import build, device_name, folder
from experiments.data import Batch, Dataset, batches
from experiments.data.bucketing import groups, padding_waste
from experiments.errors import UserError
from experiments.methods import Trainable
from experiments.randomness import DATA_ORDER, DROPOUT, seeded, stream_seed
from experiments.training import spectrum
from experiments.training.capacity import out_of_memory
from experiments.training.checkpoint import KEPT, Checkpoints, require_room
from experiments.training.export import export
from experiments.training.interruption import Interrupted, Interruption
from experiments.training.loading import Loading
from experiments.training.loop import Training, any_length, columns
from experiments.training.planning import Plan, checkpoints
from records import ROOT, Record, digest, write
from records.provenance import provenance


def execute(planned: Plan, study: str, *, restart: bool = False, loading: Loading | None = None) -> Record:
    """Train, evaluate before and after, and write the record, also when the run fails.

    It goes on from the newest whole checkpoint of this very run, unless `restart`. A failing run raises nothing: its
    record has status "failed" and the error's message. Raises Interrupted after SIGTERM or Ctrl-C, with a checkpoint
    and a record of status "interrupted" written; UserError, before anything is computed, when method and model do not
    fit, when a folder cannot be written to or lacks room, and when no checkpoint can be used.

    loading: keeps models and data between the runs of a process.
    """
    expected = planned.expected
    kept, every = checkpoints(planned, study), planned.config.checkpoint.every
    require_room(folder(planned.config) / study, 0, "records_dir")
    if planned.config.export is not None:
        require_room(ROOT / planned.config.export, 0, "export")
    if every is not None:
        require_room(
            kept.folder, (KEPT + 1) * (expected.weights + expected.state) if every <= planned.config.steps else 0
        )
    if restart:
        kept.remove()
    found = kept.load()
    origin = provenance(device_name(planned.device.type))
    running = Running(planned, kept, {"predicted_bytes": asdict(expected)}, origin, loading or Loading())
    error, stopped = "", None
    with Interruption() as interruption, seeded(stream_seed(planned.config.seed, DROPOUT)), any_length():
        try:
            running.measure(found, interruption)
        except Interrupted as signal:
            stopped = signal
            running.save()
        except torch.OutOfMemoryError as failure:
            error = out_of_memory(planned, failure)
        except Exception as failure:  # whatever stops a run is its result; the other runs of a study go on
            error = f"{type(failure).__name__}: {failure}"
        record = Record(
            kind="train",
            study=study,
            name=planned.name,
            key=planned.key,
            status="interrupted" if stopped else "failed" if error else "finished",
            config=planned.identity,
            measurements=running.measured(),
            provenance=running.provenance,
            error=error,
        )
        try:
            write(record, folder(planned.config))
        except OSError as failure:
            running.save()
            raise UserError(
                f"the record {folder(planned.config) / study / planned.name}.json cannot be written "
                f"({failure.strerror}); the run's state is kept in {kept.folder}, and the same command goes on from it"
            ) from failure
    if stopped:
        raise stopped
    if not error:
        kept.remove()
    return record


class Running:
    """A run under way: what was measured so far, and the state that a checkpoint holds."""

    def __init__(
        self,
        planned: Plan,
        kept: Checkpoints,
        measurements: dict[str, Any],
        origin: dict[str, Any],
        loading: Loading | None = None,
    ) -> None:
        self.planned, self.kept = planned, kept
        self.measurements, self.provenance = measurements, origin
        self._loading = loading or Loading()
        self._training: Training | None = None
        self._begin, self._before = time.perf_counter(), 0.0
        self._tokens: list[int] = []  # of the first n batches
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
            state |= {"training": self._training.state_dict(), "seconds": self.seconds(), "peak": self._peak}
            self.kept.save(self._training.steps, state)

    def measure(self, found: tuple[int, dict[str, Any], list[str]] | None, interruption: Interruption) -> None:
        """Evaluate, train from where `found` was saved, evaluate again."""
        config, into = self.planned.config, self.measurements
        model, tokenizer = self._loading.model(self.planned)
        dataset = self._loading.data(self.planned, tokenizer)
        into["data"] = dataset.about | self._padding(dataset)
        measure, execution = build(config.evaluation), self.planned.execution()

        def evaluate(trainable: Trainable, examples: Any, label: str) -> dict[str, Any]:
            with trainable.evaluating(), execution.autocasting(self.planned.device):
                return measure(trainable.model, tokenizer, examples, label)

        if found is None:
            into["curve"] = []

            def before() -> dict[str, Any]:
                with execution.autocasting(self.planned.device):
                    return measure(model, tokenizer, dataset.heldout, "evaluate before")

            into["before"] = _once(self.planned.untrained_key, before)
        training = start(self.planned, model, tokenizer, dataset, self._rollback)
        trainable = training.trainable
        into["trained_parameters"] = sum(part.numel for visit in trainable.visits for part in visit)
        if found is not None:
            self._resume(training, *found)
        self._training = training
        self._train(training, interruption, lambda: evaluate(trainable, dataset.heldout, "evaluate"))
        into["measured_bytes"] = asdict(training.peak)
        into["peak_allocated"] = self._peak or None
        into["rollbacks"] = training.rollbacks
        into["method"] = trainable.report()
        after = evaluate(trainable, dataset.heldout, "evaluate after")
        if not math.isfinite(loss := after["heldout_loss"]):
            raise FloatingPointError(f"the held-out loss after training is {loss}; try a smaller method.lr")
        into["after"] = after
        if config.get("evaluate_every"):
            # A run that was interrupted after this has both ends already.
            between = [point for point in into["curve"] if 0 < point["step"] < training.steps]
            into["curve"] = [self._point(0, into["before"]), *between, self._point(training.steps, after)]
        if self.planned.data.test:
            self.save()  # a test set that cannot be read must not cost the training
            test = self.planned.data.load_test(tokenizer)
            self.provenance["test_rows"] = digest([[example.prompt, example.answer] for example in test])
            into["test"] = evaluate(trainable, test, "evaluate on the test set")
        if config.export is not None:
            with trainable.evaluating():
                place = ROOT / config.export / self.kept.folder.parent.name / self.planned.name
                into["export"] = export(trainable, tokenizer, place)
        if config.get("spectrum"):
            untrained, _ = self._loading.model(self.planned)
            into["spectrum"] = spectrum.of_change(untrained, trainable)

    def _rollback(self) -> dict[str, Any]:
        return (self.kept.load() or (0, {}, []))[1]["training"]

    def _point(self, step: int, found: dict[str, Any]) -> dict[str, Any]:
        return {"step": step, "tokens": self._tokens[step], "heldout_loss": found["heldout_loss"]}

    def _padding(self, dataset: Dataset) -> dict[str, Any]:
        """Tokens of all steps of the run, and the share of what is computed that is padding; told and recorded."""
        config, lengths = self.planned.config, [example.length for example in dataset.train]
        seed, bucket = stream_seed(config.seed, DATA_ORDER), self.planned.data.bucket
        drawn = list(itertools.islice(groups(lengths, config.batch_size, seed, bucket=bucket), config.steps))
        tokens, waste = padding_waste(lengths, drawn, config.accumulation)
        self._tokens = list(itertools.accumulate((sum(lengths[i] for i in batch) for batch in drawn), initial=0))
        counted = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in dataset.about.items())
        tqdm.write(
            f"{self.planned.name}: {counted or 'data'}; {tokens} tokens in {config.steps} steps, {waste:.1%} padding "
            f"besides (data.bucket={bucket})",
            file=sys.stderr,
        )
        return {"tokens": tokens, "padding_waste": waste}

    def _resume(self, training: Training, step: int, state: dict[str, Any], refused: list[str]) -> None:
        for line in refused:
            tqdm.write(line, file=sys.stderr)
        tqdm.write(f"{self.planned.name}: goes on after step {step}, from {self.kept.folder}", file=sys.stderr)
        training.load_state_dict(state["training"])
        self.measurements["before"], self.measurements["curve"] = state["before"], state["curve"]
        self._before, self._peak = state["seconds"], state["peak"]
        self.provenance["resumed_after_step"] = step

    def _train(self, training: Training, interruption: Interruption, evaluate: Callable[[], dict[str, Any]]) -> None:
        config, every = self.planned.config, self.planned.config.checkpoint.every
        if config.nonfinite == "rollback" and not training.steps:
            self.save()
        bar = tqdm(
            total=config.steps, initial=training.steps, desc=f"train {self.planned.name}", unit="step", leave=False
        )
        with training.prepared(), bar, self._peak_noted():
            while training.steps < config.steps:
                if self._due(training.steps):
                    with self._peak_left_out():
                        point = self._point(training.steps, evaluate())
                    # After a rollback the points that lie ahead are measured again.
                    former = [each for each in self.measurements["curve"] if each["step"] < training.steps]
                    self.measurements["curve"] = [*former, point]
                with interruption.postponed():
                    training.step()
                bar.update(training.steps - bar.n)
                if every is not None and training.steps % every == 0 and training.steps < config.steps:
                    with interruption.postponed():
                        self.save()

    def _due(self, step: int) -> bool:
        every = self.planned.config.get("evaluate_every")
        last = max((point["step"] for point in self.measurements["curve"]), default=0)
        return bool(every) and step > 0 and step % every == 0 and step != last

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


def start(
    planned: Plan,
    model: Any,
    tokenizer: Any,
    dataset: Dataset,
    rollback: Callable[[], dict[str, Any]] | None = None,
) -> Training:
    """The training of the plan before its first step, on a loaded model, which it makes trainable."""
    config = planned.config
    trainable = planned.method()(model)

    def stream(start: int) -> Iterator[Batch]:
        seed, bucket = stream_seed(config.seed, DATA_ORDER), planned.data.bucket
        drawn = batches(dataset.train, config.batch_size, tokenizer.pad_token_id, seed, start, bucket)
        return (batch.to(planned.device) for batch in drawn)

    return Training(
        trainable,
        build(config.schedule)(trainable.optimizer),
        stream,
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
