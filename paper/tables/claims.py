"""The claims of arXiv 2404.02827 about losses: data, model and steps, the effect with its interval, the verdict.

Each is judged for every length of training that has runs. Those about ranks, options and tasks are in
`paper.tables.claims_of_options`, ratios of one measurement each in `paper.tables.claims_of_cost`.
"""

from collections.abc import Sequence

from paper.judge import claims
from paper.judge.verdicts import judge
from paper.tables import judged
from records import Record

SOURCES, STUDIES = claims.SOURCES, claims.STUDIES


def text(**records: Sequence[Record]) -> str:
    """A claim with its verdict on a line, and below it its comparisons."""
    return judged.tabular([each for each in judge(records) if judged.of_losses(each)])
