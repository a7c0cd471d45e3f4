"""Run keys change with the code that computes a run, and with nothing else."""

from pathlib import Path

import pytest

from experiments import sources

FILES = {
    "experiments/__init__.py": "",
    "experiments/loop.py": '''"""The loop."""
from bcd import rules


def step():
    from experiments import late
    return late
''',
    "experiments/late.py": "VALUE = 1\n",
    "experiments/profile.py": '"""Another command."""\nimport experiments.loop\n',
    "bcd/__init__.py": '"""Doc."""\n',
    "bcd/rules.py": "LR = 0.1  # a comment\n",
    "bcd/unused.py": "",
}


@pytest.fixture
def tree(tmp_path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def edit(tree: Path, name: str, before: str, after: str) -> None:
    path = tree / name
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after) + "\n")


def test_the_closure_is_what_is_imported_also_inside_functions(tree):
    names = {"experiments", "experiments.loop", "experiments.late", "bcd", "bcd.rules"}
    assert sources.closure(["experiments.loop", "torch.optim"], tree) == names


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("experiments/profile.py", "import experiments.loop", "import experiments.loop, os"),
        ("experiments/profile.py", "Another", "Any other"),
        ("experiments/loop.py", "The loop.", "The loop, said better."),
        ("bcd/rules.py", "a comment", "another comment"),
        ("bcd/__init__.py", "Doc.", "Documentation."),
    ],
)
def test_what_does_not_compute_the_run_leaves_its_key(tree, name, before, after):
    key = sources.code_hash(["experiments.loop"], tree)
    edit(tree, name, before, after)
    assert sources.code_hash(["experiments.loop"], tree) == key


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("experiments/loop.py", "return late", "return late.VALUE"),
        ("experiments/late.py", "1", "2"),
        ("bcd/rules.py", "0.1", "0.2"),
    ],
)
def test_what_computes_the_run_changes_its_key(tree, name, before, after):
    key = sources.code_hash(["experiments.loop"], tree)
    edit(tree, name, before, after)
    assert sources.code_hash(["experiments.loop"], tree) != key


def test_the_key_of_a_run_follows_its_own_method_and_workload_alone():
    loop = ["experiments.training.running"]
    names = sources.closure(loop)
    assert {"bcd.optimizer", "bcd.rules.adam", "experiments.training.loop", "experiments.data"} <= names
    commands = {f"experiments.{name}" for name in ("train", "profile", "alone", "tuning", "overlap", "overhead")}
    assert not names & commands
    assert not any(name.startswith(("experiments.studies", "experiments.evaluate")) for name in names)
    assert "experiments.methods.muon" not in names
    muon = list(sources.targets({"method": {"_target_": "experiments.methods.muon.MuonMethod", "lr": 0.1}}))
    assert "experiments.methods.muon" in sources.closure([*loop, *muon])
