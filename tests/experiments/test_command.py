"""What commands have in common: `python -m` of each, and the short spelling of how runs are made."""

import importlib
import subprocess
import sys

import hydra
import pytest
import yaml
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from experiments.command import spelled_out
from tests.conftest import ROOT

COMMANDS = sorted(path.stem for path in (ROOT / "conf").glob("*.yaml") if "how" in yaml.safe_load(path.read_text()))


def leaves(tree, place=""):
    """(key, value) of every value in nested mappings; keys are joined by dots."""
    for name, value in tree.items():
        yield from leaves(value, f"{place}{name}.") if isinstance(value, dict) else [(place + name, value)]


def another(value):
    """A value of the same kind."""
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int) else "elsewhere"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_key_of_how_may_leave_the_prefix_out(name):
    """All keys at once, since hydra takes most of the time."""
    values = {
        key: another(value) for key, value in leaves(yaml.safe_load((ROOT / f"conf/{name}.yaml").read_text())["how"])
    }
    short = [f"{key}={value}" for key, value in values.items()]
    long = [f"how.{item}" for item in short]
    assert spelled_out(short, name) == spelled_out(long, name) == long
    assert spelled_out([sign + item for sign in ("+", "++") for item in short], name) == [
        sign + item for sign in ("+", "++") for item in long
    ]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        configs = [hydra.compose(name, overrides=spelled_out(given, name)) for given in (short, long)]
    assert configs[0] == configs[1]
    assert dict(leaves(OmegaConf.to_container(configs[0].how))) == values


def test_other_keys_stay_as_they_are():
    given = ["only_this=1", "data.export=1", "study=force", "order.weights=[1,2]", "checkpoints=1", "--cfg", "job"]
    assert spelled_out(given) == given


def test_help_is_ours_from_inside_the_process_too(command):
    done = command(importlib.import_module("experiments.evaluate.__main__").main, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("python -m experiments.evaluate [choice=NAME ...]")
    assert "Every part leaves one record" in done.stdout


REFUSED = [
    ("alone", "studies=[]", "error: which study? give study=NAME"),
    ("curvature.__main__", "examples=0", "error: examples=0 is not possible"),
    ("evaluate.__main__", "parts=[speed]", "error: path=... is missing"),
    ("overlap", "n=3", "error: shortest=8 exceeds n=3"),
    ("train", "method.inner_steps=0", "error: inner_steps=0 is not possible"),
    ("train", "data=/data/chat.jsonl", "error: data=/data/chat.jsonl is not one of alpaca, "),
    ("train", "data.source.local=/year=2026", "error: data.source.local=/year=2026: quote the value, once more"),
    ("train", "--data=gsm8k", "error: --data=gsm8k: options have no dashes; write data=gsm8k"),
    ("train", "data=gsm8k.yaml", "error: data=gsm8k.yaml is not the name of a choice; write data=gsm8k"),
    ("tuning", "study=quick", "error: study=quick has no axis method.lr"),
]


EACH = {given[0]: given for given in REFUSED}
"""One for each command: a process of its own takes seconds."""


@pytest.mark.parametrize(("module", "argument", "message"), REFUSED)
def test_bad_input_ends_with_2_and_one_line(module, argument, message, command):
    done = command(importlib.import_module(f"experiments.{module}").main, argument)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(message), done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "argument", "message"),
    [*EACH.values(), ("replay", "no/such.json", "error: there is no record no/such.json")],
)
def test_a_process_of_the_command_does_the_same(module, argument, message):
    arguments = [sys.executable, "-W", "error", "-m", f"experiments.{module.removesuffix('.__main__')}", argument]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(message), done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
