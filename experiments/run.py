"""One run, from a resolved configuration to a record. No line here knows a method's name."""

import hashlib
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from tqdm import tqdm

from bcd.execution import Execution
from experiments import spectrum
from experiments.capacity import out_of_memory
from experiments.checkpoint import KEPT, Checkpoints, require_room
from experiments.data import Batch, Dataset, DataSource, batches
from experiments.data.bucketing import groups, padding_waste
from experiments.data.splits import require_seed
from experiments.errors import UserError
from experiments.export import export
from experiments.interruption import Interrupted, Interruption
from experiments.methods import Method, Trainable
from experiments.training import PLAIN, Training, require_nonfinite
from experiments.tuned import RATE_OF
from records import ROOT, Record, digest, find, load, run_key, write
from records.provenance import provenance, source_hash

if TYPE_CHECKING:  # importing transformers takes seconds, and wrong values should be told at once
    from experiments.models import ModelSource

AXES = ("partition", "order", "rule")
# How to run, not what: no part of a run's identity.
CONTROLS = (
    *("study", "dry", "force", "retry", "workers", "worker", "only"),
    *("records_dir", "checkpoint", "export"),
)
GRID = "learning_rates"  # what a tuning study tries; each run has the one that it tries
UNTRAINED = ("model", "data", "evaluation", "dtype", "device")  # what the evaluation before training depends on
DATA_ORDER = "data order"  # the random stream of the batches
DTYPES = ("float32", "float64", "bfloat16")


def build(config: Any) -> Any:
    """hydra.utils.instantiate, with the cause of a failed constructor as the error."""
    try:
        return instantiate(config, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, ValueError):
            raise error.__cause__ from None
        given = OmegaConf.to_container(config)
        raise UserError(f"{config.get('_target_')} cannot be made from {given}: {error.__cause__ or error}") from None


def execution(config: DictConfig) -> Execution:
    """How steps are computed; records from before this axis have the plain way."""
    return build(config.execution) if config.get("execution") else PLAIN


@dataclass(frozen=True)
class Plan:
    """A run whose configuration is possible.

    name: readable, unique for the configuration.      key: identity, see `records.run_key`.
    untrained_key: identity of the evaluation before training, the same for all methods.
    """

    config: DictConfig
    name: str
    key: str
    untrained_key: str
    device: torch.device
    model: "ModelSource"
    data: DataSource

    @property
    def identity(self) -> dict[str, Any]:
        """The resolved configuration without the keys that only say how to run it."""
        return _identity(self.config)

    def method(self) -> Method:
        """A new method object: it makes one model trainable."""
        return build(self.config.method)

    def execution(self) -> Execution:
        """How a step is computed."""
        return execution(self.config)

    @cached_property
    def skeleton(self) -> Trainable:
        """The method on the model's names and shapes, before any weight is loaded.

        Raises ValueError when method, model and schedule do not fit, for example when a partition finds no layers.
        """
        trainable = self.method()(self.model.skeleton(getattr(torch, self.config.dtype)))
        try:
            build(self.config.schedule)(trainable.optimizer)
        except TypeError as error:
            given = OmegaConf.to_container(self.config.schedule)
            raise UserError(f"schedule={given} is not possible: {error}") from None
        if self.config.get("accumulation", 1) > 1 and trainable.backward is not Tensor.backward:
            raise UserError(
                f"accumulation={self.config.accumulation} is not possible: this method moves the weights inside "
                "backward; give 1"
            )
        self.execution()(trainable.model, trainable.optimizer, check=False)()
        return trainable


def _identity(config: DictConfig) -> dict[str, Any]:
    resolved = OmegaConf.to_container(config, resolve=True)
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items() if key not in (*CONTROLS, GRID, RATE_OF)}


def plan(config: DictConfig, choices: Mapping[str, str], name: str = "") -> Plan:
    """Check the configuration and find the identity of the run; `Plan.skeleton` checks method against model.

    choices: config group -> chosen name, for names and messages.      name: of the run, derived when empty.
    Raises UserError or ValueError with one message that names the value.
    """
    config = config.copy()
    OmegaConf.update(config, "choices", dict(choices), force_add=True)
    _check_axes(config, choices)
    for key, least in (("steps", 1), ("batch_size", 1), ("accumulation", 1), ("seed", 0)):
        if key in config and (not isinstance(config[key], int) or config[key] < least):
            raise UserError(f"{key}={config[key]} is not possible: it must be a whole number of at least {least}")
    if config.batch_size % config.get("accumulation", 1):
        raise UserError(f"accumulation={config.accumulation} does not divide batch_size={config.batch_size}")
    if "checkpoint" in config:
        every = config.checkpoint.every
        if every is not None and (isinstance(every, bool) or not isinstance(every, int) or every < 1):
            raise UserError(f"checkpoint.every={every} is not possible: give a number of steps of at least 1, or null")
        require_nonfinite(config.nonfinite, every)
    norm = config.max_grad_norm
    if norm is not None and not (isinstance(norm, int | float) and norm > 0):
        raise UserError(f"max_grad_norm={norm} is not possible: give a positive number or null")
    if config.dtype not in DTYPES:
        raise UserError(f"dtype={config.dtype!r} is not one of {', '.join(DTYPES)}")
    device = device_of(config.device)
    config.device = device.type
    for part in ("method", "evaluation"):  # made again when they are needed; this is the check of their values
        if part in config:
            build(config[part])
    if execution(config).step_in_backward:
        _check_step_in_backward(config)
    model, data = build(config.model), build(config.data)
    require_seed(config.seed, test=data.test)
    if config.batch_size > data.train_size:
        raise UserError(f"batch_size={config.batch_size} exceeds data.train_size={data.train_size}")
    inputs = {
        "code": source_hash(("bcd", "experiments")),
        "data": data.fingerprint(),
        "model": model.fingerprint(),
    }
    identity = _identity(config)
    readable = "-".join(
        [choices["method"].rpartition("/")[2], choices["model"], choices["data"], f"seed{config.seed}"]
    )
    return Plan(
        config=config,
        name=name or f"{readable}-{digest(identity)[:8]}",
        key=run_key(identity, inputs),
        untrained_key=run_key({key: identity[key] for key in UNTRAINED if key in identity}, inputs),
        device=device,
        model=model,
        data=data,
    )


