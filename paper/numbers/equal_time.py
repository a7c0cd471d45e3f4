"""The numbers of the study at equal time besides the losses, as macro name -> text."""

from collections.abc import Mapping, Sequence

from paper.read import frontier, studies, tuning
from paper.read.names import data_named, named, source_of_all
from paper.read.studies import Row
from records import Record


def at_equal_time(
    equal_time: Sequence[Record], steps_alone: Sequence[Record], tuned: Sequence[Record]
) -> dict[str, str]:
    """What the study's text says besides the losses.

    Within are the methods that end at LoRA's mean loss or below, with its peak of memory or less; Ratios say how many
    times LoRA's steps BAdam has; Edges are methods whose learning rate lies at the edge of its grid; Timed says where
    the seconds of a step are from.
    """
    rows = studies.rows(equal_time)
    cells = studies.by_data(rows)
    edges = {(choice.method, choice.data) for choice in _short(tuned) if choice.at_edge}
    at_edge = {named(row.method): None for row in rows if (row.method, row.data) in edges}
    printed = {data: data_named(data) for data in cells}
    both = [data for data in cells if {"badam", frontier.TARGET} <= cells[data].keys()]
    steps = {data: {name: runs[0].config["steps"] for name, runs in cells[data].items()} for data in both}
    return {
        "StudyEqualTimeWithin": "; ".join(f"on {printed[data]} {_within(of_data)}" for data, of_data in cells.items()),
        "StudyEqualTimeRatios": " and ".join(
            f"{steps[data]['badam'] / steps[data][frontier.TARGET]:.2f} on {printed[data]}" for data in both
        )
        or "--",
        "StudyEqualTimeEdges": ", ".join(at_edge) or "none",
        "StudyEqualTimeTimed": source_of_all(steps_alone) if steps_alone else "not run",
    }


def _short(tuned: Sequence[Record]) -> list[tuning.Choice]:
    """The choices that the runs at equal time have: those of the main comparison."""
    return [choice for choice in tuning.choices(tuned) if not choice.over_epochs]


def _within(cells: Mapping[str, Sequence[Row]]) -> str:
    reached = {name: (studies.loss(runs).mean, studies.peak(runs)) for name, runs in cells.items()}
    limit, memory = reached.pop(frontier.TARGET, (None, None))
    if limit is None or memory is None:
        return "cannot be told"
    below = sorted((loss, name, peak) for name, (loss, peak) in reached.items() if loss <= limit)
    if any(peak is None for _, _, peak in below):
        return "cannot be told"
    return ", ".join(named(name) for _, name, peak in below if peak is not None and peak <= memory) or "none"
