"""Docstrings of functions and classes: one argument a line, in a section, under the name that it has in the code."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("bcd", "cli", "experiments", "pages", "paper", "records", "theory")
CONVERTED = ["bcd", "cli", "experiments", "pages", "paper", "records", "theory"]

SECTION = re.compile(r"(Args|Attributes|Returns|Yields|Raises):")
ENTRY = re.compile(r"(\*{0,2}\w+(?:, \*{0,2}\w+)*):(?: |$)")
PACKED = re.compile(r"\S {5,}\*{0,2}\w+(?:, \w+)*: ")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def parameters(function: Function) -> set[str]:
    arguments = function.args
    plain = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return {each.arg for each in (*plain, arguments.vararg, arguments.kwarg) if each}


@cache
def classes() -> dict[str, list[ast.ClassDef]]:
    """The classes of the project by name."""
    by_name: dict[str, list[ast.ClassDef]] = {}
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                by_name.setdefault(node.name, []).append(node)
    return by_name


def members(owner: ast.ClassDef) -> set[str]:
    """What a class takes and has, also from its bases in the project: arguments, fields, attributes, properties."""
    names = set()
    for node in ast.walk(owner):
        if isinstance(node, Function):
            names |= parameters(node) if node.name == "__init__" else {node.name} if node.decorator_list else set()
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)  # self.x = ...
    for node in owner.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names |= {target.id for target in targets if isinstance(target, ast.Name)}
    bases = [node.id for base in owner.bases for node in ast.walk(base) if isinstance(node, ast.Name)]
    return names.union(*(members(base) for name in bases if name != owner.name for base in classes().get(name, ())))


def faults(text: str, names: set[str]) -> Iterator[tuple[int, str]]:
    """Line number in the docstring and what is wrong there; `names` are those of the documented object."""
    section = None
    for number, line in enumerate(text.splitlines()):
        depth = len(line) - len(line.lstrip())
        if line and depth == 0:
            header = SECTION.fullmatch(line)
            section = header and header[1]
        if depth != (4 if section else 0):
            continue  # the lines of an equation, an example, or the rest of an entry
        entry = ENTRY.match(line.strip())
        named = set(re.split(r"\W+", entry[1])) - {""} if entry else set()
        if entry and PACKED.search(line):
            yield number, "several arguments in a line"
        if section is None and named and named <= names:
            yield number, f"{entry[1]} is in no section"
        elif section in ("Args", "Attributes") and not (len(named) == 1 and named <= names):
            yield number, f"{', '.join(sorted(named)) or line.strip()} is no parameter or field"


@pytest.mark.parametrize("package", CONVERTED)
def test_arguments_of_docstrings(package: str) -> None:
    wrong = []
    for path in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef | Function) and (text := ast.get_docstring(node)):
                names = members(node) if isinstance(node, ast.ClassDef) else parameters(node)
                first = node.body[0].lineno
                wrong += [f"{path.relative_to(ROOT)}:{first + line}: {what}" for line, what in faults(text, names)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("Sum.\n\nArgs:\n    x: first.\n    y: second,\n        the longer one.", []),
        ("Sum.\n\nx: first.     y: second.", ["several arguments in a line", "x is in no section"]),
        ("Sum.\n\nArgs:\n    x: first.     y: second.", ["several arguments in a line"]),
        ("Sum.\n\nArgs:\n    z: third.", ["z is no parameter or field"]),
        ("Sum.\n\nArgs:\n    x, y: both.", ["x, y is no parameter or field"]),
        ("Sum.\n\n    x: 1     y: 2\n\nNote: an equation and a sentence.", []),
    ],
)
def test_faults(text: str, wrong: list[str]) -> None:
    assert [what for _, what in faults(text, {"x", "y"})] == wrong
