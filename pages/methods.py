"""One page a method: its configuration and all of its runs."""

from collections.abc import Iterator, Mapping, Sequence

import yaml

from pages.page import Cell, Code, Page, Part, Table, method_path, missing, number, source, words
from paper.read import studies
from paper.read.names import data_named, model_named, named
from paper.read.studies import Row
from records import Record

PATH, TITLE = "methods.html", "Methods"
SHOWN = ("headline", "methods", "variants", "quick")
"""Studies whose configuration of a method is shown, the first that has it; else that of its first run."""


def by_method(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Method, in the order of print -> its finished and failed runs.

    Args:
        records: train records of all studies.
    """
    together: dict[str, list[Record]] = {row.method: [] for row in studies.rows(records)}
    for record in records:
        together.setdefault(Row(record).method, []).append(record)
    return together


def pages(methods: Mapping[str, Sequence[Record]]) -> Iterator[Page]:
    """The table of all methods and the page of each.

    Args:
        methods: as `by_method` returns them.
    """
    parts: list[Part] = []
    if methods:
        heads = ["method", "trains", "runs", "failed", "studies"]
        lines = [
            [
                words(named(method), method_path(method)),
                words("one block" if Row(runs[0]).has_blocks else "all at once"),
                number(len(runs), "d"),
                number(sum(run.status == "failed" for run in runs), "d"),
                number(len({run.study for run in runs}), "d"),
            ]
            for method, runs in methods.items()
        ]
        parts.append(Table("Every method that was run", heads, lines))
    else:
        parts.append(missing("Every method", "headline"))
    yield Page(PATH, TITLE, parts)
    for method, runs in methods.items():
        yield _method(method, runs)


def _method(method: str, runs: Sequence[Record]) -> Page:
    shown = min(runs, key=lambda run: SHOWN.index(run.study) if run.study in SHOWN else len(SHOWN))
    chosen = {axis: value for axis, value in Row(shown).config["choices"].items() if value}
    text = yaml.safe_dump({"choices": chosen, "method": shown.config["method"]}, sort_keys=False)
    heads = ["study", "run", "data", "model", "seed", "learning rate", "steps", "part", "loss", "minutes", "peak (GB)"]
    heads += ["status", "commit"]
    lines = [_line(run) for run in sorted(runs, key=lambda run: (run.study, run.name))]
    by_study = studies.groups(map(Row, runs), lambda row: row.record.study)
    of = source([row.record for row in rows] for rows in by_study.values())
    parts: list[Part] = [
        Code(f"Configuration, as {shown.name} of the study {shown.study} ran it", text),
        Table(f"{len(runs)} runs", heads, lines, of),
    ]
    return Page(method_path(method), words(named(method)).text, parts, above=(PATH, TITLE))


def _line(run: Record) -> list[Cell]:
    row, done = Row(run), run.status == "finished"
    seconds = [each for each in row.steps.get("seconds", ()) if each is not None] if done else []
    status = run.status if done else f"failed: {run.error.splitlines()[0]}"
    commit = run.provenance["commit"][:10] + ("+changes" if run.provenance["dirty"] else "")
    return [
        words(run.study.replace("_", " ")),
        Cell(run.name, run.name),
        words(data_named(row.data)),
        words(model_named(row.model)),
        number(row.seed, "d"),
        number(row.value("method.lr"), "g"),
        number(row.config["steps"], ",d"),
        words(row.part if done else "–"),
        number(row.reported if done else None, ".4f"),
        number(sum(seconds) / 60 if seconds else None, ".1f"),
        number(row.peak if done else None, ".1f", 1e-9),
        Cell(status, status),
        words(commit),
    ]
