"""The numbers of the section on what the checks show."""

import re

from paper.numbers import evidence
from records import ROOT, Record
from tests.paper.checked import THEORY, record

SECTION = ROOT / "paper" / "sections" / "evidence.tex"


def test_numbers_of_the_section(worst_case_record: Record, curves_record: Record) -> None:
    found = evidence.numbers(THEORY, [worst_case_record], [curves_record])
    assert all(name.isalpha() for name in found)
    assert found["TheoryBoundsProved"] == found["TheoryBoundsHold"] == "3"
    assert found["TheoryBoundsRefuted"] == "1"
    assert found["TheoryBoundsChecks"] == "120"
    assert (found["TheoryBoundsClaims"], found["TheoryBoundsResolved"]) == ("80", "72"), "identities are no claims"
    assert (found["TheoryBoundsTerms"], found["TheoryBoundsTermsNeeded"]) == ("18", "9"), "three lines of three bounds"
    assert found["TheoryBoundsViolations"] == "0"
    assert (found["TheoryBoundsAttained"], found["TheoryBoundsInequalities"]) == ("3", "6")
    assert found["TheoryVacuousBPlus"] == r"1.3\cdot10^{7}"
    assert found["TheoryVacuousBTwo"] == "9"
    worse = [record("a1", violations=2), *THEORY[1:]]
    assert evidence.numbers([worse[0]], [worst_case_record], [curves_record])["TheoryBoundsViolations"] == "2"
    # what is quoted is used, so that no number of the module is dead
    used = set(re.findall(r"\\(Theory\w+)", SECTION.read_text(encoding="utf-8")))
    assert set(found) == used


def test_no_result_is_typed_into_the_section() -> None:
    """Digits of the prose belong to names and set-ups: A1 to E, f(x) = x^2/2, beta1 = 0.9, K = 1, R/10, float64."""
    text = re.sub(
        r"\\(?:cite|label|ref|includegraphics|input|begin|setlength)(?:\[[^]]*\])?\{[^}]*\}", "", SECTION.read_text()
    )
    text = re.sub(r"\\Theory\w+|\b[ABCD][.]?\d\+?|Lemma~T|\\[a-zA-Z]+", "", text)
    assert set(re.findall(r"\d+(?:\.\d+)?", text)) <= {"0", "1", "2", "0.9", "10", "64", "3.2"}
