"""Every method of the study over whole epochs: rate, loss, and the differences to LoRA and to AdamW by seed."""

from collections.abc import Sequence

from paper.read import studies
from paper.read.formats import p_value, plus_minus, scientific
from paper.read.names import data_named, named
from records import Record

STUDIES = {name: ("train", name) for name in studies.REGIME}
REFERENCES = ("lora", "adamw")


def text(**regime: Sequence[Record]) -> str:
    """The methods of each data set, the lowest loss first; p is two-sided, adjusted by Holm's method over them."""
    rows = studies.rows(studies.over_epochs(regime))
    lines = [r"\begin{tabular}{@{}lrrrrrrr@{}}", r"\toprule"]
    heads = " & ".join(rf"minus {named(reference)} & $p$" for reference in REFERENCES)
    lines.append(rf"method & learning rate & $n$ & {studies.part(rows)} loss & {heads} \\")
    for data, cells in studies.by_data(rows).items():
        losses = {method: studies.losses(runs) for method, runs in cells.items()}
        tests = {reference: studies.against(losses, reference) for reference in REFERENCES if reference in losses}
        length = studies.regime(row for runs in cells.values() for row in runs)
        title = f"{data_named(data)}, {length}"
        lines += [r"\midrule", rf"\multicolumn{{{4 + 2 * len(REFERENCES)}}}{{@{{}}l}}{{\emph{{{title}}}}} \\"]
        for method in sorted(cells, key=lambda method: studies.loss(cells[method]).mean):
            runs = cells[method]
            row = [named(method), f"${scientific(runs[0].value('method.lr'))}$", str(len(runs))]
            row.append(plus_minus(studies.loss(runs)))
            for reference in REFERENCES:
                test = tests.get(reference, {}).get(method)
                row += [f"${test.difference.mean:+.3f}$" if test else "--", p_value(test.p) if test else "--"]
            lines.append(" & ".join(row) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])
