"""The claims of arXiv 2404.02827 about ranks, options of the method and tasks, as those of `paper.tables.claims`."""

from collections.abc import Sequence

from paper.judge import claims
from paper.judge.claims import MEASURED
from paper.judge.verdicts import judge
from paper.tables import judged
from records import Record

SOURCES, STUDIES = claims.SOURCES, claims.STUDIES


def text(**records: Sequence[Record]) -> str:
    """A claim with its verdict on a line, and below it its comparisons."""
    others = [each for each in judge(records) if each.claim.rule != MEASURED and not judged.of_losses(each)]
    return judged.tabular(others)
