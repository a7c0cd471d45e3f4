"""Every claim of arXiv 2404.02827: our evidence, the effect with its 95 % interval, the test and the verdict."""

from collections.abc import Sequence

from paper.judge import claims
from paper.judge.verdicts import Finding, Judged, judge
from paper.read.formats import p_value
from records import Record

SOURCES, STUDIES = claims.SOURCES, claims.STUDIES


def text(**records: Sequence[Record]) -> str:
    """A claim with its verdict on a line, and below it its comparisons."""
    lines = [r"\begin{tabular}{@{\quad}llrrrr@{}}", r"\toprule"]
    lines.append(r"study & comparison & effect [95\,\% interval] & $p$ & margin & detectable \\")
    lines.append(r"\midrule")
    for i, judged in enumerate(judge(records)):
        if i:
            lines.append(r"\addlinespace[3pt]")
        lines += [line + r" \\" for line in _lines(judged)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _lines(judged: Judged) -> list[str]:
    claim, study = judged.claim, judged.study.replace("_", " ")
    head = rf"\multicolumn{{4}}{{@{{}}l}}{{{claim.said} ({claim.place})}} "
    head += rf"& \multicolumn{{2}}{{r@{{}}}}{{\textbf{{{judged.verdict}}}}}"
    cells = [
        [
            study,
            finding.comparison,
            effect(finding),
            p_value(finding.p),
            number(finding.margin),
            number(finding.smallest),
        ]
        for finding in judged.findings
    ]
    return [head, *map(" & ".join, cells or [[rf"\multicolumn{{6}}{{@{{\quad}}l}}{{study {study}: no records}}"]])]


def effect(finding: Finding) -> str:
    """The effect with its interval, or the ratio with its unit."""
    if finding.low is None or finding.high is None:
        return f"${finding.effect:.2f}$ {finding.unit}"
    return f"${finding.effect:+.3f}$ $[{finding.low:+.3f}, {finding.high:+.3f}]$"


def number(value: float | None) -> str:
    return "--" if value is None else f"{value:.3f}"
