"""Planning: from a configuration to a run that is possible, with its identity, before any weight is loaded."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from bcd.checks import require_choice, require_positive, require_whole
from bcd.execution import Execution
from bcd.memory import Bytes
from experiments import hub, sources
from experiments.configuration import DTYPES, build, device_of, without
from experiments.data.assumed import assumed
from experiments.data.splits import require_seed
from experiments.errors import UserError
from experiments.methods import Method, Trainable
from experiments.training.loop import PLAIN, require_nonfinite
from experiments.workloads import Workload
from experiments.workloads.interface import Setting
from records import digest, run_key

AXES = ("partition", "order", "rule")
NO_IDENTITY = ("study", "studies", "how")  # which runs, and how they are made, not what a run is
RATE_OF = "rate_of"  # of a method that takes the learning rate of another
GRID = "learning_rates"  # what a tuning study tries; each run has the one that it tries
# What the evaluation before training depends on.
UNTRAINED = ("workload", "model", "data", "evaluation", "dtype", "device")
FINETUNING = {"_target_": "experiments.workloads.finetuning.Finetuning"}  # of records from before this axis
STOP_EARLY = "experiments.training.course.StopEarly"
TARGET = "experiments.workloads.target.Target"
LOOP = "experiments.training.running"  # the module whose imports compute a run
ABSENT = "absent"  # the fingerprint of what is not there
STEPS = 60
"""Steps of a run for which neither steps nor epochs are given."""
PLACES = ("data.source.local",)  # where inputs are, not what: their fingerprints are in the key


class Shared:
    """What plans that are made together have in common, made once: sources, fingerprints, skeletons, arithmetic.

    Files are taken to stay as they are meanwhile.
    """

    def __init__(self) -> None:
        self._made: dict[tuple[str, Any], Any] = {}

    def once(self, kind: str, key: Any, make: Callable[[], Any]) -> Any:
        """What `make` returned the first time for this kind and key."""
        if (kind, key) not in self._made:
            self._made[kind, key] = make()
        return self._made[kind, key]


def execution(config: DictConfig) -> Execution:
    """How steps are computed; records from before this axis, and commands without it, have the plain way.

    Without the axis a method may still name an option of it, which changes nothing of what is computed.
    """
    return build(config.execution) if "_target_" in (config.get("execution") or {}) else PLAIN


@dataclass(frozen=True)
class Plan:
    """A run whose configuration is possible.

    A pickled plan leaves `shared` and `skeleton` behind and makes its workload anew.

    Attributes:
        config: resolved, with the choices and the device that is there.
        name: readable, unique for the configuration.
        key: identity, see `records.run_key`.
        untrained_key: identity of the evaluation before training, the same for all methods.
        device: where it trains.
        workload: what it trains.
        model_key: identity of the model that is loaded.
        data_key: identity of the data that are loaded.
        absent: why model or data are not there, for a plan that is only listed; its key is that of no run.
        shared: what was made once, shared with the plans made together with this one.
    """

    config: DictConfig
    name: str
    key: str
    untrained_key: str
    device: torch.device
    workload: Workload
    model_key: str
    data_key: str
    absent: tuple[str, ...] = ()
    shared: Shared = field(default_factory=Shared, compare=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("shared", "skeleton", "workload")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        config = state["config"]
        workload = _workload(config, build(config.model), build(config.data))
        vars(self).update(state | {"shared": Shared(), "workload": workload})

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

    @property
    def stop_early(self) -> Any:
        """When the run ends because its held-out loss falls no more, see `experiments.training.course.StopEarly`."""
        asked = self.config.get("stop_early")
        return None if asked is None else build({"_target_": STOP_EARLY, **asked})

    @property
    def setting(self) -> Setting:
        """How the run draws its batches."""
        config = self.config
        return Setting(config.seed, config.batch_size, config.accumulation, config.steps, self.device)

    @cached_property
    def form(self) -> str:
        """Identity of the skeleton: runs that differ in seeds and learning rates have the same."""
        identity = self.identity
        parts = [identity.get(name) for name in ("method", "schedule", "execution", "accumulation", "dtype")]
        return digest([self.model_key, without(parts, ("seed", "lr"))])

    @cached_property
    def expected(self) -> Bytes:
        """Predicted peak bytes of weights, gradients and optimizer state."""
        return self.shared.once("bytes", self.form, lambda: self.skeleton.predicted())

    @property
    def tokens_per_step(self) -> int:
        """Roughly, for estimates of time."""
        tokens = self.shared.once("tokens", self.data_key, lambda: self.workload.data.tokens_per_example)
        return self.config.batch_size * tokens

    @cached_property
    def skeleton(self) -> Trainable:
        """The method on the model's names and shapes, before any weight is loaded; only to look at.

        Raises:
            ValueError: when method, model and schedule do not fit, for example when a partition finds no layers.
        """
        return self.shared.once("skeleton", self.form, self._skeleton)

    def _skeleton(self) -> Trainable:
        trainable = self.method()(self.workload.model.skeleton(getattr(torch, self.config.dtype)))
        try:
            build(self.config.schedule)(trainable.optimizer)
        except TypeError as error:
            schedule = OmegaConf.to_container(self.config.schedule)
            raise UserError(f"schedule={schedule} is not possible: {error}") from None
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
    for place in PLACES:
        *parents, last = place.split(".")
        inner: Any = resolved
        for parent in parents:
            inner = inner.get(parent) if isinstance(inner, dict) else None
        if isinstance(inner, dict):
            inner.pop(last, None)
    return {str(key): value for key, value in resolved.items() if key not in (*NO_IDENTITY, GRID, RATE_OF)}


def plan(
    config: DictConfig,
    choices: Mapping[str, str],
    name: str = "",
    shared: Shared | None = None,
    *,
    dry: bool = False,
) -> Plan:
    """Check the configuration and find the identity of the run; `Plan.skeleton` checks method against model.

    Args:
        config: of one run.
        choices: config group -> chosen name, for names and messages.
        name: of the run, derived when empty.
        shared: for plans that are made together.
        dry: for a list of runs: a model that is not there is taken to be as its architecture says, data as
            `how.assumed` says, and no model is downloaded.

    Raises:
        ValueError: with one message that names the value; a UserError where the cause is more than the value.
    """
    config, shared = config.copy(), shared or Shared()
    OmegaConf.update(config, "choices", dict(choices), force_add=True)
    _check_axes(config, choices)
    for key, least in (("batch_size", 1), ("accumulation", 1), ("seed", 0)):
        if key in config:
            require_whole(key, config[key], least=least)
    _check_length(config)
    if config.batch_size % config.get("accumulation", 1):
        raise UserError(f"accumulation={config.accumulation} does not divide batch_size={config.batch_size}")
    if "checkpoint" in config.how:
        every = config.how.checkpoint.every
        require_whole("checkpoint.every", every, least=1, or_none=True)
        require_nonfinite(config.nonfinite, every)
    between = config.get("evaluate_every")
    require_whole("evaluate_every", between, least=1, or_none=True)
    require_positive("max_grad_norm", config.max_grad_norm, or_none=True)
    require_choice("dtype", config.dtype, DTYPES)
    device = device_of(config.device)
    config.device = device.type
    build(config.method)  # made again when it is needed; this is the check of its values
    if execution(config).step_in_backward:
        _check_step_in_backward(config)
    _check_row_gradients(config)
    if dry:
        with hub.cached_only():
            model, model_print, no_model = _source(config.model, shared, dry=True)
    else:
        model, model_print, no_model = _source(config.model, shared)
    data, data_print, no_data = _source(config.data, shared, dry=dry)
    if no_data:
        data, data_print = _assumed(config, no_data), f"{ABSENT} {_facts(config)}"
    workload = _workload(config, model, data)
    if workload.target is not None and between is None:
        raise UserError(f"the target {workload.target} is looked for every evaluate_every=STEPS; give it")
    if config.get("stop_early") is not None:
        _check_stop_early(config)
    require_seed(config.seed, test=data.test)
    size = shared.once("size", data_print, lambda: data.train_size)
    if config.batch_size > size:
        raise UserError(f"batch_size={config.batch_size} exceeds data.train_size={size}")
    _set_length(config, size // config.batch_size)
    identity = _identity(config)
    modules = (LOOP, *sources.targets(identity))
    code = shared.once("code", modules, lambda: sources.code_hash(modules))
    inputs = {"code": code, "data": data_print, "model": model_print}
    readable = "-".join(
        [choices["method"].rpartition("/")[2], choices["model"], choices["data"], f"seed{config.seed}"]
    )
    untrained = {key: identity[key] for key in UNTRAINED if key in identity} | {"autocast": execution(config).autocast}
    return Plan(
        config=config,
        name=name or f"{readable}-{digest(identity)[:8]}",
        key=run_key(identity, inputs),
        untrained_key=run_key(untrained, inputs),
        device=device,
        workload=workload,
        model_key=digest([identity["model"], model_print]),
        data_key=digest([identity["data"], data_print]),
        absent=tuple(
            f"{what} are not here, {why}: {instead}"
            for what, why, instead in (
                ("the model's weights", no_model, "sizes are those of model.architecture"),
                ("the data", no_data, "assumed are {rows} rows, {tokens} tokens in the mean".format(**_facts(config))),
            )
            if why
        ),
        shared=shared,
    )


def _check_length(config: DictConfig) -> None:
    """Raise ValueError unless steps and epochs, where they are given, can be those of a run."""
    if config.get("epochs") is not None:
        require_positive("epochs", config.epochs)
    if "steps" in config:
        require_whole("steps", config.steps, least=1, or_none="epochs" in config)


def _set_length(config: DictConfig, batches: int) -> None:
    """Write both steps and epochs into the configuration, of which one is given, or none.

        steps = epochs x batches, to the nearest whole number, at least 1

    Args:
        config: of one run.
        batches: of an epoch, in which every example is drawn once, but for those that do not fill a batch.

    Raises:
        UserError: when both are given and do not agree; those of a record agree.
    """
    if "epochs" not in config:
        return
    if config.epochs is None:
        config.steps = STEPS if config.steps is None else config.steps
        config.epochs = config.steps / batches
        return
    steps = max(1, round(config.epochs * batches))
    if config.steps not in (None, steps):
        raise UserError(
            f"epochs={config.epochs} are {steps} steps, and steps={config.steps} is given too; drop one of them "
            "(steps=null, where a preset or a study gives it)"
        )
    config.steps = steps


def _workload(config: DictConfig, model: Any, data: Any) -> Workload:
    parts: dict[str, Any] = {"model": model, "data": data}
    # A configuration that trains without evaluating (experiments.curvature) has no evaluation.
    parts["evaluation"] = build(config.evaluation) if "evaluation" in config else None
    if config.get("target") is not None:
        parts["target"] = build({"_target_": TARGET, **config.target})
    # Called here, because hydra would take objects for configurations.
    workload = build({**(config.get("workload") or FINETUNING), "_partial_": True})(**parts)
    workload.require(config)
    return workload


def _source(config: DictConfig, shared: Shared, *, dry: bool = False) -> tuple[Any, str, str]:
    """The model or data source of the configuration, its fingerprint, and, where dry, why it is not there or ""."""

    def make() -> tuple[Any, str, str]:
        source = build(config)
        try:
            return source, source.fingerprint(), ""
        except UserError as error:
            if not dry:
                raise
            return source, ABSENT, str(error).partition(" (")[0]  # what, not how to get it

    return shared.once("source", digest([OmegaConf.to_container(config, resolve=True), dry]), make)


def _assumed(config: DictConfig, why: str) -> Any:
    """The data as `how.assumed` says they are.

    Raises:
        UserError: when it does not say so.
    """
    facts = _facts(config)
    if missing := [f"assumed.{key}=..." for key, value in facts.items() if value is None]:
        raise UserError(f"{why}; dry=true can do without them where {' and '.join(missing)} says how many there are")
    return assumed(config.data, **facts)


def _facts(config: DictConfig) -> dict[str, Any]:
    """Rows, and tokens of the mean row, of data that are not there; None for what is not said."""
    return {key: OmegaConf.select(config, f"how.assumed.{key}") for key in ("rows", "tokens")}


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


def _check_stop_early(config: DictConfig) -> None:
    asked = config.stop_early
    if not isinstance(asked, DictConfig):
        raise UserError(f"stop_early={asked} is not possible: give {{patience: 3}}, in quotes for the shell, or null")
    build({"_target_": STOP_EARLY, **asked})
    if config.get("evaluate_every") is None:
        raise UserError(f"stop_early={asked} looks at the loss every evaluate_every=STEPS; give it")
    if config.get("target") is not None:
        raise UserError("stop_early and target are two ends of a run; give one of them")
    if config.get("nonfinite") == "rollback":
        raise UserError(
            "nonfinite=rollback is not possible with stop_early, which looks at a curve; give stop or skip"
        )


def _check_row_gradients(config: DictConfig) -> None:
    if execution(config).row_gradients == "sliced" and config.method.get("clip") != "active":
        raise UserError(
            "execution.row_gradients=sliced is not possible without method.clip=active: the norm is that of the "
            "active rows; methods such as variant/rows16 have it"
        )


def _check_axes(config: DictConfig, choices: Mapping[str, str]) -> None:
    for axis in AXES:
        if axis in config and axis not in config.method:
            raise UserError(f"method={choices['method']} has no axis {axis!r}; drop {axis}={choices.get(axis, '...')}")
    if "outside_layers" in config and "partition" not in config.method:
        raise UserError(f"method={choices['method']} has no partition, so outside_layers means nothing; drop it")
