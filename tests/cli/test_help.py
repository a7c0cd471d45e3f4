"""--help of every command that reads conf/: all that there is, from the comments of conf/, quickly."""

import re
import subprocess
import sys

import pytest
import yaml

from cli import explained
from cli.help import READ_BY_ITSELF, answer, text
from tests.commands import run_module
from tests.conftest import ROOT

FILES = sorted(path.relative_to(ROOT / "conf").with_suffix("").as_posix() for path in (ROOT / "conf").rglob("*.yaml"))
SOURCES = [path for folder in ("experiments", "theory") for path in sorted((ROOT / folder).rglob("*.py"))]
STARTED = re.compile(r'if __name__ == "__main__":\n    answer\(sys.argv\[1:\], "(\w+)", "([\w.]+)", __doc__\)')
COMMANDS = [(path, *found) for path in SOURCES for found in STARTED.findall(path.read_text())]
HELPS = pytest.mark.parametrize(("path", "config", "module"), COMMANDS, ids=[module for *_, module in COMMANDS])


def words(said):
    return " ".join(said.split())


def docstring(path):
    return path.read_text().split('"""')[1]


def test_every_command_of_conf_answers_before_it_imports():
    readers = {
        path
        for path in SOURCES
        if re.search(r'^@(command|hydra\.main)\(|spelled_out\(arguments, "profile"\)', path.read_text(), re.MULTILINE)
    }
    assert {path for path, *_ in COMMANDS} == readers
    assert {config for _, config, _ in COMMANDS} == {name for name in FILES if "/" not in name}
    for path, _, module in COMMANDS:
        assert path in (ROOT / f"{module.replace('.', '/')}.py", ROOT / module.replace(".", "/") / "__main__.py")


@HELPS
def test_it_says_what_the_command_does_what_there_is_to_choose_and_every_option(path, config, module):
    printed = text(["--help"], config, module, docstring(path))
    assert max(map(len, printed.splitlines())) <= 100
    assert f"python -m {module} " in printed
    assert "powered by Hydra" not in printed
    said = words(printed)
    for sentence in docstring(path).removeprefix("Entry point: ").split("\n\n"):
        if not sentence.startswith(" "):
            assert words(sentence) in said
    for entry in explained.choices(config):
        assert f"  {entry.group}={entry.choice}\n" in printed
        assert entry.comment, entry.group
        assert words(entry.comment) in said
        assert words(", ".join(explained.options(explained.bare(entry.group)))) in said
    for key in explained.read(config).keys:
        if key.name == "how":
            continue
        name = key.name.removeprefix("how.")
        assert re.search(rf"^  {re.escape(name)}[=:]", printed, re.MULTILINE)
        assert words(key.comment) in said
    for group, comment in READ_BY_ITSELF.get(config, {}).items():
        assert f"  {group}=null\n      {comment}" in printed
    assert re.search(r"^Exit codes: 0 ", printed, re.MULTILINE)
    assert ("--cfg job" in printed) == (config != "profile")  # which Hydra does not start


def test_groups_that_a_choice_brings_along_are_there():
    groups = {entry.group: entry.choice for entry in explained.choices("train")}
    assert groups["method"] == "badam"
    assert groups.items() >= {"partition": "by_layer", "order": "random_reshuffle", "rule": "adam"}.items()
    assert not any(group.startswith(("hydra", "override", "/")) for group in groups)


def shown(name):
    """Every key of a file as help has it, and what the file really holds below that key."""
    tree = yaml.safe_load((ROOT / f"conf/{name}.yaml").read_text()) or {}
    for key in explained.read(name).keys:
        yield key, at(tree, key.name)


def at(tree, name):
    """The value by its dotted name; a key may have dots itself, as the axes of a study have."""
    if name in tree:
        return tree[name]
    first = next(key for key in tree if name.startswith(f"{key}."))
    return at(tree[first], name.removeprefix(f"{first}."))


@pytest.mark.parametrize("name", FILES)
def test_keys_and_values_are_those_of_the_file(name):
    named = set()
    for key, value in shown(name):
        named.add(key.name)
        if key.value == "" or (isinstance(value, dict) and key.value == "{" + ", ".join(map(str, value)) + "}"):
            continue
        assert yaml.safe_load(key.value) == value, key
    tree = yaml.safe_load((ROOT / f"conf/{name}.yaml").read_text()) or {}
    wanted = {str(key) for key in tree if key not in explained.NOT_SHOWN}
    assert {place.partition(".")[0] for place in named} == wanted


@pytest.mark.parametrize("name", [name for name in FILES if "/" not in name])
def test_every_option_of_a_command_is_explained(name):
    keys = {key.name: key for key in explained.read(name).keys}
    for key in keys.values():
        above = key.name.rpartition(".")[0]
        is_entry = above in keys and keys[above].comment and above in ("sets", "tiers")  # of a list under one comment
        assert key.comment or is_entry, key.name


