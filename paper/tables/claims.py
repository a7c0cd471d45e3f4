"""Every claim of arXiv 2404.02827 that has a test: our evidence, the effect with its 95 % interval, the verdict.

Those that are ratios of one measurement each are in `paper.tables.claims_of_cost`.
"""

from collections.abc import Sequence

from paper.judge import claims
from paper.judge.claims import MEASURED
from paper.judge.verdicts import Finding, Judged, judge
from paper.read.formats import p_value
from records import Record

SOURCES, STUDIES = claims.SOURCES, claims.STUDIES


def text(**records: Sequence[Record]) -> str:
    """A claim with its verdict on a line, and below it its comparisons."""
    tested = [claim for claim in claims.CLAIMS if claim.rule != MEASURED]
    lines = [r"\begin{tabular}{@{\quad}llrrrr@{}}", r"\toprule"]
    lines.append(r"study & comparison & effect [95\,\% interval] & $p$ & margin & detectable \\")
    lines.append(r"\midrule")
    for i, judged in enumerate(judge(records, tested)):
        if i:
            lines.append(r"\addlinespace[3pt]")
        lines += [line + r" \\" for line in _lines(judged)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _lines(judged: Judged) -> list[str]:
    study = judged.study.replace("_", " ")
    cells = [
        [
            study,
            finding.comparison,
            effect(finding),
            "worse" if finding.worse else p_value(finding.p),
            number(finding.margin),
            number(finding.smallest),
        ]
        for finding in judged.findings
    ]
    missing = [[rf"\multicolumn{{6}}{{@{{\quad}}l}}{{study {study}: no records}}"]]
    return [rf"\multicolumn{{6}}{{@{{}}l}}{{{judged.in_print}}}", *map(" & ".join, cells or missing)]


def effect(finding: Finding) -> str:
    """The effect with its interval."""
    assert finding.low is not None  # only what is measured once has none
    assert finding.high is not None
    return f"${finding.effect:+.3f}$ $[{finding.low:+.3f}, {finding.high:+.3f}]$"


def number(value: float | None) -> str:
    return "--" if value is None else f"{value:.3f}"
