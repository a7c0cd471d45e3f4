"""Where a record comes from: commit, dirty flag, source hash, versions and device.

A copy of the working tree on another machine often lacks .git. `python -m records.provenance` stamps commit, dirty
flag and source hash into `.provenance.json` before the copy leaves; without .git the stamp is used, and it is
refused when the sources have changed since.
"""

import argparse
import datetime
import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from records import ROOT

STAMP = ROOT / ".provenance.json"
PACKAGES = ("bcd", "experiments", "theory", "records")
LIBRARIES = (
    *("torch", "numpy", "scipy", "transformers", "peft", "pytorch-optimizer", "schedulefree"),
    *("gguf", "reasoning-gym", "hydra-core"),
    *("datasets", "lm-eval", "math-verify"),
    "quack-kernels",
)


def source_hash(packages: Iterable[str] = PACKAGES, root: Path = ROOT) -> str:
    """SHA-256 over the Python files of the given packages: relative path and content of each, in order."""
    total = hashlib.sha256()
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            total.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()


def _git(*arguments: str) -> str:
    # GIT_DIR and its like, which hooks and aliases of git set, would name another repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(["git", *arguments], cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def revision() -> dict[str, Any]:
    """``{"commit", "dirty"}`` from git, or from the stamp where there is no .git, or unknown.

    Raises:
        ValueError: when the stamp is of other sources than those here.
    """
    try:
        if Path(_git("rev-parse", "--show-toplevel")) == ROOT:
            return {"commit": _git("rev-parse", "HEAD"), "dirty": bool(_git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        pass
    if not STAMP.exists():
        return {"commit": "unknown", "dirty": True}
    stamp = json.loads(STAMP.read_text(encoding="utf-8"))
    if stamp["sources"] != source_hash():
        raise ValueError(f"{STAMP} was made from other sources; run `python -m records.provenance` where .git is")
    return {"commit": stamp["commit"], "dirty": stamp["dirty"]}


def processor() -> str:
    """The processor's marketing name where the system tells, else the architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def versions() -> dict[str, str]:
    """Versions of Python and of the installed libraries that results depend on."""
    installed = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed


def provenance(device: str) -> dict[str, Any]:
    """Everything a reader needs to judge and repeat a run.

    Args:
        device: what computed it, for example ``"cpu"`` or the name of a GPU.
    """
    return {
        **revision(),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": processor() if device == "cpu" else device,
        "device_type": "cpu" if device == "cpu" else "gpu",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "versions": versions(),
    }


def stamp() -> None:
    """Write commit, dirty flag and source hash to `STAMP`, for a copy that will lack .git."""
    STAMP.write_text(json.dumps({**revision(), "sources": source_hash()}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    argparse.ArgumentParser(
        prog="python -m records.provenance",
        description=f"stamp commit and sources into {STAMP.name}, for a copy of the tree",
    ).parse_args()
    stamp()
    print(f"stamped {STAMP}")
