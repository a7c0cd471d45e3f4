"""The recipes of CONTRIBUTING.md, followed literally in a copy of the clone. That of a bound is in tests/theory."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from records import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PACKAGES = ("bcd", "cli", "conf", "experiments", "records")
TESTS = ("__init__.py", "conftest.py", "cover.py", "bcd/conftest.py", "bcd/test_reference.py")
MADE = """
from hydra import compose, initialize_config_dir
from experiments import configuration
from experiments.errors import UserError
from records import ROOT

with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
    config = compose("train", overrides={overrides!r})
try:
    configuration.build(config.method)
    parts = [configuration.build(config.method[name]) for name in ("order", "rule")]
    print([type(part).__module__ + "." + type(part).__name__ for part in parts])
except UserError as error:
    print(error)
"""


def blocks(title: str) -> list[str]:
    """The blocks of code of a section, in order."""
    section = re.split(r"^## ", TEXT.partition(f"## {title}\n")[2], flags=re.MULTILINE)[0]
    return re.findall(r"```\w+\n(.*?)```", section, re.DOTALL)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in TESTS:
        if (ROOT / "tests" / name).exists():
            (tmp_path / "tests" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / "tests" / name, tmp_path / "tests" / name)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def python(clone: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=clone, capture_output=True, text=True, check=False)


def made(clone: Path, *overrides: str) -> str:
    """What the command line's method is made of, or why it cannot be made."""
    done = python(clone, "-c", MADE.format(overrides=list(overrides)))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def compared(clone: Path, name: str) -> str:
    """The last line of the comparison with the reference."""
    command = ["-m", "pytest", "-q", "-m", "not slow", "-p", "no:cacheprovider"]
    return python(clone, *command, "tests/bcd/test_reference.py", "-k", name).stdout.strip().splitlines()[-1]


def add_order(clone: Path) -> str:
    """The recipe but for `__all__`; returns the YAML."""
    python_code, yaml_text = blocks("Example: your own block order")
    with (clone / "bcd" / "orders.py").open("a") as file:
        file.write(f"\n\n{python_code}")
    (clone / "conf" / "order" / "pendulum.yaml").write_text(yaml_text)
    return yaml_text


@pytest.mark.slow
def test_the_recipe_of_a_block_order(clone: Path) -> None:
    add_order(clone)
    orders = clone / "bcd" / "orders.py"
    orders.write_text(orders.read_text().replace('    "Order",\n', '    "Order",\n    "Pendulum",\n', 1))
    assert made(clone, "order=pendulum").startswith("['bcd.orders.Pendulum', ")
    assert python(clone, "-c", "import bcd; bcd.Pendulum()").returncode == 0
    last = compared(clone, "pendulum")
    assert re.match(r"\d+ passed", last), last


@pytest.mark.slow
def test_an_order_that_is_not_exported_is_told_where_it_is(clone: Path) -> None:
    """Files of conf/ may say bcd.NAME, which needs __all__."""
    text = add_order(clone)
    assert made(clone, "order=pendulum").startswith("['bcd.orders.Pendulum', "), "the recipe's own target"
    (clone / "conf" / "order" / "pendulum.yaml").write_text(text.replace("bcd.orders.", "bcd."))
    line = made(clone, "order=pendulum")
    assert line == "order._target_=bcd.Pendulum is not there; write order._target_=bcd.orders.Pendulum"


@pytest.mark.slow
def test_the_recipe_of_an_update_rule(clone: Path) -> None:
    rule, transcription, yaml_text = blocks("Example: your own update rule")
    (clone / "bcd" / "rules" / "clipped.py").write_text(rule)
    reference = clone / "bcd" / "reference.py"
    reference.write_text(reference.read_text().replace("\n\ndef _pairs(", f"\n\n{transcription}\n\ndef _pairs(", 1))
    (clone / "conf" / "rule" / "clipped.yaml").write_text(yaml_text)
    assert made(clone, "rule=clipped").endswith("'bcd.rules.clipped.Clipped']")
    last = compared(clone, "clipped")
    assert re.match(r"\d+ passed", last), last
    reference.write_text(reference.read_text().replace("-limit), limit)", "-limit), 2 * limit)"))
    assert "failed" in compared(clone, "test_weight_decay_is_the_references and clipped"), (
        "the comparison sees nothing"
    )


def test_every_file_that_the_table_names_exists() -> None:
    """But for those to be made, which are called x."""
    table = TEXT.partition("| add | Python | YAML |")[2].partition("\n## ")[0]
    for name in re.findall(r"`((?:bcd|cli|conf|experiments|paper|results|tests|theory)/[\w./]*)`", table):
        assert (ROOT / name).exists() or re.search(r"\bx\.|/x\b|STUDY", name), name
