"""What the comparison of two models on one downstream task says."""

from paper.judge.verdicts import NOT_TESTABLE
from paper.read import statistics
from paper.read.downstream import Tested


def verdict(test: Tested, number: int) -> str:
    """ "better", "worse", "guessing" where the test rejects and neither model beats guessing, else `NOT_TESTABLE`.

    Args:
        test: the comparison.
        number: of tests that share the level.
    """
    if test["verdict"] != NOT_TESTABLE:
        return test["verdict"]
    least = test["smallest_detectable"]
    large = least is not None and abs(test["difference"]) >= least
    return "guessing" if test["p"] <= statistics.ALPHA / number and large else NOT_TESTABLE
