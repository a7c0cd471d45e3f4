"""Every method at equal tokens: learning rate, final loss, its difference to AdamW by seed, memory and time."""

from collections.abc import Sequence

from paper.read import studies
from paper.read.formats import p_value, plus_minus, scientific
from paper.read.names import named
from records import Record

STUDIES = {"methods": ("train", "methods"), "steps_alone": ("profile", "steps_alone")}
REFERENCE = "adamw"


def text(methods: Sequence[Record], steps_alone: Sequence[Record]) -> str:
    """p is two-sided, adjusted by Holm's method; the last but two column is what 80 % power would find."""
    cells = studies.cells(studies.rows(methods), lambda row: row.method)
    losses = {name: studies.losses(runs) for name, runs in cells.items()}
    names = sorted(cells, key=lambda name: studies.loss(cells[name]).mean)
    tests = studies.against(losses, REFERENCE)
    seconds = studies.seconds_alone(steps_alone, cells)
    lines = [r"\begin{tabular}{@{}lrrrrrrr@{}}", r"\toprule"]
    lines.append(rf" & learning & {studies.part(studies.rows(methods))} & minus & & smallest & peak & step \\")
    lines.append(rf"method & rate & loss & {named(REFERENCE)} & $p$ & detectable & (GB) & (ms) \\")
    lines.append(r"\midrule")
    for name in names:
        runs, peak = cells[name], studies.peak(cells[name])
        test = tests.get(name)
        cells_of_row = [
            named(name),
            f"${scientific(runs[0].value('method.lr'))}$",
            plus_minus(studies.loss(runs)),
            f"${test.difference.mean:+.3f}$" if test else "--",
            p_value(test.p) if test else "--",
            f"{test.difference.smallest_detectable():.3f}" if test else "--",
            f"{peak / 1e9:.2f}" if peak is not None else "--",
            f"{1e3 * seconds[name]:.1f}" if name in seconds else "--",
        ]
        lines.append(" & ".join(cells_of_row) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])
