"""Variants of block descent over whole epochs: against LoRA, against twins without a block, and their cost at 8B."""

from collections.abc import Sequence

from paper.judge import closing
from paper.judge.closing import Closing, Cost
from paper.read import frontier, studies
from paper.read.formats import interval, p_value
from paper.read.names import data_named, named
from records import Record

STUDIES = {name: ("train", name) for name in studies.REGIME} | {
    "predicted": ("profile", frontier.PREDICTED),
    "measured": ("profile", frontier.MEASURED),
}
COLUMNS = 9
WORDS = {True: "yes", False: "no", None: "--"}


def text(predicted: Sequence[Record], measured: Sequence[Record], **over_epochs: Sequence[Record]) -> str:
    """The variants of each data set, the lowest loss first."""
    peaks, seconds = frontier.predicted_peaks(predicted), frontier.measured_seconds(measured)
    costs = {name: Cost(peaks.get(name), seconds.get(name)) for name in peaks.keys() | seconds.keys()}
    lines = [r"\begin{tabular}{@{}lrrlrrrrl@{}}", r"\toprule"]
    lines.append(r" & & & & & & peak & step & closes, \\")
    lines.append(r"variant & minus LoRA & $p$ & twin & minus twin & $p$ & (GB) & (s) & helps \\")
    for data, cells in studies.by_data(studies.rows(studies.over_epochs(over_epochs))).items():
        judged = closing.judge(cells, costs)
        margin = f", margin {judged[0].margin:.3f}" if judged else ": LoRA or AdamW not run"
        lines += [r"\midrule", rf"\multicolumn{{{COLUMNS}}}{{@{{}}l}}{{\emph{{{data_named(data)}}}{margin}}} \\"]
        lines += [" & ".join(_cells(each)) + r" \\" for each in judged]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _twin(each: Closing) -> str:
    """What the twin does in place of the block."""
    return {"": "--", f"{each.method}{closing.TWIN}": "no Adam"}.get(each.twin, "all layers")


def _cells(each: Closing) -> list[str]:
    return [
        named(each.method),
        interval(each.difference),
        p_value(each.p),
        _twin(each),
        interval(each.to_twin) if each.to_twin else "--",
        p_value(each.p_twin),
        f"{each.cost.peak / 1e9:.1f}" if each.cost.peak is not None else "--",
        f"{each.cost.seconds:.3f}" if each.cost.seconds is not None else "--",
        f"{WORDS[each.closes]}, {WORDS[each.block_helps]}",
    ]
