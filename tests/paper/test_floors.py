"""The rooms of paper/: records are read, then judged, then shown, then built, and no room imports one above it."""

from pathlib import Path

import pytest

from paper import build

FLOORS = {"read": 0, "judge": 1, "figures": 2, "tables": 2, "numbers": 2, "": 3}
"""Room -> floor; "" is paper/ itself, the commands."""
MODULES = sorted(path for path in build.PAPER.rglob("*.py") if path != build.PAPER / "__init__.py")


def room(path: Path) -> str:
    """The folder below paper/ that a module is in."""
    return path.parent.relative_to(build.PAPER).as_posix().removeprefix(".")


def imports(path: Path) -> set[Path]:
    """The other modules of paper/ that a module imports; a package that only documents its folder is none."""
    documents = {build.PAPER / folder / "__init__.py" for folder in FLOORS} - {build.PAPER / "numbers" / "__init__.py"}
    return build.imports(path) - documents - {path}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(build.PAPER).as_posix())
def test_no_module_imports_a_room_above_or_beside_its_own(path: Path) -> None:
    for other in imports(path):
        lower = FLOORS[room(other)] < FLOORS[room(path)]
        assert lower or room(other) == room(path), f"{path} imports {other}"


def test_no_module_imports_itself_through_others() -> None:
    for path in MODULES:
        through = {other for direct in imports(path) for other in build.closure(direct)}
        documents = path.name == "__init__.py" and path.parent.name != "numbers"
        assert documents or path not in through, path


def test_producers_do_not_import_each_other() -> None:
    producers = {Path(str(p.module.__file__)) for p in build.products()}
    for path in producers:
        assert not imports(path) & producers, path


def test_the_test_sees_an_import_that_goes_up(tmp_path: Path) -> None:
    path = tmp_path / "below.py"
    path.write_text("def late():\n    from paper.judge import verdicts\n    return verdicts\n")
    assert build.PAPER / "judge" / "verdicts.py" in build.imports(path)
