"""Which source files determine a result: those that its code imports, and what of them is more than text.

The key of a run holds `code_hash` of the modules that compute it. So editing another command, a comment or a docstring
leaves finished runs finished, and editing the loop, the run's method or anything that these import does not.
"""

import ast
import functools
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from records import ROOT

PACKAGES = ("bcd", "experiments")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def code_hash(modules: Iterable[str], root: Path = ROOT) -> str:
    """SHA-256 of the modules and of everything of `PACKAGES` that they import, comments and docstrings left out.

    Args:
        modules: dotted names, for example ``experiments.training.running``; what is in no package of ours is left out.
        root: folder of the packages.
    """
    total = hashlib.sha256()
    for name in sorted(closure(modules, root)):
        path = _file(name, root)
        assert path is not None
        status = path.stat()
        total.update(f"{name}\0{_meaning(path, status.st_mtime_ns, status.st_size)}\0".encode())
    return total.hexdigest()


def closure(modules: Iterable[str], root: Path = ROOT) -> set[str]:
    """The modules of `PACKAGES` that are imported with these, directly or not, inside functions too."""
    names, waiting = set[str](), list(modules)
    while waiting:
        name = waiting.pop()
        path = _file(name, root)
        if name in names or path is None:
            continue
        names.add(name)
        status = path.stat()
        waiting += _imports(path, status.st_mtime_ns, status.st_size)
        waiting += [name.rpartition(".")[0]]  # importing a.b runs a/__init__.py
    return names


def targets(tree: Any) -> Iterator[str]:
    """The modules of every ``_target_`` in nested dicts and lists.

    >>> list(targets({"rule": {"_target_": "bcd.rules.Adam"}, "lr": 0.1}))
    ['bcd.rules']
    """
    if isinstance(tree, dict):
        for key, value in tree.items():
            if key == "_target_" and isinstance(value, str):
                yield value.rpartition(".")[0]
            yield from targets(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from targets(value)


def _file(name: str, root: Path) -> Path | None:
    if name.partition(".")[0] not in PACKAGES:
        return None
    place = root.joinpath(*name.split("."))
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)


@functools.lru_cache(maxsize=1000)
def _imports(path: Path, changed: int, size: int) -> list[str]:
    """Names that the file imports; of ``from a import b`` both a and a.b, of which one may be no module."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


@functools.lru_cache(maxsize=1000)
def _meaning(path: Path, changed: int, size: int) -> str:
    """The file's syntax tree as text, without docstrings; fields without a value are left out, because versions of
    Python differ in which there are."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return _text(tree)


def _text(node: Any) -> str:
    if isinstance(node, list):
        return f"[{','.join(map(_text, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = (f"{name}={_text(value)}" for name, value in ast.iter_fields(node) if value not in (None, []))
    return f"{type(node).__name__}({','.join(fields)})"
