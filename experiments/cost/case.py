"""One cell of the profile, predicted or measured: method, model, tokens, and how the step is computed."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import hydra
import torch
from omegaconf import DictConfig, OmegaConf, open_dict

from experiments import sources
from experiments.configuration import DTYPES, build, choices, device_name
from experiments.cost.arithmetic import computed, must_run, products, sustained_rate
from experiments.cost.measure import PHASES, WARM_UP, Steps, clear, run_visits
from experiments.cost.predict import Prediction, predict
from experiments.cost.random_weights import materialise
from experiments.errors import UserError
from experiments.methods import Method
from records import Record, run_key
from records.provenance import provenance

GB = 1e9
DEVICES = ("fake", "cpu", "cuda")
WEIGHTS = ("random", "real")
IGNORED = ("cards", "reserve", "how", "series", "predict")  # how to show and where to write, not what
ABOUT = "about"  # labels of the record, no part of its identity


@dataclass(frozen=True)
class Case:
    """A possible configuration.

    Attributes:
        name: names its record.
        config: as conf/profile.yaml has it.
        choices: config group -> chosen name.
    """

    name: str
    config: DictConfig
    choices: Mapping[str, str]

    @property
    def batch(self) -> int:
        """Sequences that go forward and backward together."""
        return self.config.tokens // self.config.sequence // self.config.micro_batches


def make(config: DictConfig, choices: Mapping[str, str], name: str = "") -> Case:
    """A case with a checked configuration.

    Args:
        config: as conf/profile.yaml has it.
        choices: config group -> chosen name.
        name: of the case, derived when empty.

    Raises:
        UserError: with one message that names the value.
        ValueError: the same, from the parts of the configuration.
    """
    check(config)
    for part in ("method", "execution"):
        build(config[part])  # what is not possible in them shows before any run
    parts = [choices["method"], choices["model"], choices["execution"], str(config.tokens)]
    if config.cap_gb is not None:
        parts.append(f"cap{config.cap_gb:g}")
    if config.layers is not None:
        parts.append(f"layers{config.layers}")
    return Case(name or "-".join(parts).replace("/", "_"), config, choices)


def compose(overrides: Sequence[str], name: str = "") -> Case:
    """The case of these overrides; call it inside `hydra.initialize_config_dir`."""
    config = hydra.compose("profile", overrides=list(overrides), return_hydra_config=True)
    selected = choices(config.hydra)
    with open_dict(config):
        del config["hydra"]
    return make(config, selected, name)


def check(config: DictConfig) -> None:
    """Check the values.

    Raises:
        UserError: for one that is not possible.
    """
    for key, allowed in (("device", DEVICES), ("dtype", DTYPES), ("weights", WEIGHTS)):
        if config[key] not in allowed:
            raise UserError(f"{key}={config[key]!r} is not one of {', '.join(allowed)}")
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda, but torch sees no CUDA device; device=fake predicts without one")
    for key in ("tokens", "sequence"):
        if isinstance(config[key], bool) or not isinstance(config[key], int) or config[key] < 2:
            raise UserError(f"{key}={config[key]} is not possible: it must be a whole number of at least 2")
    if config.tokens % config.sequence:
        raise UserError(f"tokens={config.tokens} is not possible: it must be a multiple of sequence={config.sequence}")
    for key in ("steps", "layers", "micro_batches"):
        value = config[key]
        if (key, value) != ("layers", None) and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise UserError(f"{key}={value} is not possible: it must be a whole number of at least 1")
    for key in ("cap_gb", "max_grad_norm"):
        value = config[key]
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value <= 0):
            raise UserError(f"{key}={value} is not possible: give a positive number or null")
    if config.tokens // config.sequence % config.micro_batches:
        sequences = config.tokens // config.sequence
        raise UserError(f"micro_batches={config.micro_batches} is not possible: it must divide {sequences} sequences")
    if not isinstance(config.tf32, bool):
        raise UserError(f"tf32={config.tf32!r} is not possible: give true or false")
    if config.execution.get("step_in_backward", False):
        for key, plain in (("max_grad_norm", None), ("micro_batches", 1)):
            if config[key] != plain:
                raise UserError(f"{key}={config[key]} is not possible with execution.step_in_backward=true")
    if config.cap_gb is not None and config.device == "cpu":
        raise UserError(f"cap_gb={config.cap_gb} is not possible with device=cpu: nothing limits its memory")
    visits = config.visits
    several = OmegaConf.is_list(visits)
    for value in visits if several else [visits]:
        if isinstance(value, bool) or not isinstance(value, int) or value < (0 if several else 1):
            raise UserError(f"visits={visits} is not possible: give how many, at least 1, or a list of indices")
    for key, values in (("reserve", [config.reserve]), ("cards", config.cards)):
        if any(isinstance(value, bool) or not isinstance(value, int | float) or value < 0 for value in values):
            raise UserError(f"{key}={config[key]} is not possible: give GB, at least 0")


def skeleton(case: Case) -> Any:
    """The model on the meta device, with `layers` layers where the configuration says so."""
    config = case.config
    if config.layers is not None:
        if "architecture" not in config.model:
            raise UserError(
                f"layers={config.layers} is not possible: model={case.choices['model']} states no architecture"
            )
        config = config.copy()
        config.model.architecture.num_hidden_layers = config.layers
        if "path" in config.model:
            config.model.path = ""  # the stated architecture counts, not that of a local folder
    return build(config.model).skeleton(getattr(torch, config.dtype))


def predicted(case: Case) -> Prediction:
    """Predict the bytes of the visit that needs most."""
    return predict(
        skeleton(case),
        build(case.config.method),
        build(case.config.execution),
        batch=case.batch,
        sequence=case.config.sequence,
        limit=None if case.config.cap_gb is None else int(case.config.cap_gb * GB),
        accumulated=case.config.micro_batches > 1,
    )


def spread(visits: Any, count: int) -> list[int]:
    """Indices of the visits to measure, highest first.

    Args:
        visits: a list of indices, or how many are wanted, evenly spaced.
        count: how many visits there are.

    Raises:
        UserError: for an index that is too large.

    >>> spread(5, 32)
    [31, 23, 15, 7, 0]
    """
    if not isinstance(visits, int):
        if wrong := [index for index in visits if index >= count]:
            raise UserError(f"visits={wrong} is not possible: there are {count} visits, counted from 0")
        return list(visits)
    wanted = min(visits, count)
    if wanted == 1:
        return [count - 1]
    return [(count - 1) * (wanted - 1 - i) // (wanted - 1) for i in range(wanted)]


def at_visits(case: Case) -> tuple[Method, list[int]]:
    """The method with exactly the visits to measure, and their indices; one in the middle comes before, to warm up."""
    config = case.config
    count = len(build(config.method)(skeleton(case)).visits)
    chosen = spread(config.visits, count)
    indices = [chosen[len(chosen) // 2], *chosen]
    return build(config.method).visiting(indices, WARM_UP + config.steps), indices


def measured(case: Case) -> dict[str, Any]:
    """Build the model on the device, take the steps, and return everything found, as JSON values."""
    config, device = case.config, case.config.device
    torch.compiler.reset()
    torch.set_float32_matmul_precision("high" if config.tf32 else "highest")
    rate = rate_of(case)
    context = limit(config.cap_gb) if device == "cuda" else 0
    method, indices = at_visits(case)
    if config.weights == "real":
        model, _ = build(config.model).load(getattr(torch, config.dtype))
        model.to(device)
    else:
        model = materialise(skeleton(case), device, config.seed)
    trainable = method(model)
    build(config.execution)(trainable.model, trainable.optimizer)
    generator = torch.Generator(device).manual_seed(config.seed)
    size = (config.tokens // config.sequence, config.sequence)
    tokens = torch.randint(0, model.config.vocab_size, size, generator=generator, device=device)
    steps = Steps(trainable, tokens, device, config.max_grad_norm, config.micro_batches)
    visits, warm_up = run_visits(steps, indices, config.steps)
    rows = []
    for visit in visits:
        parts = computed(trainable, visit.index)
        flops = must_run(model, parts, tokens=config.tokens, sequence=config.sequence)
        rows.append(asdict(visit) | {"flops": flops, "share": flops / rate / visit.seconds["step"]})
    seconds = {name: sum(row["seconds"][name] for row in rows) / len(rows) for name in (*PHASES, "step")}
    flops = sum(row["flops"] for row in rows) / len(rows)
    return {
        "rate": rate,
        "context": context,
        "weights_count": sum(p.numel() for p in model.parameters()),
        "layers": model.config.num_hidden_layers,
        "visits": rows,
        "seconds": seconds,
        "tokens_per_second": config.tokens / seconds["step"],
        "flops": flops,
        "share": flops / rate / seconds["step"],
        "peak": max(visit.peak for visit in visits),
        "reserved": max(visit.reserved for visit in visits),
        "warm_up_peak": warm_up,
    }


_rates: dict[tuple[Any, ...], float] = {}


def rate_of(case: Case) -> float:
    """FLOP/s of the model's products on the device, measured once in a process for each number of tokens."""
    config = case.config
    shapes = products(skeleton(case))
    key = (tuple(dict.fromkeys(shapes)), config.tokens, config.dtype, config.device)
    if key not in _rates:
        if config.device == "cuda":
            limit(None)
        dtype = getattr(torch, config.dtype)
        _rates[key] = sustained_rate(shapes, config.tokens, dtype, config.device, config.rate_seconds)
        clear(config.device)
    return _rates[key]


