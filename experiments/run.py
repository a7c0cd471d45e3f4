"""One run, from a resolved configuration to a record. No line here knows a method's name."""

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from bcd.memory import Bytes, measured, predicted
from experiments.data import DataSource, batches
from experiments.errors import UserError
from experiments.evaluate import answer_loss
from experiments.methods import Trainable
from records import ROOT, Record, digest, find, run_key, write
from records.provenance import provenance, source_hash

if TYPE_CHECKING:  # importing transformers takes seconds, and wrong values should be told at once
    from experiments.models import ModelSource

AXES = ("partition", "order", "rule")
CONTROLS = ("study", "dry", "force", "records_dir")  # how to run, not what: no part of a run's identity
UNTRAINED = ("model", "data", "evaluation", "dtype", "device")  # what the evaluation before training depends on
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

    @cached_property
    def skeleton(self) -> Trainable:
        """The method on the model's names and shapes, before any weight is loaded.

        Raises ValueError when method, model and schedule do not fit, for example when a partition finds no layers.
        """
        trainable = build(self.config.method)(self.model.skeleton(getattr(torch, self.config.dtype)))
        try:
            build(self.config.schedule)(trainable.optimizer)
        except TypeError as error:
            given = OmegaConf.to_container(self.config.schedule)
            raise UserError(f"schedule={given} is not possible: {error}") from None
        return trainable


def _identity(config: DictConfig) -> dict[str, Any]:
    resolved = OmegaConf.to_container(config, resolve=True)
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items() if key not in CONTROLS}


def plan(config: DictConfig, choices: Mapping[str, str], name: str = "") -> Plan:
    """Check the configuration and find the identity of the run; `Plan.skeleton` checks method against model.

    choices: config group -> chosen name, for names and messages.      name: of the run, derived when empty.
    Raises UserError or ValueError with one message that names the value.
    """
    config = config.copy()
    OmegaConf.update(config, "choices", dict(choices), force_add=True)
    _check_axes(config, choices)
    for key, least in (("steps", 1), ("batch_size", 1), ("seed", 0)):
        if not isinstance(config[key], int) or config[key] < least:
            raise UserError(f"{key}={config[key]} is not possible: it must be a whole number of at least {least}")
    norm = config.max_grad_norm
    if norm is not None and not (isinstance(norm, int | float) and norm > 0):
        raise UserError(f"max_grad_norm={norm} is not possible: give a positive number or null")
    if config.dtype not in DTYPES:
        raise UserError(f"dtype={config.dtype!r} is not one of {', '.join(DTYPES)}")
    device = _device(config.device)
    config.device = device.type
    for part in ("method", "evaluation"):  # made again when they are needed; this is the check of their values
        if part in config:
            build(config[part])
    model, data = build(config.model), build(config.data)
    if config.batch_size > data.train_size:
        raise UserError(f"batch_size={config.batch_size} exceeds data.train_size={data.train_size}")
    inputs = {
        "code": source_hash(("bcd", "experiments")),
        "data": data.fingerprint(),
        "model": model.fingerprint(),
    }
    identity = _identity(config)
    readable = "-".join([choices["method"], choices["model"], choices["data"], f"seed{config.seed}"])
    return Plan(
        config=config,
        name=name or f"{readable}-{digest(identity)[:8]}",
        key=run_key(identity, inputs),
        untrained_key=run_key({key: identity[key] for key in UNTRAINED if key in identity}, inputs),
        device=device,
        model=model,
        data=data,
    )


def _check_axes(config: DictConfig, choices: Mapping[str, str]) -> None:
    for axis in AXES:
        if axis in config and axis not in config.method:
            raise UserError(f"method={choices['method']} has no axis {axis!r}; drop {axis}={choices.get(axis, '...')}")
    if "outside_layers" in config and "partition" not in config.method:
        raise UserError(f"method={choices['method']} has no partition, so outside_layers means nothing; drop it")


def _device(name: str) -> torch.device:
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


