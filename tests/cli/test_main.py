"""The command `bcd`: a word for each entry point, the script that finds the clone, and what it says of other words."""

import ast
import subprocess
import sys
import warnings

import pytest

from cli import main as faces
from cli import script
from experiments.command import once_more
from tests.conftest import ROOT


@pytest.fixture
def bcd(monkeypatch, capsys):
    """bcd(*words) -> exit code, stdout and stderr of the command, in this process."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["bcd", *words])
        code = 0
        try:
            with warnings.catch_warnings():  # that the module was imported before is what makes this fast
                warnings.filterwarnings("ignore", message=".*found in sys.modules", module="runpy")
                faces.main()
        except SystemExit as end:
            code = end.code or 0
        return code, *capsys.readouterr()

    return run


def test_every_word_is_a_module_that_has_a_main():
    for face in faces.FACES.values():
        place = ROOT / face.module.replace(".", "/")
        path = next(path for path in (place.with_suffix(".py"), place / "__main__.py") if path.is_file())
        names = {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}
        assert "main" in names, path


def test_alone_it_lists_its_words(bcd):
    code, out, err = bcd()
    assert (code, err) == (0, "")
    assert all(f"bcd {word} " in out for word in faces.FACES)
    assert bcd("--help") == bcd()


@pytest.mark.parametrize(("word", "meant"), [("trian", "train"), ("evaluat", "evaluate"), ("profil", "profile")])
def test_an_unknown_word_gets_the_nearest(bcd, word, meant):
    code, out, err = bcd(word)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: bcd {word} is not one of ")
    assert err.endswith(f"; did you mean bcd {meant}?\n")


def test_a_word_that_is_near_to_none_gets_the_list_alone(bcd):
    assert "did you mean" not in bcd("xyzzy")[2]


@pytest.mark.parametrize("word", ["train", "evaluate", "profile", "verify"])
def test_a_face_is_the_module_with_the_same_arguments(bcd, word, monkeypatch):
    # pytest's loader, which has a module that was collected for its doctests, is of no use to runpy.
    finders = [finder for finder in sys.meta_path if type(finder).__name__ != "AssertionRewritingHook"]
    monkeypatch.setattr(sys, "meta_path", finders)
    for name in (faces.FACES[word].module, f"{faces.FACES[word].module}.__main__"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    code, out, _ = bcd(word, "--help")
    done = subprocess.run(
        [sys.executable, "-m", faces.FACES[word].module, "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert (code, out) == (0, done.stdout)


def test_what_is_to_be_typed_next_is_what_was_typed(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["bcd train", "method=badam"])
    assert once_more("experiments.train", ["a b=1"]) == "bcd train 'a b=1'"
    assert faces.typed("experiments.evaluate") == "python -m experiments.evaluate"


def test_the_script_finds_the_clone_from_anywhere_and_hides_no_other_bcd(tmp_path):
    """A folder with another bcd in it, and the script in a folder with a space in its name."""
    folder = tmp_path / "a place" / "bin"
    folder.mkdir(parents=True)
    path = script.write(folder)
    (tmp_path / "bcd").mkdir()
    (tmp_path / "bcd" / "__init__.py").write_text("raise ImportError('another one')")
    done = subprocess.run([path, "train", "--help", "method"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("method=")
    refused = subprocess.run([path, "nothing"], cwd=tmp_path, capture_output=True, text=True)
    assert refused.returncode == 2
    there = subprocess.run([sys.executable, "-c", "import bcd"], cwd=tmp_path, capture_output=True, text=True)
    assert "another one" in there.stderr, "the environment itself knows nothing of the clone"


def test_make_setup_writes_the_script():
    """Without a virtual environment of its own: what make would do."""
    done = subprocess.run(["make", "-n", "-B", "setup"], cwd=ROOT, capture_output=True, text=True)
    commands = [line for line in done.stdout.splitlines() if not line.startswith("make")]  # it names its folders
    assert "/bin/python -m cli.script" in commands[-1]
