"""The floors of experiments/: modules import from their own room and from rooms below, and never in a circle."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "experiments"

FLOORS = (
    *("errors", "hub", "randomness", "interruption", "sources", "command", "configuration"),
    *("data", "models", "methods", "workloads", "cost", "training", "studies", "curvature", "evaluate"),
)
"""Rooms, from the lowest floor to the highest; above them every command is a room of its own."""
COMMANDS = ("alone", "chat", "compare", "fit", "overhead", "overlap", "profile", "replay", "train", "tuning")
MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """experiments/cost/__init__.py -> experiments.cost"""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


NAMES = {name_of(path): path for path in MODULES}


def imports(path: Path) -> set[str]:
    """The modules of experiments that the file imports, also inside functions and for types."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                modules.add(inner if inner in NAMES else node.module or "")
    return {module for module in modules if module in NAMES and module != "experiments"}


def floor(module: str) -> int:
    room = module.split(".")[1]
    assert room in FLOORS + COMMANDS, f"{module} is in no room: give the room a floor in this test"
    return FLOORS.index(room) if room in FLOORS else len(FLOORS)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_imports_from_its_own_floor_and_below(path):
    if name_of(path) == "experiments":
        return
    for module in imports(path):
        assert floor(module) <= floor(name_of(path)), f"{name_of(path)} imports {module}, which lies above it"
        if floor(module) == len(FLOORS):
            assert module == name_of(path), f"the command {name_of(path)} imports the command {module}"


def test_nothing_imports_in_a_circle():
    graph = {name: imports(path) - {name} for name, path in NAMES.items()}
    while leaves := [name for name, targets in graph.items() if not targets & set(graph)]:
        for name in leaves:
            del graph[name]
    assert not graph, f"these modules import each other: {sorted(graph)}"


def test_the_checks_see_what_they_forbid(tmp_path):
    sample = tmp_path / "sample.py"
    sample.write_text("def f():\n    from experiments.studies import runner\n    import experiments.train\n")
    assert imports(sample) == {"experiments.studies.runner", "experiments.train"}
    assert floor("experiments.data.chat") < floor("experiments.methods.block") < floor("experiments.studies.runner")
