"""The claims of arXiv 2404.02827 with their verdicts, and every comparison behind them."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from pages.page import Cell, Missing, Page, Part, Table, interval, missing, number, source, words
from paper.judge import claims, verdicts
from paper.judge.verdicts import Finding, Judged
from paper.read.statistics import ALPHA
from records import Record

RULES = (
    f"With d = ours minus theirs, the margin m, and p adjusted by Holm's method. Superior: p(d < 0) ≤ {ALPHA}. Not "
    f"inferior: p(d < m) ≤ {ALPHA}. Equivalent: p(|d| < m) ≤ {ALPHA} by two one-sided tests. Measured: a ratio "
    "without repetitions, at most its bound. Where neither a rule nor its opposite holds, seeds or items are "
    "too few."
)
STUDIES = claims.STUDIES | claims.SOURCES


def pages(records: Mapping[str, Sequence[Record]]) -> Iterator[Page]:
    """The page of the claims.

    Args:
        records: argument of `STUDIES` -> its records.
    """
    judged = verdicts.judge(records)
    counts = Counter(each.verdict for each in verdicts.first(judged))
    total = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    parts: list[Part] = [
        f"Of {counts.total()} claims of the method's paper: {total}. A verdict holds for the regime beside it; at the "
        "paper's scale and length none about quality was tested.",
        *_missing(records),
        _overview(judged, records),
        _findings(judged, records),
        RULES,
    ]
    yield Page("claims.html", "Claims", parts)


def _missing(records: Mapping[str, Sequence[Record]]) -> Iterator[Missing]:
    if not records["cost"]:
        yield Missing("The claims about memory and time", "python -m experiments.profile sweep=cost device=cuda")
    if not any(records[name] for name in claims.STUDIES):
        yield missing("Every claim about losses", "headline")


def _overview(judged: Sequence[Judged], records: Mapping[str, Sequence[Record]]) -> Table:
    heads = ["claim", "where", "verdict", "regime", "rule", "comparisons"]
    lines = [
        [
            words(each.claim.said),
            words(each.claim.place),
            words(each.verdict),
            words(each.regime or "–"),
            words(each.claim.rule),
            number(len(each.findings), "d"),
        ]
        for each in judged
    ]
    return Table("Verdicts", heads, lines, source(records.values()))


def _findings(judged: Sequence[Judged], records: Mapping[str, Sequence[Record]]) -> Table:
    heads = ["claim", "compared", "data", "model", "steps", "n", "effect [95 % interval]", "unit", "p", "margin"]
    heads += ["detects", "verdict"]
    lines = [_line(each, finding) for each in judged for finding in each.findings]
    return Table("Every comparison: ours minus theirs, or their ratio", heads, lines, source(records.values()))


def _line(judged: Judged, finding: Finding) -> list[Cell]:
    setting = finding.setting
    once = finding.low is None
    margin = judged.at_most(finding) if once else finding.margin
    return [
        words(judged.claim.said),
        words(", ".join(filter(None, (finding.comparison, setting.part if setting else "")))),
        words(setting.data if setting else "–"),
        words(setting.model if setting else "Llama 3-8B"),
        words(setting.steps or "–" if setting else "–"),
        number(setting.seeds if setting else 1, "d"),
        number(finding.effect, ".2f") if once else interval(finding.effect, finding.low, finding.high),
        words(finding.unit),
        number(finding.p),
        number(margin),
        number(finding.smallest),
        words(finding.verdict),
    ]
