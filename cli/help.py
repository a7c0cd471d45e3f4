"""What `--help` prints: what a command does, what there is to choose, and every option, from the comments of conf/.

`--help` explains the command, `--help GROUP` lists what a group has, `--help GROUP=NAME` explains one choice. The
command itself is explained by the docstring of its module. Nothing is imported for it that takes long.
"""

import re
import sys
import textwrap
from collections.abc import Iterator, Sequence

from cli import explained
from cli.explained import Key

WIDTH = 100
COLUMN = 34
"""Where the comments of options begin."""
FLAGS = {"-h", "--help"}
READ_BY_ITSELF = {"profile": {"sweep": "a frozen list of runs; only=PART,... keeps those with such names"}}
"""Folders of conf/ that a command reads without Hydra, and what they are for."""
HYDRA_FLAGS = """\
--cfg job           prints the configuration with the given choices, and runs nothing
-m a=1,2 b=x,y      runs every combination
--hydra-help        lists Hydra's own flags"""
EXIT_CODES = """\
Exit codes: 0 all is there, 1 something failed and the rest was done, 2 bad input, told in one line, 75 after
SIGTERM and 130 after Ctrl-C (the same command goes on)"""


def answer(words: Sequence[str], config: str, module: str, doc: str | None) -> None:
    """Print the help and exit, if the command line asks for it.

    Args:
        words: of the command line.
        config: name of the command's file in conf/.
        module: that `python -m` runs.
        doc: its docstring.

    Raises:
        SystemExit: with 0 after the help, with 2 after one line for a choice that does not exist.
    """
    if not FLAGS & set(words):
        return
    try:
        print(text(words, config, module, doc or ""))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    raise SystemExit(0)


def text(words: Sequence[str], config: str, module: str, doc: str) -> str:
    """The help that the words of a command line ask for.

    Args:
        words: a group, or a choice of a group; without any the command is explained. Values of options say nothing.
        config: name of the command's file in conf/.
        module: that `python -m` runs.
        doc: its docstring.

    Raises:
        ValueError: for a word that is no group, and a choice that does not exist.
    """
    known = [explained.bare(each.group) for each in explained.choices(config)]
    known += READ_BY_ITSELF.get(config, {})
    parts = []
    for word in words:
        group, given, name = word.lstrip("+").partition("=")
        if word.startswith("-"):
            continue
        if explained.bare(group) in known:
            group = explained.bare(group)
            parts += [_choice(group, one) for one in name.split(",")] if given else [_group(group)]
        elif not given:
            raise ValueError(f"--help {word}: {word} is not one of {', '.join(dict.fromkeys(known))}")
    return "\n\n".join(parts) if parts else _command(config, module, doc)


def _command(config: str, module: str, doc: str) -> str:
    listed = [(each.group, each.choice, each.comment) for each in explained.choices(config)]
    listed += [(group, "null", comment) for group, comment in READ_BY_ITSELF.get(config, {}).items()]
    words = [f"python -m {module}", *["[choice=NAME ...]"][: len(listed)], "[option=value ...]"]
    lines = [" ".join(words), "", *paragraphs(doc)]
    if listed:
        lines += ["", "Choices; --help GROUP says more of one, --help GROUP=NAME has its options:"]
    told: set[str] = set()
    for group, choice, comment in listed:
        lines += [f"  {group}={choice}", *_wrapped(comment, 6)]
        folder = explained.bare(group)
        if folder not in told:
            lines += _wrapped(", ".join(explained.options(folder)), 6)
        told.add(folder)
    keys = explained.read(config).keys
    short = [Key(key.name.removeprefix("how."), key.value, key.comment) for key in keys if key.name != "how"]
    lines += ["", "Options:", *_options(short)]
    if explained.read(config).hydra:
        lines += ["", *HYDRA_FLAGS.splitlines()]
    if "Exit codes" not in doc:
        lines += ["", *textwrap.wrap(EXIT_CODES, WIDTH)]
    return "\n".join(lines)


def _group(group: str) -> str:
    """Every option of a group, with what its file says first."""
    lines = [f"{group}="]
    for option in explained.options(group):
        first = " ".join(explained.read(f"{group}/{option}").header)
        lines += _entry(option, first)
    return "\n".join(lines)


def _choice(group: str, option: str) -> str:
    if option == "null":
        return f"{group}=null: none"
    if option not in explained.options(group):
        raise ValueError(f"{group}={option} is not one of {', '.join(explained.options(group))}")
    file = explained.read(f"{group}/{option}")
    lines = [f"{group}={option}", *_wrapped(" ".join(file.header), 2)]
    brought = [each for each in file.defaults if each.group]
    if brought:
        lines += ["", "It chooses:"]
        lines += _options(
            [Key(each.group.removeprefix("override ").lstrip("/"), each.choice, each.comment) for each in brought]
        )
    if keys := explained.keys_of(group, option):
        lines += ["", "Options:", *_options(keys)]
    return "\n".join(lines)


def _options(keys: Sequence[Key]) -> list[str]:
    return [line for key in keys for line in _option(key)]


def _option(key: Key) -> list[str]:
    value = "=" + key.value if key.value else ":" if key.comment else "="
    name = f"{key.name}{value}"
    return _entry(name if len(name) <= WIDTH - 2 else f"{name[: WIDTH - 6]} ...", key.comment)


def _entry(name: str, comment: str) -> list[str]:
    """A name and its comment beside it, or below it where the name is long."""
    if not comment:
        return [f"  {name}"]
    described = textwrap.wrap(comment, WIDTH - COLUMN, break_on_hyphens=False)
    if len(name) + 4 > COLUMN:
        return [f"  {name}", *(" " * COLUMN + line for line in described)]
    first, *others = described
    return [f"  {name}".ljust(COLUMN) + first, *(" " * COLUMN + line for line in others)]


def _wrapped(comment: str, indent: int) -> list[str]:
    return textwrap.wrap(
        comment, WIDTH, initial_indent=" " * indent, subsequent_indent=" " * indent, break_on_hyphens=False
    )


def paragraphs(doc: str) -> Iterator[str]:
    """The docstring with its paragraphs wrapped."""
    for number, paragraph in enumerate(re.split(r"\n\n+", doc.strip())):
        if number:
            yield ""
        if paragraph.startswith(" "):
            yield from _examples(paragraph.splitlines())
        else:
            yield from textwrap.wrap(paragraph.removeprefix("Entry point: "), WIDTH, break_on_hyphens=False)


def _examples(lines: Sequence[str]) -> Iterator[str]:
    """Command lines with the remarks beside them, or above them where that is too wide."""
    parted = [re.fullmatch(r"( *\S.*?)(?:  +(?:# )?(\S.*))?", line) for line in lines]
    examples = [(match[1], match[2] or "") for match in parted if match]
    column = max(len(example) for example, _ in examples) + 3
    beside = all(column + len(f"# {remark}") <= WIDTH for _, remark in examples)
    for example, remark in examples:
        if remark and beside:
            yield f"{example:{column}}# {remark}"
        else:
            yield from [f"    # {remark}", example] if remark else [example]
