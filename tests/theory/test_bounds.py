"""Every bound of conf/bound: its controls are rejected, its lines are in its docstring, its sweep holds."""

import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import records
from tests.cover import tiered
from theory import verify
from theory.bounds import Bound, master
from theory.ledger import Ledger
from theory.measure import cases, instantiate

PROBLEMS = {
    path.stem: yaml.safe_load(path.read_text())["problems"]
    for path in sorted((records.ROOT / "conf" / "bound").glob("*.yaml"))
}
LABELS = [(bound, problem) for bound, problems in PROBLEMS.items() for problem in problems]
Sweeps = dict[tuple[str, str], verify.Job]


@pytest.mark.slow
def test_the_sweeps_are_those_of_the_yamls(sweeps: Sweeps) -> None:
    assert list(sweeps) == LABELS
    folder = records.ROOT / "conf" / "problem"
    for job in sweeps.values():
        assert (folder / f"{job.problem}.yaml").exists(), job


@pytest.mark.parametrize("name", PROBLEMS)
def test_false_statements_are_rejected(name: str, sweeps: Sweeps) -> None:
    bound = instantiate(sweeps[name, PROBLEMS[name][0]].config)[0]
    controls = list(bound.controls())
    assert controls or bound.refuted, "a bound without a control is not known to be able to fail"
    for control in controls:
        assert control.rejected, control
        assert 1.05 < control.ratio <= control.most, control
        assert control.true_ratio <= 1 + 1e-9, control


@pytest.mark.parametrize("label", LABELS, ids="-".join)
def test_some_instances_of_every_sweep_hold_in_both_arithmetics(label: tuple[str, str], sweeps: Sweeps) -> None:
    job = sweeps[label]
    bound = instantiate(job.config)[0]
    small = [case for case in cases(job.config) if case[1].get("inner_steps", 1) <= 3] or cases(job.config)
    problem, setting = small[len(small) // 2]
    outcome = bound.evaluate(problem, epochs=min(2, bound.epochs), **setting)
    documented(bound, outcome.ledger.lines)
    if bound.refuted:
        return
    assert outcome.ledger.violations == 0, outcome.ledger.lines
    if bound.precise:
        precise = bound.evaluate(problem, epochs=1, arithmetic="mp", **setting)
        assert precise.ledger.violations == 0, [line.first_violation for line in precise.ledger.lines.values()]


def some_of_all_families(name: str, sweeps: Sweeps) -> Ledger:
    """The lines of a bound over a few instances of each of its families."""
    total = Ledger()
    for problem in PROBLEMS[name]:
        job = sweeps[name, problem]
        bound, chosen = instantiate(job.config)[0], cases(job.config)
        for instance, setting in [chosen[0], chosen[len(chosen) // 2], chosen[-1]]:
            total.merge(bound.evaluate(instance, epochs=min(2, bound.epochs), **setting).ledger)
    return total


@pytest.mark.integration
@pytest.mark.parametrize("name", tiered(list(PROBLEMS), quick=list(PROBLEMS)[::4]))
def test_no_line_is_compared_with_itself(name: str, sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tautology looks perfectly tight, and no factor of its left side survives; nothing tells its sides apart."""
    lines = some_of_all_families(name, sweeps).lines
    assert [line for line, found in lines.items() if found.indistinct] == []
    true = Ledger._add
    monkeypatch.setattr(
        Ledger, "_add", lambda self, line, kind, lhs, rhs, *rest: true(self, line, kind, rhs, rhs, *rest)
    )
    same = some_of_all_families(name, sweeps).lines
    assert same.keys() == lines.keys()
    seen = [line for line, found in same.items() if found.kind == "identity" or found.resolved > 1]
    assert seen
    assert [line for line in seen if not same[line].indistinct] == []


def documented(bound: Bound, lines: Any) -> None:
    """Every line of the ledger is a line of the proof in a docstring of the bound or of what it builds on."""
    modules = [sys.modules[kind.__module__] for kind in type(bound).__mro__ if issubclass(kind, Bound)]
    text = "".join(inspect.getdoc(module) or "" for module in [*modules, master])
    for name in lines:
        assert name in text, f"line {name} is in no docstring"


@pytest.mark.slow
@pytest.mark.integration
def test_the_example_of_contributing_runs_as_one_file_and_one_yaml(tmp_path: Path) -> None:
    text = (records.ROOT / "CONTRIBUTING.md").read_text()
    for package in ("bcd", "cli", "conf", "records", "theory"):
        shutil.copytree(records.ROOT / package, tmp_path / package)
    for language, path in (("python", "theory/bounds/path_length.py"), ("yaml", "conf/bound/path_length.yaml")):
        assert f"`{path}`" in text
        (content,) = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
        (tmp_path / path).write_text(content)
    command = [sys.executable, "-W", "error", "-m", "theory.verify", "--multirun"]
    # Two runs of one process: as it stands, and with a step size that its theorem does not cover.
    command += ["bound=path_length", "workers=1", "cases=4", "bound.grid.gamma=[0.3,1.0,1.9],[2.1]"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "HOLDS: 1 bounds, " in done.stdout
    assert "2 of 2 negative controls rejected" in done.stdout
    assert done.stderr == "error: gamma=2.1 is not possible: it must be a number in (0, 2)\n"
    assert done.returncode == 2
