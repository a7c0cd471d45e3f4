"""Time and memory of a step of Llama 3-8B by every method."""

from collections.abc import Iterator, Mapping, Sequence

from pages.page import Missing, Page, Part, Picture, Table, number, source, words
from paper.figures import cost_memory, cost_pareto, cost_time
from paper.read import cost
from records import Record

STUDIES = {"cost": ("profile", "cost"), "predicted": ("profile", "cost_predicted")}
COMMAND = "python -m experiments.profile sweep=cost device=cuda"
FIGURES = (
    (cost_pareto, "Speed against peak memory", "Tokens a second against peak memory of a step."),
    (cost_time, "Where the time of a step goes", "Time of a step by phase, and its floor."),
    (cost_memory, "Where the bytes are at the peak", "Bytes at the peak by what they hold, measured and predicted."),
)


def pages(records: Mapping[str, Sequence[Record]]) -> Iterator[Page]:
    """The page of the cost.

    Args:
        records: argument of `STUDIES` -> its records.
    """
    measured, predicted = records["cost"], records["predicted"]
    if not measured:
        yield Page("cost.html", "Cost", [Missing("The cost of every method", COMMAND)])
        return
    rows = cost.rows(measured, predicted)
    heads = ["method", "version", "tokens a step", "step (s)", "tokens a second", "of the floor rate (%)", "peak (GB)"]
    heads += ["predicted (GB)", "followed from layers"]
    lines = [
        [
            words(row.label),
            words(cost.in_print(row)),
            number(row.tokens, ",d"),
            number(row.seconds["step"]),
            number(row.tokens_per_second, ",.0f"),
            number(row.share, ".0f", 100),
            number(row.peak, ".1f", 1e-9),
            number(row.predicted.get("peak"), ".1f", 1e-9),
            words(" and ".join(map(str, row.layers)) or "–"),
        ]
        for row in rows
    ]
    caption = f"A step of Llama 3-8B on one {cost.card_name(measured)}"
    parts: list[Part] = [Table(caption, heads, lines, source([measured, predicted]))]
    for module, title, said in FIGURES:
        name = module.__name__.rpartition(".")[2]
        used = {argument: records[argument] for argument in module.SOURCES}
        if all(used.values()):
            parts.append(Picture(name, title, said, module.draw(**used)))
    yield Page("cost.html", "Cost", parts)
