"""The claims of arXiv 2404.02827 about memory and time: one measurement each, beside what it may not exceed."""

from collections.abc import Sequence

from paper.judge import claims
from paper.judge.claims import MEASURED
from paper.judge.verdicts import judge
from records import Record

SOURCES = claims.SOURCES


def text(cost: Sequence[Record]) -> str:
    """A claim with its verdict on a line, and below it its comparisons."""
    measured = [claim for claim in claims.CLAIMS if claim.rule == MEASURED]
    lines = [r"\begin{tabular}{@{\quad}llrr@{}}", r"\toprule"]
    lines.append(r"study & comparison & ours & at most \\")
    lines.append(r"\midrule")
    for i, judged in enumerate(judge({"cost": cost}, measured)):
        if i:
            lines.append(r"\addlinespace[3pt]")
        lines.append(rf"\multicolumn{{4}}{{@{{}}l}}{{{judged.in_print}}} \\")
        for finding in judged.findings:
            ours = f"{finding.effect:.2f} {finding.unit}"
            lines.append(rf"{judged.study} & {finding.comparison} & {ours} & {judged.at_most(finding):.2f} \\")
        if not judged.findings:
            lines.append(rf"\multicolumn{{4}}{{@{{\quad}}l}}{{study {judged.study}: {judged.verdict}}} \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])