def _check_step_in_backward(config: DictConfig) -> None:
    if config.max_grad_norm is not None:
        norm = config.max_grad_norm
        raise UserError(f"max_grad_norm={norm} is not possible with execution.step_in_backward=true; give null")
    if config.get("accumulation", 1) > 1:
        raise UserError(
            f"accumulation={config.accumulation} is not possible with execution.step_in_backward=true, which uses "
            "gradients up in every backward pass; give 1"
        )
    if config.get("nonfinite", "stop") != "stop":
        raise UserError(
            f"nonfinite={config.nonfinite!r} is not possible with execution.step_in_backward=true, which moves the "
            "weights before the loss is looked at; give stop"
        )


def _check_axes(config: DictConfig, choices: Mapping[str, str]) -> None:
    for axis in AXES:
        if axis in config and axis not in config.method:
            raise UserError(f"method={choices['method']} has no axis {axis!r}; drop {axis}={choices.get(axis, '...')}")
    if "outside_layers" in config and "partition" not in config.method:
        raise UserError(f"method={choices['method']} has no partition, so outside_layers means nothing; drop it")


def device_of(name: str) -> torch.device:
    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"device={name!r} is not one of auto, cpu, cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda, but torch sees no CUDA device; use device=cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def stream_seed(seed: int, stream: str) -> int:
    """A seed of its own for each named random stream of a run, so that streams never share numbers."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{stream}".encode()).digest()[:4])


def folder(config: DictConfig) -> Path:
    """Where records go; a relative `records_dir` is below the repository's root."""
    return ROOT / config.records_dir


def finished(planned: Plan, study: str) -> Record | None:
    """The record of this very run, when there is one."""
    return find(study, planned.name, planned.key, folder(planned.config))


def recorded(planned: Plan, study: str) -> Record | None:
    """The record of this very run, finished or not, when there is one."""
    path = folder(planned.config) / study / f"{planned.name}.json"
    record = load(path) if path.exists() else None
    return record if record is not None and record.key == planned.key else None


def checkpoints(planned: Plan, study: str) -> Checkpoints:
    """Where the run keeps its state; runs of another configuration, code, model or data have another folder."""
    place = ROOT / planned.config.checkpoint.folder / study / f"{planned.name}-{planned.key[:12]}"
    return Checkpoints(place, planned.key)


