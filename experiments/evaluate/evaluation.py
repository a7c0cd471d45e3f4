"""An evaluation: parts of one configuration, each with a record of its own, and the comparison with another model."""

import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from omegaconf import DictConfig, OmegaConf

from bcd.checks import require_choice
from experiments import configuration, sources
from experiments.errors import UserError
from experiments.evaluate.subject import Part, PartialError, Subject
from experiments.interruption import Interrupted, Interruption
from records import (
    ROOT,
    Record,
    digest,
    file_name,
    find,
    load,
    load_study,
    not_finite,
    require_name,
    require_writable,
    run_key,
    write,
)
from records.provenance import provenance

if TYPE_CHECKING:
    from experiments.models import ModelSource

KEPT = ROOT / "outputs" / "evaluate"
MAY_DIFFER = ("tasks", "folder", "batch_size", "generation_batch_size", "judge")
"""Options of a part that two models under comparison need not share: every task says itself which items it has."""


@dataclass(frozen=True)
class Evaluating:
    """One part that is possible.

    Attributes:
        part: what measures.
        name: of its record.
        key: of what is measured, with the code and what is read, see `records.run_key`.
        identity: the configuration of what is measured.
        about: labels of its record, no part of the key.
        before: the record to compare with, None for no comparison.
    """

    part: Part
    name: str
    key: str
    identity: dict[str, Any]
    about: dict[str, Any]
    before: Record | None

    @property
    def config(self) -> dict[str, Any]:
        """As the record has it."""
        return self.identity | {"about": self.about}


@dataclass(frozen=True)
class Plan:
    """An evaluation whose configuration is possible."""

    config: DictConfig
    name: str
    device: torch.device
    model: "ModelSource"
    fingerprint: str
    parts: list[Evaluating]


def plan(config: DictConfig, choices: Mapping[str, str]) -> Plan:
    """Check the configuration, read the test sets and find the identity of every part, before any weight is loaded.

    Args:
        config: of the command.
        choices: config group -> chosen name.

    Raises:
        ValueError: with one message that names the value; a UserError where the cause is more than the value.
    """
    config = config.copy()
    if config.path is not None:
        if choices["model"] != "pretrained":
            raise UserError(f"path={config.path} and model={choices['model']} are two models; give one of them")
        config.model.path = config.path
    elif OmegaConf.is_missing(config.model, "path"):
        raise UserError("path=... is missing: give a folder in the Hugging Face format, a hub name, or model=NAME")
    require_name("recorded_as", config.recorded_as)
    require_choice("dtype", config.dtype, configuration.DTYPES)
    for name in config.parts:
        if name not in config or "_target_" not in config[name]:
            raise UserError(f"parts has {name!r}; there are heldout, reasoning_gym, downstream, mt_bench")
    device = configuration.device_of(config.device)
    model = configuration.build(config.model)
    fingerprint = digest([model.fingerprint(), config.dtype, device.type])
    stem = str(config.path).rstrip("/").rpartition("/")[2] if config.path else choices["model"]
    title = file_name(str(config.name) if config.name is not None else f"{stem[-80:]}-{fingerprint[:8]}")
    about = OmegaConf.to_container(config.about, resolve=True)
    assert isinstance(about, dict)  # for the type checker: a DictConfig gives a dict
    labels = {str(key): value for key, value in about.items()}
    parts = []
    for name in config.parts:
        part: Part = configuration.build(config[name])
        identity = {
            "part": name,
            name: OmegaConf.to_container(config[name], resolve=True),
            "model": OmegaConf.to_container(config.model, resolve=True),
            "dtype": config.dtype,
            "device": device.type,
        }
        inputs = {
            "code": sources.code_hash((__name__, *sources.targets(identity))),
            "data": part.fingerprint(),
            "model": fingerprint,
        }
        before = None
        if config.before is not None:
            path = configuration.folder(config) / config.recorded_as / f"{config.before}-{name}.json"
            if not path.exists():
                raise UserError(
                    f"before={config.before}: there is no {path}; evaluate that model first, with this name"
                )
            before = load(path)
            if before.status != "finished":
                raise UserError(f"before={config.before}: {path} is {before.status}; evaluate that model again")
            same = [{k: v for k, v in c[name].items() if k not in MAY_DIFFER} for c in (before.config, identity)]
            if other := [key for key in same[1] if same[0].get(key) != same[1][key]]:
                raise UserError(
                    f"before={config.before}: {path} was evaluated with other values of {', '.join(other)}"
                )
        parts.append(Evaluating(part, f"{title}-{name}", run_key(identity, inputs), identity, labels, before))
    if not config.how.dry:
        require_writable(configuration.folder(config) / config.recorded_as)
    return Plan(config, title, device, model, fingerprint, parts)


