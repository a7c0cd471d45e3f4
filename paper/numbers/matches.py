"""Numbers of exact match over whole epochs."""

from collections.abc import Sequence

from paper.read import matches
from paper.read.formats import thousands
from paper.read.names import named
from paper.read.statistics import ALPHA
from records import Record


def of_matches(regime_match: Sequence[Record]) -> dict[str, str]:
    """What the sentence on exact match says."""
    every = matches.compared(regime_match)
    tested = [each for each in every if each.difference is not None and each.p is not None]
    differ = [named(each.method) for each in tested if each.p is not None and each.p <= ALPHA]
    detectable = [each.difference.smallest_detectable() for each in tested if each.difference is not None]
    shares, losses = (
        [value.mean for value in values] for values in zip(*((e.share, e.loss) for e in every), strict=True)
    )
    return {
        "StudyRegimeMatchItems": thousands(every[0].items),
        "StudyRegimeMatchShares": f"{100 * min(shares):.1f} to {100 * max(shares):.1f}",
        "StudyRegimeMatchSpread": f"{max(losses) - min(losses):.3f}",
        "StudyRegimeMatchDiffer": ", ".join(differ) or "none",
        "StudyRegimeMatchDetectable": f"{100 * max(detectable):.1f}" if detectable else "--",
    }
