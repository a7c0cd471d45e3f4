"""The theorems: one table of all, and for each a page with its statement, its slack, its lines and its controls."""

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from pages.page import Cell, Code, Page, Part, Picture, Table, missing, number, plain, source, words
from paper.figures import style
from paper.read import theorems
from records import ROOT, Record

STUDIES = {"theory": ("verify", "theory"), "adversary": ("verify", "adversary")}
PATH, TITLE = "theory.html", "Theory"
HOLDS, LARGEST = style.COLOURS["badam"], style.COLOURS["adamw"]


def pages(records: Mapping[str, Sequence[Record]]) -> Iterator[Page]:
    """The table of all theorems and the page of each.

    Args:
        records: argument of `STUDIES` -> its records.
    """
    groups = theorems.by_bound(records["theory"])
    parts: list[Part] = []
    if groups:
        parts.append(
            "Every line of every proof is checked at every inner step of runs of the training code. The ratio of an "
            "instance is measured over bound: 1 is tight. Controls are false versions of the statement, which the "
            "checks must reject."
        )
        parts.append(_overview(groups, records["theory"]))
    else:
        parts.append(missing("The table of all theorems and the page of each", "theory"))
    if records["adversary"]:
        parts.append(_tightness(records["adversary"], groups))
    else:
        parts.append(missing("How tight each theorem is", "adversary"))
    yield Page(PATH, TITLE, parts)
    for bound, group in groups.items():
        yield _theorem(bound, group)


def path(bound: str) -> str:
    """The file of the page of a theorem."""
    return f"theory/{bound}.html"


def _overview(groups: Mapping[str, list[Record]], records: Sequence[Record]) -> Table:
    heads = ["statement", "families", "lines", "checks", "resolved (%)", "instances", "median ratio", "largest ratio"]
    heads += ["controls rejected", "verdict"]
    lines = []
    for bound, group in groups.items():
        found = theorems.summary(group)
        rejected = Cell(f"{found.rejected} of {found.controls}", found.rejected) if found.controls else Cell("–")
        lines.append(
            [
                words(theorems.title(bound), path(bound)),
                number(len(group), "d"),
                number(found.lines, "d"),
                number(found.checks, ",d"),
                number(found.resolved, ".1f", 100),
                number(found.instances, ",d"),
                number(found.median),
                number(found.largest),
                rejected,
                words(theorems.verdict(group)),
            ]
        )
    return Table("Every statement", heads, lines, source([records]))


def _tightness(records: Sequence[Record], groups: Mapping[str, object]) -> Table:
    """Of the search for the instances on which each line is tightest."""
    names = {theorems.theorem(row["bound"]) for row in records[0].measurements["tightness"]}
    links = {theorems.title(bound): path(bound) for bound in groups if theorems.title(bound) in names}
    lines = [
        [
            words(name := theorems.theorem(row["bound"]), links.get(name, "")),
            words(row["target"].replace("_", " ")),
            Cell(row["line"], row["line"]),
            number(row["ratio"], ".4f"),
        ]
        for row in records[0].measurements["tightness"]
    ]
    caption = "The largest ratio of each line that the adversary finds"
    return Table(caption, ["statement", "search", "line", "best ratio"], lines, source([records]))


def _theorem(bound: str, group: Sequence[Record]) -> Page:
    name, every, found = plain(theorems.title(bound)), theorems.lines(group), theorems.summary(group)
    parts: list[Part] = [
        f"Verdict: {theorems.verdict(group)}. {found.checks:,} checks on {len(group)} families of problems, "
        f"{found.violations:,} violations."
    ]
    if any(line["ratio"] is not None for line in every.values()):
        caption = (
            "Left: how much of the statement each instance uses, a tick an instance and a dot at the largest. Right: "
            "the largest left side over right side of each line of the proof. At 1 there is no slack."
        )
        parts.append(Picture(f"slack_{bound}", f"Slack of {name}", caption, slack(group)))
    if statement := _statement(group[0]):
        parts.append(Code("Statement and proof", statement))
    heads = ["line", "kind", "checks", "resolved", "violations", "largest ratio"]
    lines = [
        [
            Cell(key, key),
            words(line["kind"]),
            *(number(line[count], ",d") for count in theorems.COUNTS),
            number(line["ratio"], ".4f"),
        ]
        for key, line in every.items()
    ]
    parts.append(Table("Lines of the proof", heads, lines, source([group])))
    false = [
        [
            Cell(control["name"], control["name"]),
            Cell(control["line"], control["line"]),
            number(control["ratio"], ".3g"),
            words("rejected" if control["rejected"] else "NOT REJECTED"),
        ]
        for control in theorems.controls(group)
    ]
    if false:
        parts.append(Table("False versions", ["control", "line", "ratio", "outcome"], false, source([group])))
    return Page(path(bound), name if name.startswith("Corollary") else f"Theorem {name}", parts, above=(PATH, TITLE))


def _statement(record: Record) -> str:
    """The docstring of the bound's module, "" where this clone has no such module any more."""
    module = Path(*str(record.config["bound"].get("_target_", "")).split(".")[:-1])
    file = (ROOT / module).with_suffix(".py") if module.parts else ROOT
    return ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "" if file.is_file() else ""


def slack(group: Sequence[Record]) -> Figure:
    """Ratios of the instances of each family, and the largest ratio of each line.

    Args:
        group: records of one bound.
    """
    by_family = {theorems.parts(record)[1].replace("_", " "): theorems.ratios([record]) for record in group}
    lines = {name: line["ratio"] for name, line in theorems.lines(group).items() if line["ratio"] is not None}
    drawn, (left, right) = style.figure(2, height=0.9 + 0.2 * max(len(by_family), len(lines)))
    for place, ratios in enumerate(by_family.values()):
        if ratios:
            left.plot(ratios, [place] * len(ratios), "|", color=HOLDS, alpha=0.4, markersize=7)
            left.plot(max(ratios), place, "o", color=LARGEST, markersize=4)
    right.plot(list(lines.values()), range(len(lines)), "o", color=LARGEST, markersize=4)
    for axes, names, label in ((left, by_family, "measured / bound"), (right, lines, "left side / right side")):
        style.named_rows(axes, list(names))
        axes.axvline(1.0, color="black", linewidth=0.8)
        axes.set(xlabel=label)
        right_end = max(1.05, axes.get_xlim()[1])
        axes.set_xlim(-0.03 * right_end, right_end)
    return drawn
