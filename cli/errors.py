"""Hydra's errors in one line that names the word of the command line, the reason and what to write instead."""

import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from cli.explained import CONF, bare, options

FULL = "HYDRA_FULL_ERROR"
HYDRA_FLAGS = {
    *("--help", "--hydra-help", "--version", "--cfg", "--resolve", "--package", "--run", "--multirun", "--info"),
    *("--shell-completion", "--config-path", "--config-name", "--config-dir", "--experimental-rerun"),
}
WHERE = "--cfg job prints all that there are"
OWN = {
    "data": "for a file of your own: data=file data.path=FILE",
    "model": "for a folder or a hub name: model=pretrained model.path=FOLDER_OR_HUB_NAME",
}
"""What a path is meant for where a name of a choice is asked; elsewhere it is a file for conf/."""
OWN_DATA = re.compile(
    r"data[._](path|files?|folder|name|dataset|local|hub|source)\b.*|dataset\w*|(train_)?(file|path)"
)
"""Options of other tools, and of other data, by which a file of one's own may be meant."""


@contextmanager
def refused(words: Sequence[str]) -> Iterator[None]:
    """What Hydra refuses inside the block is a line on stderr and exit code 2; HYDRA_FULL_ERROR=1 shows the traceback.

    Args:
        words: of the command line.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    asked = FULL in os.environ
    with raised_by_hydra():
        try:
            yield
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            if asked:
                raise
            print(f"error: {in_one_line(said(error), words)}", file=sys.stderr)
            raise SystemExit(2) from None


def said(error: BaseException) -> str:
    """What the error says, or the nearest of its causes that says something (Hydra wraps some in an empty one)."""
    cause: BaseException | None = error
    while cause is not None and not str(cause).strip():
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__ if cause is None else str(cause)


@contextmanager
def raised_by_hydra() -> Iterator[None]:
    """Inside the block Hydra raises what it would report in thirty lines."""
    asked = FULL in os.environ
    os.environ.setdefault(FULL, "1")
    try:
        yield
    finally:
        if not asked:
            os.environ.pop(FULL, None)


def require_plain(words: Sequence[str]) -> None:
    """Check what Hydra would take otherwise than it was meant, or refuse in twenty lines.

    Args:
        words: of the command line.

    Raises:
        ValueError: for an option with dashes, and for a choice under another spelling, which the records would keep.
    """
    for word in words:
        key, given, value = word.partition("=")
        if key.startswith("--") and key not in HYDRA_FLAGS:
            raise ValueError(f"{word}: options have no dashes; write {key[2:]}={value if given else '...'}")
    for group, names in _choices(words):
        for name in names:
            plain = str(name).removesuffix(".yaml").strip("/")
            if plain != name and plain in options(group):
                raise ValueError(f"{group}={name} is not the name of a choice; write {group}={plain}")


def in_one_line(message: str, words: Sequence[str] = (), where: str = WHERE) -> str:
    """Hydra's message in one line, with what there is instead.

    Args:
        message: of the exception.
        words: of the command line, among which is the one that Hydra's grammar refuses.
        where: what tells the options that there are.

    >>> in_one_line("In 'train': Could not find 'rule/adan'\\nAvailable options in 'rule':\\n\\tadam\\n\\tsgd")
    'rule=adan is not one of adam, sgd'
    >>> in_one_line("Could not override 'metod'.\\nTo append to your config use +metod=badam")
    "there is no option 'metod' here, with the method and the other choices given; --cfg job prints all that there are"
    >>> in_one_line("mismatched input '='", ["data.source.local=/year=2026/chat.jsonl"])
    'data.source.local=/year=2026/chat.jsonl: quote the value, once more than for the shell: \
\\'data.source.local="/year=2026/chat.jsonl"\\''
    """
    lines = [line for line in message.partition("Config search path")[0].splitlines() if line.strip()]
    if missing := re.search(r"Could not (?:find|load) '([^'/]+)/(.*)'", message):
        return _no_choice(missing[1], missing[2], [line.strip() for line in lines if line.startswith("\t")])
    if ambiguous := re.match(r"Ambiguous value for argument '(.*)'$", message, re.MULTILINE):
        return _several(ambiguous[1])
    for word in words:
        if not word.startswith("-") and (_parsed(word) is None or word.startswith("=")):
            return _unreadable(word)
    if re.search(r"Multiple values for|appears more than once|force-add of config groups", message):
        for word in words:
            key, _, name = word.partition("=")
            if key.startswith("+") and _is_group(bare(key.lstrip("+"))):
                return f"{word}: write {key.lstrip('+')}={name}, which chooses in place of what is chosen"
    for word in words:
        if word.startswith("-") and re.search("LexerNoViableAlt|[Ee]xpecting|no viable", message):
            return f"{word} is no option=value"
    for group, names in _choices(words):
        for name in names:
            if not isinstance(name, str):
                return _no_choice(group, name)
    if unknown := re.search(r"Could not override '([^']+)'", message):
        own = f"; {OWN['data']}" if OWN_DATA.fullmatch(unknown[1]) else ""
        return f"there is no option '{unknown[1]}' here, with the method and the other choices given; {where}{own}"
    return " ".join(line.strip() for line in lines)


def _choices(words: Sequence[str]) -> Iterator[tuple[str, list[Any]]]:
    """(group, names) of every word that chooses, the names as Hydra reads them."""
    for word in words:
        key, given, _ = word.partition("=")
        group = bare(key.lstrip("+"))
        if not given or not _is_group(group):
            continue
        parsed = _parsed(word)
        if parsed is not None and parsed.is_sweep_override():
            yield group, list(parsed.sweep_string_iterator())
        elif parsed is not None:
            value = parsed.value()
            yield group, value if isinstance(value, list) else [value]


def _is_group(name: str) -> bool:
    return bool(re.fullmatch(r"\w+", name)) and (CONF / name).is_dir()


def _parsed(word: str) -> Any:
    """The word as Hydra reads it, None where it cannot."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(word)
    except HydraException:
        return None


