"""The main result and the frontier: loss, memory and time of every method."""

from collections.abc import Iterator, Mapping, Sequence

from pages.page import (
    Cell,
    Page,
    Part,
    Picture,
    Table,
    estimate,
    interval,
    method_link,
    missing,
    number,
    source,
    words,
)
from paper.figures import frontier as frontier_figure
from paper.figures import headline as headline_figure
from paper.read import frontier, studies
from paper.read.names import data_named, model_named, named
from paper.read.studies import Compared, Row
from records import Record

STUDIES = {
    **headline_figure.STUDIES,
    **frontier_figure.STUDIES,
    "steps_alone": ("profile", "steps_alone"),
}
REFERENCES = ("lora", "adamw")
WITHIN = {True: "yes", False: "no", None: "–"}


def headline(records: Mapping[str, Sequence[Record]], methods: Mapping[str, object]) -> Page:
    """A table for each data set and length of training.

    Args:
        records: argument of `STUDIES` -> its records.
        methods: those with a page.
    """
    over_epochs = studies.over_epochs(records)
    parts: list[Part] = []
    if records["headline"] or over_epochs:
        caption = "Loss of every method at equal steps and in LoRA's time, and the bytes it would need at 8B."
        used = {name: records[name] for name in headline_figure.STUDIES}
        parts.append(Picture("headline", "Final loss of every method", caption, headline_figure.draw(**used)))
        parts.append(
            "Each learning rate is tuned for its method and data set. Losses are in nats a token, with the 95 % "
            "interval of the mean over seeds; differences are paired by seed. Lower is better: a negative difference "
            "is an advantage over the method it is taken against."
        )
    else:
        parts.append(missing("The main comparison", "headline"))
    for group in (records["headline"], records["equal_time"], over_epochs):
        for cells in studies.by_data(studies.rows(group)).values():
            parts.append(_losses(cells, records["steps_alone"], methods))
    return Page("index.html", "Results", parts)


def _losses(cells: Mapping[str, list[Row]], alone: Sequence[Record], methods: Mapping[str, object]) -> Table:
    rows = [row for runs in cells.values() for row in runs]
    losses = {name: studies.losses(runs) for name, runs in cells.items()}
    tests = {other: studies.against(losses, other) for other in REFERENCES}
    seconds = studies.seconds_alone(alone, cells)
    heads = ["method", "seeds", "learning rate", f"{studies.part(rows)} loss"]
    heads += [f"minus {named(other)}" for other in REFERENCES]
    heads += ["steps", "gradients and state (MB)", "peak (GB)", "step alone (ms)"]
    lines = []
    for name, runs in sorted(cells.items(), key=lambda item: studies.loss(item[1]).mean):
        lines.append(
            [
                words(named(name), method_link(name, methods)),
                number(len(runs), "d"),
                number(runs[0].value("method.lr"), "g"),
                estimate(studies.loss(runs)),
                *(_difference(tests[other].get(name)) for other in REFERENCES),
                number(runs[0].config["steps"], ",d"),
                number(max(row.held for row in runs), ",.0f", 1e-6),
                number(studies.peak(runs), ".1f", 1e-9),
                number(seconds.get(name), ".0f", 1e3),
            ]
        )
    first = rows[0]
    where = f"{model_named(first.model)} on {data_named(first.data)}, {studies.regime(rows)}"
    by_study = studies.groups(rows, lambda row: row.record.study)
    return Table(where, heads, lines, source([row.record for row in runs] for runs in by_study.values()))


def _difference(found: Compared | None) -> Cell:
    difference = found.difference if found else None
    return interval(difference.mean, difference.low, difference.high) if difference else Cell("–")


def frontier_page(records: Mapping[str, Sequence[Record]], methods: Mapping[str, object]) -> Page:
    """Loss at 135M against the cost of a step at 8B, a table for each data set.

    Args:
        records: argument of `STUDIES` -> its records.
        methods: those with a page.
    """
    used = {name: records[name] for name in frontier_figure.STUDIES}
    sets = frontier.losses_of(studies.over_epochs(records), records["variants"], records["methods"])
    large = {
        data: frontier.large(rows, records["predicted"], records["measured"], records["cost"])
        for data, rows in sets.items()
    }
    parts: list[Part] = []
    if any(large.values()):
        caption = "A method in the green box reaches LoRA's loss and needs no more than LoRA."
        parts.append(
            Picture("frontier", "Loss against the cost of a step at 8B", caption, frontier_figure.draw(**used))
        )
    else:
        parts.append(missing("The frontier of loss and cost", "variants"))
    for data, entries in large.items():
        heads = [
            "method",
            "trains",
            f"{studies.part(sets[data])} loss",
            "predicted peak (GB)",
            "step (s)",
            "within LoRA's",
        ]
        lines = [
            [
                words(named(entry.method), method_link(entry.method, methods)),
                words("one block" if entry.block else "all at once"),
                estimate(entry.loss),
                number(entry.peak, ".1f", 1e-9),
                number(entry.seconds),
                words(WITHIN[entry.within]),
            ]
            for entry in entries
        ]
        where = f"{data_named(data)}, {studies.regime(sets[data])}"
        caption = f"{where}: loss at 135M, bytes and seconds of a step of Llama 3-8B"
        parts.append(Table(caption, heads, lines, source(used.values())))
    return Page("frontier.html", "Frontier", parts)


def pages(records: Mapping[str, Sequence[Record]], methods: Mapping[str, object]) -> Iterator[Page]:
    """Both pages.

    Args:
        records: argument of `STUDIES` -> its records.
        methods: those with a page.
    """
    yield headline(records, methods)
    yield frontier_page(records, methods)
