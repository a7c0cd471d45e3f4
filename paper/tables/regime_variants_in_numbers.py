"""Further variants over whole epochs beside those of the main study: held-out loss and the difference to LoRA."""

from collections.abc import Sequence

from paper.read import statistics, studies
from paper.read.formats import interval, p_value, plus_minus, scientific
from paper.read.names import named
from records import Record

STUDIES = {name: ("train", name) for name in ("regime_variants", "regime_gsm8k", "regime_rules_gsm8k")}
REFERENCE = "lora"


def text(
    regime_variants: Sequence[Record], regime_gsm8k: Sequence[Record], regime_rules_gsm8k: Sequence[Record]
) -> str:
    """A star marks methods of the main study, whose held-out loss is shown here; p is adjusted by Holm's method."""
    variants = studies.cells(studies.rows(regime_variants), lambda row: row.method)
    main = studies.cells(studies.rows([*regime_gsm8k, *regime_rules_gsm8k]), lambda row: row.method)
    cells = main | variants
    losses = {name: {row.seed: row.loss for row in runs} for name, runs in cells.items()}
    tests = studies.against(losses, REFERENCE) if REFERENCE in losses else {}
    means = {name: statistics.mean(list(values.values())) for name, values in losses.items()}
    lines = [r"\begin{tabular}{@{}lrrrrr@{}}", r"\toprule"]
    lines.append(rf"method & learning rate & $n$ & held-out loss & minus {named(REFERENCE)} & $p$ \\")
    lines.append(r"\midrule")
    for name in sorted(cells, key=lambda name: means[name].mean):
        test = tests.get(name)
        row = [
            named(name) + ("" if name in variants else "*"),
            f"${scientific(cells[name][0].value('method.lr'))}$",
            str(means[name].n),
            plus_minus(means[name]),
            interval(test.difference) if test else "--",
            p_value(test.p) if test else "--",
        ]
        lines.append(" & ".join(row) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])