def table(planned: Plan) -> str:
    """The parts as text: finished or to do, how many items, and the seconds of the last other model here."""
    config, rows = planned.config, []
    for part in planned.parts:
        done = find(config.recorded_as, part.name, part.key, configuration.folder(config))
        others = [
            record
            for record in load_study(config.recorded_as, kind="evaluate", folder=configuration.folder(config))
            if record.config["part"] == part.identity["part"] and record.config["device"] == planned.device.type
        ]
        took = done or max(others, key=lambda record: record.provenance["date"], default=None)
        seconds = "not known" if took is None else f"{took.measurements['seconds']:.0f} s ({took.name})"
        size = ", ".join(f"{count} {name}" for name, count in part.part.size().items())
        rows.append(f"{part.name}: {'finished' if done else 'to do'}; {size}; time {seconds}")
    return "\n".join(rows)


def execute(planned: Plan) -> Iterator[tuple[Record, Record | None]]:
    """The record of every part, and that of its comparison; parts that are finished are not run again.

    A failing part is a record too and stops no other.

    Raises:
        Interrupted: after SIGTERM or Ctrl-C; what is finished stays, and the same command goes on.
    """
    config, loaded = planned.config, None
    for part in planned.parts:
        folder = configuration.folder(config)
        record = None if config.how.force else find(config.recorded_as, part.name, part.key, folder)
        if record is not None and record.config != part.config:  # measured before, under other labels
            record = replace(record, config=part.config)
            write(record, folder)
        if record is None:
            if loaded is None:
                loaded = planned.model.load(getattr(torch, config.dtype))
                loaded[0].to(planned.device).eval()  # pyright: ignore[reportArgumentType]
            subject = Subject(planned.name, *loaded, planned.fingerprint, KEPT / part.key[:16])
            record = _measure(planned, part, subject)
        yield record, _compare(planned, part, record)


def _measure(planned: Plan, part: Evaluating, subject: Subject) -> Record:
    origin = provenance(configuration.device_name(planned.device.type))
    begin, error, stopped = time.perf_counter(), "", None
    measured: dict[str, Any] = {}
    with Interruption():
        try:
            measured = part.part(subject)
            error = not_finite(measured)
        except Interrupted as signal:
            stopped = signal
        except PartialError as failure:
            measured, error = failure.measured, str(failure)
        except Exception as failure:  # whatever stops a part is its result; the other parts go on
            error = str(failure) if isinstance(failure, UserError) else f"{type(failure).__name__}: {failure}"
        record = Record(
            kind="evaluate",
            study=planned.config.recorded_as,
            name=part.name,
            key=part.key,
            status="interrupted" if stopped else "failed" if error else "finished",
            config=part.config,
            measurements=measured | {"seconds": time.perf_counter() - begin},
            provenance=origin,
            error=error,
        )
        write(record, configuration.folder(planned.config))
    if stopped:
        raise stopped
    if record.status == "finished":
        shutil.rmtree(subject.place, ignore_errors=True)
    return record


def _compare(planned: Plan, part: Evaluating, after: Record) -> Record | None:
    if part.before is None or after.status != "finished":
        return None
    seconds = {"seconds"}
    first, second = (
        {key: value for key, value in record.measurements.items() if key not in seconds}
        for record in (part.before, after)
    )
    error, compared = "", dict[str, Any]()
    try:
        compared = part.part.compare(first, second)
    except Exception as failure:  # the other parts go on
        error = str(failure) if isinstance(failure, ValueError) else f"{type(failure).__name__}: {failure}"
    record = Record(
        kind="compare",
        study=planned.config.recorded_as,
        name=f"{after.name}-against-{planned.config.before}",
        key=run_key({"before": part.before.key, "after": after.key}, {"code": sources.code_hash((__name__,))}),
        status="failed" if error else "finished",
        config={
            "before": part.before.name,
            "after": after.name,
            "part": part.identity["part"],
            "about": part.about | {"baseline": part.before.config.get("about", {}).get("method")},
        },
        measurements=compared,
        provenance=after.provenance,
        error=error,
    )
    write(record, configuration.folder(planned.config))
    return record
