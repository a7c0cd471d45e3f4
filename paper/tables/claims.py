"""Every claim of arXiv 2404.02827: our evidence, the effect with its 95 % interval, the test and the verdict."""

from collections.abc import Sequence

from paper.verdicts import Finding, Judged, judge
from records import Record

SOURCES = {"cost": ("profile", "cost")}
STUDIES = {
    **{name: ("train", name) for name in ("headline", "methods", "rank", "order", "inner_steps")},
    "downstream": ("compare", "downstream"),
}
WIDTHS = r"@{}>{\raggedright}p{3.6cm}lllr>{\raggedright\arraybackslash}p{1.9cm}@{}"


def text(**records: Sequence[Record]) -> str:
    lines = [r"\setlength{\tabcolsep}{3pt}%", rf"\begin{{tabular}}{{{WIDTHS}}}", r"\toprule"]
    lines.append(r"claim & study & comparison & effect [95\,\% interval] & $p$ & verdict \\")
    for judged in judge(records):
        lines += [r"\addlinespace[2pt]" if len(lines) > 4 else r"\midrule", *_rows(judged)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _rows(judged: Judged) -> list[str]:
    claim, study = rf"{judged.claim.said} ({judged.claim.place})", judged.study.replace("_", " ")
    if not judged.findings:
        return [rf"{claim} & {study} & -- & -- & -- & {judged.verdict} \\"]
    rows = []
    for i, finding in enumerate(judged.findings):
        first = (claim, study, judged.verdict) if not i else ("", "", "")
        cells = [*first[:2], finding.comparison, effect(finding), _p(finding), first[2]]
        rows.append(" & ".join(cells) + r" \\")
    return rows


def effect(finding: Finding) -> str:
    """The effect with its interval, or the ratio with its unit."""
    if finding.low is None or finding.high is None:
        return f"${finding.effect:.2f}$ {finding.unit}"
    return f"${finding.effect:+.3f}$ $[{finding.low:+.3f}, {finding.high:+.3f}]$"


def _p(finding: Finding) -> str:
    if finding.p is None:
        return "--"
    return "$<0.001$" if finding.p < 0.001 else f"${finding.p:.3f}$"
