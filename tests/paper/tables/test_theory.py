"""Tables of the theory: what they take from the records, and that new bounds come in."""

from dataclasses import replace
from typing import Any

import pytest

from paper.tables import bounds, certificates, certified_steps, loosest_lines
from records import Record
from tests.paper.checked import CONTROL, FALSE, LINE, THEORY, record


def cells(table: str) -> dict[str, list[str]]:
    """First cell of a row -> the row."""
    rows = [line.removesuffix(r" \\").split(" & ") for line in table.splitlines() if " & " in line]
    return {row[0]: row for row in rows}


def test_the_table_of_all_statements() -> None:
    rows = cells(bounds.text(THEORY))
    assert rows["A1"] == ["A1", "2", "3", "60", r"90.0\,\%", "6", "0.200", "0.400", "1 of 1", "holds"]
    assert rows["D3"][6:8] == ["0.500", "0.500"]  # of a lower bound the ratio is turned around
    assert rows["D.4, printed"][-2:] == ["--", "refuted"]
    assert rows["Z9 NEW"][-1] == "holds"


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"violations": 1}, "FAILS"),
        ({"unresolved": ["bound"]}, "UNRESOLVED"),
        ({"violations": 1, "unresolved": ["bound"]}, "FAILS"),
        ({"controls": [CONTROL | {"rejected": False}]}, "FAILS"),
        ({"refuted": True}, "NOT REFUTED"),
        ({"refuted": True, "violations": 1, "controls": [CONTROL | {"rejected": False}]}, "NOT REFUTED"),
    ],
)
def test_the_verdict_is_not_always_holds(changes: dict[str, Any], verdict: str) -> None:
    assert cells(bounds.text([record("a1", **changes)]))["A1"][-1] == verdict


def test_the_line_that_loses_most() -> None:
    better = {"B.3'": LINE | {"largest_ratio": 0.7}, "bound": LINE | {"largest_ratio": 0.2}}
    rows = cells(loosest_lines.text([record("a1"), record("a1", "logistic", lines=better), FALSE]))
    # a line counts with its largest ratio over all families; identities and refuted statements do not
    assert rows["A1"] == ["A1", "2", "1", "B.3$'$", "0.7", "bound", "0.995"]
    assert "D.4, printed" not in rows


def test_certificates_and_certified_steps(worst_case_record: Record) -> None:
    table = certificates.text([worst_case_record])
    assert "block epoch & gradient & 2 & 1 & 1 & 1 & -- & -- & $1377793/500000$ & 2.75559" in table
    assert "convex, $L=(1,1)$" in table
    assert "rejected" not in table
    assert table.count("BAdam") == 2
    steps = cells(certified_steps.text([worst_case_record]))
    assert steps["2"] == ["2", "0.841", "1.68"]
    rows = worst_case_record.measurements["certificates"]
    wrong = worst_case_record.measurements | {"certificates": [row | {"verified": False} for row in rows]}
    assert certificates.text([replace(worst_case_record, measurements=wrong)]).count("(rejected)") == len(rows)
