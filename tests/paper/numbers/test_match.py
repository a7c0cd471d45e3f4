"""The numbers of the section on when block descent matches Adam."""

import re

from paper.numbers import match
from records import ROOT, Record

SECTION = ROOT / "paper" / "sections" / "theory_match.tex"


def test_numbers_of_the_section(curves_record: Record) -> None:
    found = match.numbers([curves_record])
    assert (found["MatchBlocks"], found["MatchCoordinates"], found["MatchOften"]) == ("2", "2", "2")
    assert found["MatchCouplings"] == "0 and 1"
    assert found["MatchPredictedOnce"] == "2.0 and 1.0", "1/chi, as n_1 = 0"
    assert (found["MatchFloorFirst"], found["MatchFloorBest"], found["MatchFloorBestSteps"]) == ("3.00", "1.19", "50")
    assert (found["MatchFloorLast"], found["MatchFloorLastSteps"], found["MatchFloorGrowing"]) == (
        "1.34",
        "200",
        "0.60",
    )
    assert set(found) == set(re.findall(r"\\(Match\w+)", SECTION.read_text(encoding="utf-8")))


def test_no_result_is_typed_into_the_section() -> None:
    """Digits of the prose belong to names and set-ups: F1, the matrix of the quadratics, K = 1, 1/epsilon."""
    text = SECTION.read_text(encoding="utf-8").partition(r"\paragraph{Measured.}")[2]
    text = re.sub(r"\\(?:label|ref|eqref|includegraphics)(?:\[[^]]*\])?\{[^}]*\}", "", text)
    text = re.sub(r"\\Match\w+|Theorem~F\d|\\[a-zA-Z]+", "", text)
    assert set(re.findall(r"\d+(?:\.\d+)?", text)) <= {"1", "2", "11", "0.05"}