@pytest.mark.parametrize("name", [name for name in FILES if "/" in name])
def test_every_choice_says_what_it_is(name):
    group, _, option = name.partition("/")
    assert explained.read(name).header
    printed = text(["--help", f"{group}={option}"], "train", "x", "") if group in TRAINS else ""
    assert words(" ".join(explained.read(name).header)) in words(printed) or group not in TRAINS
    assert all(len(line) <= 100 for line in printed.splitlines())


TRAINS = {entry.group for entry in explained.choices("train")}


def test_a_choice_has_the_options_of_what_it_stands_on():
    printed = text(["--help", "method=variant/badam_blocks5_slow"], "train", "x", "")
    assert "Five layers a block with visits five times as long" in printed
    assert re.search(r"^  method\.inner_steps=15 +K, the length of a visit$", printed, re.MULTILINE)
    assert re.search(r"^  partition\.size=5$", printed, re.MULTILINE)
    assert re.search(r"^  method\.state=reset +optimizer state between visits", printed, re.MULTILINE)


def test_a_group_lists_what_each_choice_is():
    printed = words(text(["order", "-h"], "train", "x", ""))
    for option in explained.options("order"):
        assert words(f"{option} {' '.join(explained.read(f'order/{option}').header)}") in printed


def test_comments_beside_below_and_above(tmp_path, monkeypatch):
    (tmp_path / "made.yaml").write_text(
        "# @package _global_\n# What it is.\nplain: 1   # one\n# Said above.\nabove: 'a # b'   # and beside\n"
        "listed:       # of some\n  - x\n  - y\nnested:\n  inner: {a: 1}   # first\n"
        "                  # second\nlast: null\n"
    )
    monkeypatch.setattr(explained, "CONF", tmp_path)
    explained.read.cache_clear()
    file = explained.read("made")
    explained.read.cache_clear()
    assert file.header == ("What it is.",)
    assert [(key.name, key.value, key.comment) for key in file.keys] == [
        ("plain", "1", "one"),
        ("above", "'a # b'", "Said above. and beside"),
        ("listed", "[x, y]", "of some"),
        ("nested.inner", "{a: 1}", "first second"),
        ("last", "null", ""),
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("method=bdam", "error: method=bdam is not one of adalomo, adamw"),
        ("methods", "error: --help methods: methods is not one of model, data"),
    ],
)
def test_a_wrong_word_is_one_line(given, message, capsys):
    with pytest.raises(SystemExit) as end:
        answer([given, "--help"], "train", "experiments.train", "")
    assert end.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(message)
    assert len(printed.err.splitlines()) == 1


def test_without_the_flag_nothing_happens(capsys):
    answer(["method=bdam"], "train", "experiments.train", "")
    assert capsys.readouterr() == ("", "")


def test_a_command_line_that_ran_may_get_help_appended():
    printed = text(["steps=5", "-m", "seed=0,1", "--help"], "train", "experiments.train", "")
    assert printed.startswith("python -m experiments.train")
    assert text(["method=lora,adamw", "--help"], "train", "x", "").count("\nOptions:\n") == 2


ALL = """
import contextlib, io, runpy, sys
for module in sys.argv[1:]:
    sys.argv, out = [module, "--help"], io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            assert end.code == 0, module
    assert out.getvalue().startswith(f"python -m {module} "), module
slow = {"torch", "transformers", "numpy", "hydra"} & set(sys.modules)
assert not slow, slow
"""


@pytest.mark.integration
def test_nothing_slow_is_imported():
    modules = [module for *_, module in COMMANDS]
    done = subprocess.run([sys.executable, "-c", ALL, *modules], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


WITHOUT = "theory.certificates.verify"  # a checker that is kept short, to be read: its arguments are files
OTHERS = sorted(
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__main__")
    for folder in ("experiments", "theory", "paper", "records")
    for path in (ROOT / folder).rglob("*.py")
    if '\nif __name__ == "__main__":\n' in path.read_text() and not STARTED.search(path.read_text())
)


@pytest.mark.integration
@pytest.mark.parametrize("module", [name for name in OTHERS if name != WITHOUT])
def test_the_other_commands_explain_every_argument_and_do_nothing(module):
    done = run_module(module, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: ")
    assert max(map(len, done.stdout.splitlines())) <= 100
    listed = re.split(r"^(?:positional arguments|options):\n", done.stdout, flags=re.MULTILINE)[1:]
    entries = re.split(r"^  (?=\S)", "\n".join(listed), flags=re.MULTILINE)[1:]
    assert entries
    for entry in entries:
        assert re.search(r"\S(?:  +|\n {10,})\S", entry), f"{entry!r} is not explained"
    refused = run_module(module, "--no-such-option")
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
