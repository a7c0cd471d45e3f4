"""What Hydra refuses, as one line that names the word of the command line and what to write instead."""

import re
import shlex

import hydra
import pytest
from hydra import initialize_config_dir
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from cli import explained
from cli.errors import HYDRA_FLAGS, in_one_line, refused, require_plain
from tests.conftest import ROOT
from tests.cover import crossed

COMMANDS = ("train", "evaluate", "overlap", "curvature", "profile", "verify")
PATHS = (
    "/data/chat.jsonl",
    "./chat.jsonl",
    "../chat.parquet",
    "~/chat.json",
    "chat.jsonl",
    "/data/year=2026/chat.jsonl",
    "/data/my chat (1).jsonl",
    "/daten/übung/データ.jsonl",
    "C:\\data\\chat.jsonl",
    "/data/100%#1.jsonl",
    "/it's/chat.jsonl",
    "hub/name",
)
NAMES = ("données", "a=b", "", "null", "1e5", "true", "{a: 1}", "[a, b]", "$x", "no name")
GROUPS = [(name, explained.bare(entry.group)) for name in COMMANDS for entry in explained.choices(name)]


def refusal(command, *words):
    """The line for words that Hydra refuses."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        try:
            hydra.compose(command, overrides=list(words))
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            return in_one_line(str(error), words)
    pytest.fail(f"{words} is not refused")


@crossed(lambda value: value if isinstance(value, str) else ":".join(value), place=sorted(set(GROUPS)), typed=PATHS)
def test_a_path_as_a_choice_is_one_line_with_the_way(place, typed):
    command, group = place
    line = refusal(command, f"{group}={typed}")
    assert line.startswith(f"{group}={typed} is not one of "), line
    there = [name for name in explained.options(group) if "/" not in name]
    assert ", ".join(there) in line
    way = {
        "data": "for a file of your own: data=file data.path=FILE",
        "model": "for a folder or a hub name: model=pretrained model.path=FOLDER_OR_HUB_NAME",
    }
    assert line.endswith("; " + way.get(group, f"a file of your own goes to conf/{group}/NAME.yaml"))
    assert "\n" not in line
    assert "hydra.cc" not in line


@pytest.mark.parametrize("typed", NAMES)
def test_a_choice_that_is_no_name_is_one_line(typed):
    line = refusal("train", f"data={typed}")
    assert re.match(r"data=.* is not one of alpaca, alpaca_cleaned, digits, .*reasoning_gym$", line), line


def test_a_choice_in_a_folder_shows_that_folder():
    assert "is not one of variant/above_factored, " in refusal("train", "method=variant/nope")
    assert refusal("train", "method=nope").endswith("soap, peer/..., variant/...")


VALUES = [path for path in PATHS if re.search(r"[^\w./: \\%~]|^~|[ü#]", path)]


@pytest.mark.parametrize("typed", [*VALUES, "/a;b", "/a&b|c", "/x/{a}", "/a,b", 'say "hi" (1)', "[open"])
def test_a_value_that_must_be_quoted_comes_quoted(typed):
    """What is shown is typed into a shell again, and gives the value."""
    line = refusal("train", "data=gsm8k", f"data.source.local={typed}")
    assert line.startswith(f"data.source.local={typed}: ")
    assert "\n" not in line
    assert "hydra.cc" not in line
    quoted = re.search(r": ('data\.source\.local=.*?)(; as a list: .*)?$", line)[1]
    (word,) = shlex.split(quoted)
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        assert hydra.compose("train", overrides=["data=gsm8k", word]).data.source.local == typed


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["/data/chat.jsonl"], "/data/chat.jsonl is no option=value"),
        (["data"], "data is no option=value"),
        (["=5"], "=5 is no option=value: nothing is not the name of an option"),
        (["dat a=gsm8k"], "dat a=gsm8k is no option=value: dat a is not the name of an option"),
        (["data=gsm8k,math"], "data=gsm8k,math: a comma makes one run of each value, which needs -m"),
        (["+method=lora"], "+method=lora: write method=lora, which chooses in place of what is chosen"),
        (
            ["data=gsm8k", "++method=lora"],
            "++method=lora: write method=lora, which chooses in place of what is chosen",
        ),
        (["seed=1", "-m", "steps=(1"], "steps=(1: quote the value, once more than for the shell: 'steps=\"(1\"'"),
    ],
)
def test_other_words(words, line):
    assert refusal("train", *words) == line


@pytest.mark.parametrize("typed", ["gsm8k.yaml", "/gsm8k", "alpaca,gsm8k.yaml", "[gsm8k.yaml]"])
def test_a_choice_under_another_spelling_is_refused(typed):
    """Hydra takes it, and the records would have a data set of that name."""
    with pytest.raises(ValueError, match=r"is not the name of a choice; write data=gsm8k$"):
        require_plain([f"data={typed}"])


@pytest.mark.parametrize(
    ("typed", "written"),
    [("--data=gsm8k", "data=gsm8k"), ("--method.lr=1e-3", "method.lr=1e-3"), ("--force", "force=...")],
)
def test_an_option_with_dashes_is_refused_in_one_line(typed, written):
    with pytest.raises(ValueError, match=rf"^{typed}: options have no dashes; write {re.escape(written)}$"):
        require_plain(["seed=1", typed])


def test_flags_of_hydra_pass():
    from hydra._internal.utils import get_args_parser

    flags = {flag for action in get_args_parser()._actions for flag in action.option_strings if flag.startswith("--")}
    assert flags == HYDRA_FLAGS
    require_plain([*sorted(flags), "-m", "--config-dir=/own", "--cfg=job"])


def test_names_of_choices_pass():
    require_plain(["method=variant/hift,peer/badam", "data=gsm8k", "studies=[quick]", "-m", "seed=0,1", "a=(b"])


def test_an_error_that_says_nothing_is_told_by_its_cause(capsys):
    error = HydraException("")
    error.__cause__ = KeyError("null is no key")
    with pytest.raises(SystemExit), refused([]):
        raise error
    assert "null is no key" in capsys.readouterr().err
    with pytest.raises(SystemExit), refused([]):
        raise HydraException("")
    assert capsys.readouterr().err == "error: HydraException\n"
