"""Kernels lie below the options."""

import ast
from pathlib import Path

import bcd.execution.kernels


def test_kernels_import_no_option():
    (folder,) = bcd.execution.kernels.__path__
    paths = list(Path(folder).glob("*.py"))
    assert len(paths) > 5
    for path in paths:
        tree = ast.walk(ast.parse(path.read_text()))
        nodes = [node for node in tree if isinstance(node, ast.ImportFrom | ast.Import)]
        modules = [getattr(node, "module", None) or node.names[0].name for node in nodes]
        assert all("kernels" in name for name in modules if name.startswith("bcd.execution")), path
