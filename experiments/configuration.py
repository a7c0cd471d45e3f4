"""From a resolved configuration to objects, devices and folders: what every command needs of it."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from bcd.checks import require_choice, require_flag, require_positive, require_whole
from experiments.errors import UserError
from records import ROOT

DTYPES = ("float32", "float64", "bfloat16")

MOVED = {
    "experiments.documented.": "experiments.methods.peers.documented.",
    "experiments.evaluate.Evaluation": "experiments.workloads.language.Evaluation",
    "experiments.evaluate.HeldOutLoss": "experiments.workloads.language.HeldOutLoss",
    "experiments.methods.badam_package.": "experiments.methods.peers.badam_package.",
    "experiments.methods.galore.": "experiments.methods.peers.galore.",
    "experiments.methods.lomo.": "experiments.methods.peers.lomo.",
}
"""Former names of what records say in ``_target_`` -> the present ones, so that old records can be run again."""


def build(config: Any) -> Any:
    """hydra.utils.instantiate, with the cause of a failed constructor as the error.

    Args:
        config: with ``_target_``; names that records have from before a move are known.

    Raises:
        ValueError: what the constructor raised.
        UserError: when the target cannot be made from these values.
    """
    node = OmegaConf.create(config) if isinstance(config, dict) else config
    values = OmegaConf.to_container(node, resolve=True, throw_on_missing=True)
    try:
        return instantiate(OmegaConf.create(_renamed(values)), _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, ValueError):
            raise error.__cause__ from None
        raise UserError(_not_made(error)) from None


def _not_made(error: InstantiationException) -> str:
    """Which target cannot be made and why; of one that is not where it is sought, where it is."""
    found = re.search(r"target '([^']+)'", str(error))
    if found is None:
        return " ".join(str(error).split())
    target, key = found[1], re.search(r"full_key: (\S+)", str(error))
    place = f"{key[1]}._target_" if key else "_target_"
    if "Error locating target" not in str(error):
        return f"{target} cannot be made: {' '.join(str(error.__cause__ or error).split())}"
    package, _, name = target.rpartition(".")
    if homes := _modules_with(package.partition(".")[0], name):
        return f"{place}={target} is not there; write {place}={' or '.join(f'{home}.{name}' for home in homes)}"
    reason = str(error.__cause__ or error).splitlines()[1:2]
    return f"{place}={target} cannot be loaded" + "".join(f": {line}" for line in reason)


def _modules_with(package: str, name: str) -> list[str]:
    """The modules of a package of this repository that define the class or function."""
    defined = re.compile(rf"^(?:class|def) {re.escape(name)}\b", re.MULTILINE)
    files = sorted((ROOT / package).rglob("*.py")) if package.isidentifier() else []
    return [
        path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
        for path in files
        if defined.search(path.read_text(encoding="utf-8"))
    ]


def _renamed(tree: Any) -> Any:
    if isinstance(tree, list):
        return [_renamed(value) for value in tree]
    if not isinstance(tree, dict):
        return tree
    renamed = {key: _renamed(value) for key, value in tree.items()}
    target = renamed.get("_target_")
    for former, present in MOVED.items():
        if isinstance(target, str) and target.startswith(former):
            renamed["_target_"] = present + target.removeprefix(former)
    return renamed


def choices(hydra_config: Any) -> dict[str, str]:
    """Config group -> chosen name, without hydra's own groups and empty ones."""
    selected = OmegaConf.to_container(hydra_config.runtime.choices)
    assert isinstance(selected, dict)
    return {str(k): str(v) for k, v in selected.items() if v is not None and "hydra/" not in str(k) and k != "study"}


def require_how(how: DictConfig) -> None:
    """Check the keys of `how` that a command has.

    Raises:
        ValueError: unless switches are true or false, counts whole numbers of at least 1 and amounts positive.
    """
    for key in ("dry", "force", "retry"):
        if key in how:
            require_flag(key, how[key])
    for key in ("workers", "rounds"):
        if key in how:
            require_whole(key, how[key], least=1)
    for key in ("card", "tflops"):
        if key in how:
            require_positive(key, how[key], or_none=True)
    for key in ("rows", "tokens"):
        if "assumed" in how:
            require_whole(f"assumed.{key}", how.assumed[key], least=1, or_none=True)


def device_of(name: str) -> torch.device:
    """The device of ``device=name``.

    Raises:
        ValueError: for another name than auto, cpu, cuda.
        UserError: for cuda where torch sees none.
    """
    require_choice("device", name, ("auto", "cpu", "cuda"))
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda, but torch sees no CUDA device; use device=cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def device_name(kind: str) -> str:
    """What the provenance of a record calls the device.

    Args:
        kind: "cuda" for the present GPU, else the CPU.
    """
    return torch.cuda.get_device_name() if kind == "cuda" else "cpu"


def folder(config: DictConfig) -> Path:
    """Where records go, see `output_path`."""
    return output_path(config.how.records_dir)


def output_path(path: str) -> Path:
    """A file or folder that is written: below the repository's root if it is relative; ~ is the home folder."""
    return ROOT / Path(path).expanduser()


def input_path(path: str) -> Path:
    """A file or folder that is read: relative ones are sought in the working folder, then below the root.

    So what a command writes is found under the same words, wherever the next one is started.
    """
    place = Path(path).expanduser()
    return place if place.exists() else ROOT / place


def without(tree: Any, names: Sequence[str]) -> Any:
    """A copy of nested dicts and lists without the entries of these names."""
    if isinstance(tree, dict):
        return {key: without(value, names) for key, value in tree.items() if key not in names}
    return [without(value, names) for value in tree] if isinstance(tree, list) else tree