def execute(planned: Plan, study: str) -> Record:
    """Train, evaluate before and after, and write the record, also when the run fails.

    A failing run raises nothing: its record has status "failed" and the error's message.
    Raises ValueError, before anything is written, when the method does not fit the model.
    """
    shapes = planned.skeleton
    expected = predicted(
        shapes.model.parameters(), shapes.visits, shapes.state_tensors, counts_steps=shapes.counts_steps
    )
    name = torch.cuda.get_device_name() if planned.device.type == "cuda" else "cpu"
    origin = provenance(name)
    measurements: dict[str, Any] = {"predicted_bytes": asdict(expected)}
    error = ""
    begin = time.perf_counter()
    try:
        # Dropout draws from the global generator; everything else has a generator of its own.
        with torch.random.fork_rng():
            torch.manual_seed(stream_seed(planned.config.seed, "dropout"))
            _measure(planned, measurements)
    except Exception as failure:  # whatever stops a run is its result; the other runs of a study go on
        error = f"{type(failure).__name__}: {failure}"
    measurements["seconds"] = time.perf_counter() - begin
    record = Record(
        kind="train",
        study=study,
        name=planned.name,
        key=planned.key,
        status="failed" if error else "finished",
        config=planned.identity,
        measurements=measurements,
        provenance=origin,
        error=error,
    )
    write(record, folder(planned.config))
    return record


def _measure(planned: Plan, into: dict[str, Any]) -> None:
    config = planned.config
    model, tokenizer = planned.model.load(getattr(torch, config.dtype))
    dataset = planned.data.load(tokenizer)
    model.to(planned.device)  # pyright: ignore[reportArgumentType]
    evaluate = build(config.evaluation)
    into["before"] = _once(
        planned.untrained_key, lambda: evaluate(model, tokenizer, dataset.heldout, "evaluate before")
    )
    trainable: Trainable = build(config.method)(model)
    into["trained_parameters"] = sum(part.numel for visit in trainable.visits for part in visit)
    stream = batches(dataset.train, config.batch_size, tokenizer.pad_token_id, stream_seed(config.seed, "data order"))
    schedule = build(config.schedule)(trainable.optimizer)
    into["steps"] = []
    with tqdm(total=config.steps, desc=f"train {planned.name}", unit="step", leave=False) as bar:
        peak = train(
            trainable,
            lambda: next(stream).to(planned.device),
            schedule,
            steps=config.steps,
            max_grad_norm=config.max_grad_norm,
            log=lambda metrics: (into["steps"].append(metrics), bar.update()),
        )
    into["measured_bytes"] = asdict(peak)
    into["method"] = trainable.report()
    after = evaluate(trainable.model, tokenizer, dataset.heldout, "evaluate after")
    if not math.isfinite(loss := after["heldout_loss"]):
        raise FloatingPointError(f"the held-out loss after training is {loss}; try a smaller method.lr")
    into["after"] = after


_evaluations: dict[str, dict[str, Any]] = {}


def _once(key: str, evaluate: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The untrained model scores the same for every method of a study, so one process evaluates it once."""
    if key not in _evaluations:
        _evaluations[key] = evaluate()
    return _evaluations[key]


def train(
    trainable: Trainable,
    next_batch: Callable[[], Any],
    schedule: Any,
    *,
    steps: int,
    max_grad_norm: float | None,
    log: Callable[[dict[str, Any]], Any],
) -> Bytes:
    """The training loop of every method: loss, backward, clip, step. Returns the peak of the measured bytes.

    log: receives after each step the loss before it, the gradient norm before clipping, the learning rate used
        and the seconds taken.
    Raises FloatingPointError, before the weights are touched, when the loss or the gradient norm is not finite.
    """
    model, optimizer = trainable.model, trainable.optimizer
    parameters = list(model.parameters())
    peak = Bytes(0, 0, 0)
    for step in range(steps):
        begin = time.perf_counter()
        loss = answer_loss(model, next_batch())
        loss.backward()
        held = measured(parameters, optimizer)
        norm = torch.nn.utils.clip_grad_norm_(parameters, math.inf if max_grad_norm is None else max_grad_norm)
        lr = optimizer.param_groups[0]["lr"]
        for name, number in (("loss", loss.item()), ("gradient norm", norm.item())):
            if not math.isfinite(number):
                raise FloatingPointError(
                    f"the {name} is {number} at step {step}; try a smaller method.lr (now {lr:.3g})"
                )
        optimizer.step()
        # State is made by the step; at a switch it is already gone again, hence the peak of both moments.
        peak = peak.peak(held).peak(measured(parameters, optimizer))
        schedule.step()
        optimizer.zero_grad()
        log({"loss": loss.item(), "grad_norm": norm.item(), "lr": lr, "seconds": time.perf_counter() - begin})
    return peak