def limit(cap_gb: float | None) -> int:
    """Limit torch's allocator.

    Args:
        cap_gb: what it may have, less the CUDA context, in GB; None: everything.

    Returns:
        The context's bytes.

    Raises:
        UserError: for more than the card has, or less than the context.
    """
    torch.cuda.init()
    clear("cuda")
    torch.ones(16, 16, device="cuda", dtype=torch.bfloat16).matmul(
        torch.ones(16, 16, device="cuda", dtype=torch.bfloat16)
    )
    torch.cuda.synchronize()
    free, total = torch.cuda.mem_get_info()
    context = total - free - torch.cuda.memory_reserved()
    allowed = 1.0 if cap_gb is None else (cap_gb * GB - context) / total
    if not 0.0 < allowed <= 1.0:
        raise UserError(
            f"cap_gb={cap_gb} is not possible: the card has {total / GB:.1f} GB, its context takes {context / GB:.2f}"
        )
    torch.cuda.set_per_process_memory_fraction(allowed)
    if cap_gb is not None:
        # Pieces of a nearly full card that cannot be joined are lost otherwise.
        torch._C._accelerator_setAllocatorSettings("expandable_segments:True")
    return context


def record(case: Case, study: str, measurements: dict[str, Any], error: str = "") -> Record:
    """The record of a case, for the folder of `study`."""
    resolved = OmegaConf.to_container(case.config, resolve=True)
    assert isinstance(resolved, dict)
    identity = {str(key): value for key, value in resolved.items() if key not in IGNORED}
    identity["choices"] = dict(case.choices)
    code = sources.code_hash((__name__, *sources.targets(identity)))
    return Record(
        kind="profile",
        study=study,
        name=case.name,
        key=run_key({k: v for k, v in identity.items() if k != ABOUT}, {"code": code}),
        status="failed" if error else "finished",
        config=identity,
        measurements=measurements,
        provenance=provenance(device_name(case.config.device)),
        error=error,
    )
