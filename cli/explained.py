"""A file of conf/ as --help shows it: what it is for, and its keys with their values and comments."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import yaml

CONF = Path(__file__).resolve().parent.parent / "conf"
NOT_SHOWN = ("hydra", "defaults", "_target_", "_partial_")


@dataclass(frozen=True)
class Key:
    """An option.

    Attributes:
        name: with dots, as on a command line.
        value: as the file has it.
        comment: what the file says about it, on its line, on the lines that go on below that, or above it.
    """

    name: str
    value: str
    comment: str


@dataclass(frozen=True)
class Default:
    """An entry of a defaults list.

    Attributes:
        group: "" for another file of the same folder, or an absolute one.
        choice: "null" for none.
    """

    group: str
    choice: str
    comment: str


@dataclass(frozen=True)
class Explained:
    """A file of conf/.

    Attributes:
        header: the comment that it begins with, as written.
        package: what its keys begin with, "" for those of the whole configuration.
        hydra: whether it has settings of Hydra, as the command has that Hydra starts.
    """

    header: tuple[str, ...]
    package: str
    defaults: tuple[Default, ...]
    keys: tuple[Key, ...]
    hydra: bool


@cache
def read(name: str) -> Explained:
    """A file of conf/ by its name there, without ending.

    Args:
        name: as in "train" or "method/badam".
    """
    lines = (CONF / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    length = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    header = [line[1:].removeprefix(" ") for line in lines[:length]]
    package = name.rpartition("/")[0].replace("/", ".")
    for line in header:
        if found := re.match(r"@package (\S+)", line):
            package = "" if found[1] == "_global_" else found[1]
    root = yaml.compose("\n".join(lines), Loader=yaml.SafeLoader)
    pairs = root.value if root else []
    defaults = [node for key, node in pairs if key.value == "defaults"]
    return Explained(
        header=tuple(line for line in header if not line.startswith("@package")),
        package=package,
        defaults=tuple(_defaults(defaults[0], lines) if defaults else ()),
        keys=tuple(_keys(pairs, [""] * length + lines[length:], "")),
        hydra=any(key.value == "hydra" for key, _ in pairs),
    )


def _defaults(node: yaml.SequenceNode, lines: list[str]) -> Iterator[Default]:
    for item in node.value:
        if isinstance(item, yaml.MappingNode):
            ((group, choice),) = item.value
            yield Default(group.value, choice.value, _comment(group, choice, lines))
        elif item.value != "_self_":
            yield Default("", item.value, "")


def _keys(pairs: list[tuple[yaml.Node, yaml.Node]], lines: list[str], place: str) -> Iterator[Key]:
    """The keys of a block mapping; a mapping inside it of which nothing is said is one key."""
    for key, value in pairs:
        if key.value in NOT_SHOWN:
            continue
        name, comment = f"{place}{key.value}", _comment(key, value, lines)
        if isinstance(value, yaml.MappingNode) and not value.flow_style:
            inner = list(_keys(value.value, lines, f"{name}."))
            flat = not any("." in each.name[len(name) + 1 :] for each in inner)
            if not inner:
                yield Key(
                    name, "{" + ", ".join(f"{k.value}: {_source(v, lines)}" for k, v in value.value) + "}", comment
                )
            elif flat or any(each.comment for each in inner):
                if comment:
                    yield Key(name, "", comment)
                yield from inner
            else:
                yield Key(name, "{" + ", ".join(each.value for each, _ in value.value) + "}", comment)
        else:
            yield Key(name, _source(value, lines), comment)


def _source(node: yaml.Node, lines: list[str]) -> str:
    """The text of a value in one line."""
    first, last = node.start_mark, node.end_mark
    if first.line == last.line:
        return lines[first.line][first.column : last.column].strip()
    if isinstance(node, yaml.SequenceNode) and not node.flow_style:
        return f"[{', '.join(_source(item, lines) for item in node.value)}]"
    text = [lines[first.line][first.column :], *lines[first.line + 1 : last.line], lines[last.line][: last.column]]
    return " ".join(re.sub(r"\s#.*", "", line).strip() for line in text).strip()


def _comment(key: yaml.Node, value: yaml.Node, lines: list[str]) -> str:
    """What is said above a key, on its line and below that."""
    block = isinstance(value, yaml.CollectionNode) and not value.flow_style
    end = key.end_mark if block else value.end_mark
    above, number = [], key.start_mark.line
    while number and re.match(rf" {{{key.start_mark.column}}}#", lines[number - 1]):
        number -= 1
        above.insert(0, lines[number].strip("# "))
    beside = re.match(r"[:,\s]*(?:\s|^)#\s?(.*)", lines[end.line][end.column :])
    if not beside:
        return " ".join(above)
    column = lines[end.line].index("#", end.column)
    below, number = [], end.line + 1
    while number < len(lines) and re.match(rf" {{{column}}}#", lines[number]):
        below.append(lines[number].strip("# "))
        number += 1
    return " ".join([*above, beside[1].strip(), *below])


def options(group: str) -> list[str]:
    """What there is to choose from, those in folders of the group last."""
    files = [path.relative_to(CONF / group).with_suffix("").as_posix() for path in (CONF / group).rglob("*.yaml")]
    return sorted(files, key=lambda name: (name.count("/"), name))


def bare(group: str) -> str:
    """The folder of conf/ of an entry of a defaults list.

    >>> bare("override /rule"), bare("data@reasoning_gym.data")
    ('rule', 'data')
    """
    return group.removeprefix("override ").lstrip("/").partition("@")[0]


def choices(name: str) -> Iterator[Default]:
    """What a command lets choose: the groups of its defaults list, then those that their options bring along.

    Args:
        name: of the command's file.
    """
    entries = [each for each in read(name).defaults if each.group and not bare(each.group).startswith("hydra/")]
    yield from entries
    told = {bare(each.group) for each in entries}
    for folder in sorted(told):
        for option in options(folder):
            for each in read(f"{folder}/{option}").defaults:
                group = bare(each.group)
                is_new = group and group not in told and "@" not in each.group
                if is_new and not each.group.startswith("override"):
                    told.add(group)
                    yield replace(each, group=group)


def keys_of(group: str, option: str) -> list[Key]:
    """The keys that an option sets, with those of the options that it stands on."""
    file = read(f"{group}/{option}")
    found: dict[str, Key] = {}
    for each in file.defaults:
        if not each.group:
            absolute = each.choice.startswith(f"/{group}/")
            base = each.choice.removeprefix(f"/{group}/") if absolute else each.choice
            found |= {key.name: key for key in keys_of(group, base)}
    for key in file.keys:
        name = f"{file.package}.{key.name}" if file.package else key.name
        former = found.get(name)
        found[name] = replace(key, name=name, comment=key.comment or (former.comment if former else ""))
    return list(found.values())
