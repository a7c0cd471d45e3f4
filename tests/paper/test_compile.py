"""paper/compile.sh: what it says of LaTeX's log. LaTeX is a stand-in that writes the log of the test."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from records import ROOT

LARGE = "LaTeX Warning: Float too large for page by 24.95pt on input line 27."
LATEX = """#!/bin/sh
cp "$LOG" build/paper.log
touch build/paper.pdf
exit "$CODE"
"""
TECTONIC = """#!/bin/sh
case " $* " in *" --keep-logs "*) cp "$LOG" build/main.log;; esac
touch build/main.pdf
exit "$CODE"
"""
TOOLS = ("sh", "bash", "dirname", "mkdir", "touch", "rm", "mv", "cp", "grep", "tail", "id")


def compiled(folder: Path, log: str, program: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """paper/compile.sh with this program alone, which leaves the log."""
    programs = folder / "programs"
    programs.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found
        (programs / name).symlink_to(found)
    for name in ("tectonic",) if program == "tectonic" else ("latexmk", "pdflatex"):
        (programs / name).write_text(TECTONIC if program == "tectonic" else LATEX)
        (programs / name).chmod(0o755)
    (folder / "paper").mkdir()
    shutil.copy(ROOT / "paper" / "compile.sh", folder / "paper")
    (folder / "log").write_text(log)
    environment = {**os.environ, "PATH": str(programs), "LOG": str(folder / "log"), "CODE": str(code), "TEX": "auto"}
    return subprocess.run([folder / "paper" / "compile.sh"], env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("program", ["latexmk", "tectonic"])
def test_a_table_that_runs_over_its_page_is_an_error(tmp_path: Path, program: str) -> None:
    done = compiled(tmp_path, f"This is a log\n{LARGE}\nOutput written\n", program)
    assert (done.returncode, done.stdout) == (1, "")
    first, error = done.stderr.splitlines()
    assert first == LARGE
    assert error.startswith("error: a float is too large for its page")


@pytest.mark.parametrize(("points", "stays"), [("4.9", True), ("5.0", False), ("59.97", False), ("107", False)])
def test_what_is_wider_than_the_text_is_an_error(tmp_path: Path, points: str, stays: bool) -> None:
    line = f"Overfull \\hbox ({points}pt too wide) in paragraph at lines 2--39"
    done = compiled(tmp_path, f"This is a log\n{line}\n", "latexmk")
    assert done.returncode == (0 if stays else 1)
    if not stays:
        assert done.stderr.startswith(f"{line}\nerror: a line or a table is wider than the text")


@pytest.mark.parametrize("program", ["latexmk", "tectonic"])
def test_the_pdf_is_named_where_all_fits(tmp_path: Path, program: str) -> None:
    done = compiled(tmp_path, "This is a log\nOverfull \\hbox (1.0pt too wide)\n", program)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{tmp_path}/paper/build/paper.pdf\n"


def test_an_error_of_latex_stays_one(tmp_path: Path) -> None:
    done = compiled(tmp_path, "! Undefined control sequence.\n", "latexmk", code=1)
    assert done.returncode == 1
    assert done.stderr.endswith("error: LaTeX failed; see paper/build/paper.log\n")
