"""Right answers in per cent before and after training, for every downstream task and headline method."""

from collections.abc import Mapping, Sequence

from paper.judge.downstream import verdict
from paper.judge.verdicts import NOT_TESTABLE
from paper.read import downstream
from paper.read.downstream import Tested
from paper.read.formats import percent
from paper.read.names import named
from records import Record

STUDIES = {"evaluated": ("evaluate", "downstream"), "compared": ("compare", "downstream")}
TASKS = {
    "gsm8k": "GSM8K",
    "math": "MATH",
    "svamp": "SVAMP",
    "mawps": "MAWPS",
    "aqua_rat": "AQuA",
    "sat_math": "SAT math",
    "mmlu_math": "MMLU math",
    "arc_easy": "ARC easy",
    "arc_challenge": "ARC challenge",
    "piqa": "PIQA",
    "openbookqa": "OpenBookQA",
    "boolq": "BoolQ",
}


def text(evaluated: Sequence[Record], compared: Sequence[Record]) -> str:
    """A star marks a difference to the untrained model, a dagger one between models that do not beat guessing."""
    models, puzzles = downstream.shares(evaluated), downstream.puzzle_losses(evaluated)
    against = downstream.tests(compared, downstream.UNTRAINED)
    tasks = sorted({task for shares in models.values() for task in shares}, key=list(TASKS).index)
    heads = [rf"\rotatebox{{60}}{{{named(name)}}}" for name in models]
    rows = []
    for task in tasks:
        one = next(shares[task] for shares in models.values() if task in shares)
        least = [shares[task]["smallest_detectable"] for shares in against.values() if task in shares]
        largest = max((value for value in least if value is not None), default=None)
        cells = [_cell(shares.get(task), against.get(name, {}), task) for name, shares in models.items()]
        rows.append([TASKS[task], str(one["items"]), percent(one["chance"]), *cells, percent(largest)])
    below = [["mean", "", "", *(percent(downstream.mean(shares, tasks)) for shares in models.values()), ""]]
    if puzzles:
        losses = [f"{puzzles[name]:.2f}" if name in puzzles else "--" for name in models]
        below.append(["puzzles, loss", "", "", *losses, ""])
    lines = [r"\setlength{\tabcolsep}{3.5pt}", rf"\begin{{tabular}}{{@{{}}lrr{'r' * len(models)}r@{{}}}}", r"\toprule"]
    for part in ([["task", "items", "chance", *heads, "detectable"]], rows, below):
        lines += [*(" & ".join(row) + r" \\" for row in part), r"\midrule"]
    lines[-1] = r"\bottomrule"
    return "\n".join([*lines, r"\end{tabular}", ""])


def _cell(share: Tested | None, tested: Mapping[str, Tested], task: str) -> str:
    if share is None:
        return "--"
    word = verdict(tested[task], len(tested)) if task in tested else NOT_TESTABLE
    return percent(share["share"]) + {NOT_TESTABLE: "", "guessing": r"$^\dagger$"}.get(word, "$^*$")
