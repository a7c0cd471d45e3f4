"""What the tables of the claims share: a claim with its verdict on a line, and below it its comparisons."""

from collections.abc import Sequence

from paper.judge.verdicts import FINAL_LOSS, Finding, Judged
from paper.read.formats import p_value
from paper.read.studies import HEADLINE_8B

COLUMNS = 9
LOSSES = ("training loss", FINAL_LOSS)
UNTESTED = "8B: not tested"
"""Of claims about what a model learns: those of the paper are about larger models, trained for longer. Where runs of
the paper's scale and length are there, the claim is judged on them, on a line of its own."""


def of_losses(judged: Judged) -> bool:
    """Whether the claim compares losses of two methods, so that it is judged again for every length of training."""
    return judged.claim.measure in LOSSES and judged.claim.axis == "method"


def tabular(judged: Sequence[Judged]) -> str:
    """The claims in their order; effects are ours minus theirs."""
    lines = [rf"\begin{{tabular}}{{@{{\quad}}llrl{'r' * (COLUMNS - 4)}@{{}}}}", r"\toprule"]
    lines.append(r"data & model & steps & compared & $n$ & effect [95\,\% interval] & $p$ & margin & detects \\")
    lines.append(r"\midrule")
    for i, each in enumerate(judged):
        if i:
            lines.append(r"\addlinespace[3pt]")
        untested = not any(other.claim is each.claim and other.study in HEADLINE_8B for other in judged)
        lines += [line + r" \\" for line in _lines(each, untested=untested)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _lines(judged: Judged, *, untested: bool) -> list[str]:
    caveat = f"; {UNTESTED}" if untested else ""
    claim = rf"\multicolumn{{{COLUMNS}}}{{@{{}}l}}{{{judged.in_print}{caveat}}}"
    if not judged.findings:
        missing = rf"study {judged.study.replace('_', ' ')}: {judged.verdict}"
        return [claim, rf"\multicolumn{{{COLUMNS}}}{{@{{\quad}}l}}{{{missing}}}"]
    return [claim, *(" & ".join(_cells(finding)) for finding in judged.findings)]


def _cells(finding: Finding) -> list[str]:
    setting = finding.setting
    assert setting is not None  # only ratios of one measurement have none
    return [
        setting.data,
        setting.model,
        setting.steps or "--",
        ", ".join(filter(None, (finding.comparison, setting.part))),
        str(setting.seeds),
        effect(finding),
        "worse" if finding.worse else p_value(finding.p),
        number(finding.margin),
        number(finding.smallest),
    ]


def effect(finding: Finding) -> str:
    """The effect with its interval."""
    assert finding.low is not None  # only what is measured once has none
    assert finding.high is not None
    return f"${finding.effect:+.3f}$ $[{finding.low:+.3f}, {finding.high:+.3f}]$"


def number(value: float | None) -> str:
    """With three digits; a dash where there is none."""
    return "--" if value is None else f"{value:.3f}"
