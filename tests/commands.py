"""Entry points in this process: what `python -m` does, without the start of an interpreter and of torch."""

import contextlib
import io
import runpy
import subprocess
import sys
import warnings
from collections.abc import Iterator
from unittest import mock

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton

from tests.conftest import ROOT


def run_module(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`python -m module arguments` in the repository's root, in this process.

    The module runs as a fresh copy named `__main__`; what it imports is what the test may have patched.

    Returns:
        Exit code, stdout and stderr.

    Raises:
        Exception: what the module raises; a process would print it and exit with 1.
    """
    out, err, code = io.StringIO(), io.StringIO(), 0
    with in_root([module, *arguments]), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            runpy.run_module(module, run_name="__main__")
        except SystemExit as end:
            code = end.code
    if isinstance(code, str):  # as the interpreter does
        print(code, file=err)
        code = 1
    return subprocess.CompletedProcess([module, *arguments], code or 0, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def in_root(argv: list[str]) -> Iterator[None]:
    """The repository's root as working folder, these arguments, and a Hydra that knows nothing of the caller's."""
    shared = {kind: one for kind, one in Singleton._instances.items() if kind not in (GlobalHydra, HydraConfig)}
    with (
        contextlib.chdir(ROOT),
        mock.patch.object(sys, "argv", argv),
        mock.patch.object(Singleton, "_instances", shared),
        warnings.catch_warnings(),
    ):
        # That the module was imported before is what makes this fast.
        warnings.filterwarnings("ignore", message=".*found in sys.modules", module="runpy")
        yield