def _no_choice(group: str, name: Any, listed: Sequence[str] = ()) -> str:
    there = [each for each in listed or options(group) if "/" not in each]
    inside = sorted({each.rpartition("/")[0] for each in options(group) if "/" in each})
    names = ", ".join([*there, *(f"{folder}/..." for folder in inside)])
    folder = str(name).partition("/")[0]
    if folder in inside:
        names = ", ".join(each for each in options(group) if each.startswith(f"{folder}/"))
    typed = "null" if name is None else str(name)
    is_path = isinstance(name, str) and re.search(r"[/\\~]|\.\w+$", name) and folder not in inside
    way = OWN.get(group, f"a file of your own goes to conf/{group}/NAME.yaml") if is_path else ""
    return f"{group}={typed} is not one of {names}" + (f"; {way}" if way else "")


def _several(word: str) -> str:
    """A word with a comma, which is a list of runs only with -m."""
    key, _, value = word.partition("=")
    quoted = _quoted(word)
    one = f"; as one value: {quoted}" if quoted and not _is_group(bare(key)) else ""
    return f"{word}: a comma makes one run of each value, which needs -m{one}" + (
        f"; as a list: {shlex.quote(f'{key}=[{value}]')}" if one else ""
    )


def _unreadable(word: str) -> str:
    key, given, value = word.partition("=")
    if not given:
        return f"{word} is no option=value"
    if _is_group(bare(key)):
        return _no_choice(bare(key), value)
    if not re.fullmatch(r"[+~]{0,2}[\w.@/-]+", key):
        return f"{word} is no option=value: {key or 'nothing'} is not the name of an option"
    way = _quoted(word)
    return f"{word}: " + (
        f"quote the value, once more than for the shell: {way}" if way else "the value cannot be read"
    )


def _quoted(word: str) -> str:
    """The word for a shell, with the value in quotes of Hydra; "" where that means something else."""
    key, _, value = word.partition("=")
    mark = "'" if '"' in value and "'" not in value else '"'
    quoted = f"{key}={mark}{value.replace(mark, chr(92) + mark)}{mark}"
    parsed = _parsed(quoted)
    return shlex.quote(quoted) if parsed is not None and parsed.value() == value else ""