def execute(planned: Plan, study: str, *, restart: bool = False) -> Record:
    """Train, evaluate before and after, and write the record, also when the run fails.

    It goes on from the newest whole checkpoint of this very run, unless `restart`. A failing run raises nothing: its
    record has status "failed" and the error's message. Raises Interrupted after SIGTERM or Ctrl-C, with a checkpoint
    and a record of status "interrupted" written; UserError, before anything is computed, when method and model do not
    fit, when a folder cannot be written to or lacks room, and when no checkpoint can be used.
    """
    expected = planned.skeleton.predicted()
    kept, every = checkpoints(planned, study), planned.config.checkpoint.every
    require_room(folder(planned.config) / study, 0)
    if every is not None:
        require_room(
            kept.folder, (KEPT + 1) * (expected.weights + expected.state) if every <= planned.config.steps else 0
        )
    if restart:
        kept.remove()
    found = kept.load()
    name = torch.cuda.get_device_name() if planned.device.type == "cuda" else "cpu"
    running = Running(planned, kept, {"predicted_bytes": asdict(expected)}, provenance(name))
    error, stopped = "", None
    with Interruption() as interruption, torch.random.fork_rng():
        # Dropout draws from the global generator; everything else has a generator of its own.
        torch.manual_seed(stream_seed(planned.config.seed, "dropout"))
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
            measurements=running.measurements | {"seconds": running.seconds()},
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

    def __init__(self, planned: Plan, kept: Checkpoints, measurements: dict[str, Any], origin: dict[str, Any]) -> None:
        self.planned, self.kept = planned, kept
        self.measurements, self.provenance = measurements, origin
        self._training: Training | None = None
        self._begin, self._before = time.perf_counter(), 0.0

    def seconds(self) -> float:
        """Seconds of the run, those before an interruption included."""
        return self._before + time.perf_counter() - self._begin

    def save(self) -> None:
        """Write a checkpoint of the state between two steps; nothing before the first step needs one."""
        if self._training is not None:
            state = {"training": self._training.state_dict(), "before": self.measurements["before"]}
            self.kept.save(self._training.steps, state | {"seconds": self.seconds()})

    def measure(self, found: tuple[int, dict[str, Any], list[str]] | None, interruption: Interruption) -> None:
        """Evaluate, train from where `found` was saved, evaluate again."""
        config, into = self.planned.config, self.measurements
        model, tokenizer = self.planned.model.load(getattr(torch, config.dtype))
        dataset = self.planned.data.load(tokenizer)
        into["data"] = dataset.about | self._padding(dataset)
        model.to(self.planned.device)  # pyright: ignore[reportArgumentType]
        evaluate = build(config.evaluation)
        if found is None:
            label = "evaluate before"
            into["before"] = _once(
                self.planned.untrained_key, lambda: evaluate(model, tokenizer, dataset.heldout, label)
            )
        trainable = self.planned.method()(model)
        into["trained_parameters"] = sum(part.numel for visit in trainable.visits for part in visit)

        def stream(start: int) -> Iterator[Batch]:
            seed = stream_seed(config.seed, DATA_ORDER)
            bucket = self.planned.data.bucket
            drawn = batches(dataset.train, config.batch_size, tokenizer.pad_token_id, seed, start, bucket)
            return (batch.to(self.planned.device) for batch in drawn)

        training = Training(
            trainable,
            build(config.schedule)(trainable.optimizer),
            stream,
            accumulation=config.accumulation,
            max_grad_norm=config.max_grad_norm,
            nonfinite=config.nonfinite,
            execution=self.planned.execution(),
            rollback=lambda: (self.kept.load() or (0, {}, []))[1]["training"],
        )
        if found is not None:
            self._resume(training, *found)
        self._training = training
        into["steps"] = training.metrics
        self._train(training, interruption)
        into["steps"] = training.metrics
        into["measured_bytes"] = asdict(training.peak)
        into["rollbacks"] = training.rollbacks
        into["method"] = trainable.report()
        with trainable.evaluating():
            after = evaluate(trainable.model, tokenizer, dataset.heldout, "evaluate after")
            if not math.isfinite(loss := after["heldout_loss"]):
                raise FloatingPointError(f"the held-out loss after training is {loss}; try a smaller method.lr")
            into["after"] = after
        if self.planned.data.test:
            self.save()  # a test set that cannot be read must not cost the training
            test = self.planned.data.load_test(tokenizer)
            self.provenance["test_rows"] = digest([[example.prompt, example.answer] for example in test])
            with trainable.evaluating():
                into["test"] = evaluate(trainable.model, tokenizer, test, "evaluate on the test set")
        if config.export is not None:
            with trainable.evaluating():
                place = ROOT / config.export / self.kept.folder.parent.name / self.planned.name
                into["export"] = export(trainable, tokenizer, place)
        if config.get("spectrum"):
            untrained, _ = self.planned.model.load(getattr(torch, config.dtype))
            into["spectrum"] = spectrum.of_change(untrained, trainable)

    def _padding(self, dataset: Dataset) -> dict[str, Any]:
        """Tokens of all steps of the run, and the share of what is computed that is padding; told and recorded."""
        config, lengths = self.planned.config, [example.length for example in dataset.train]
        seed, bucket = stream_seed(config.seed, DATA_ORDER), self.planned.data.bucket
        drawn = itertools.islice(groups(lengths, config.batch_size, seed, bucket=bucket), config.steps)
        tokens, waste = padding_waste(lengths, drawn, config.accumulation)
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
        self.measurements["before"], self._before = state["before"], state["seconds"]
        self.provenance["resumed_after_step"] = step

    def _train(self, training: Training, interruption: Interruption) -> None:
        config, every = self.planned.config, self.planned.config.checkpoint.every
        if config.nonfinite == "rollback" and not training.steps:
            self.save()
        name = f"train {self.planned.name}"
        with (
            training.prepared(),
            tqdm(total=config.steps, initial=training.steps, desc=name, unit="step", leave=False) as bar,
        ):
            while training.steps < config.steps:
                with interruption.postponed():
                    training.step()
                bar.update(training.steps - bar.n)
                self.measurements["steps"] = training.metrics
                if every is not None and training.steps % every == 0 and training.steps < config.steps:
                    with interruption.postponed():
                        self.save()


_evaluations: dict[str, dict[str, Any]] = {}


def _once(key: str, evaluate: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The untrained model scores the same for every method of a study, so one process evaluates it once."""
    if key not in _evaluations:
        _evaluations[key] = evaluate()
    return _evaluations[key]
