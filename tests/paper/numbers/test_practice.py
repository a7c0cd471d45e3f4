"""The numbers of the section on a real model: chi is told where it was measured, and not where it was not."""

import copy
import re
from dataclasses import replace

from paper.numbers import practice
from records import ROOT
from tests.paper import small

SECTION = ROOT / "paper" / "sections" / "practice.tex"


def match(value: float | None) -> dict:
    ratio = {"adam": value and [1 / value, 9.0], "climbed": [2.0, 9.0]}
    return {"blocks": 30, "chi": {"adam": value, "climbed": 0.5}, "inner_steps": [1, 2], "ratio": ratio}


def test_chi_is_told_where_it_was_measured() -> None:
    without = dict(practice.numbers([small.practice_record()]))
    measured = copy.deepcopy(small.practice_record().measurements)
    for state, value in zip(measured["states"], (None, 0.25), strict=True):
        state["match"] = {name: match(value) for name in practice.PARTITIONS}
    found = dict(practice.numbers([replace(small.practice_record(), measurements=measured)]))
    assert found["ChiLayerStep"] == "no value and 0.25"
    assert found["ChiModuleClimbed"] == "0.50 and 0.50"
    assert (found["ChiGroupsBlocks"], found["ChiFirstSteps"]) == ("30", "1")
    assert (found["ChiLayerRatioLeast"], found["ChiLayerRatioMost"]) == ("2.0", "4.0")
    for state in measured["states"]:
        del state["match"]
    silent = dict(practice.numbers([replace(small.practice_record(), measurements=measured)]))
    assert not any(name.startswith("Chi") for name in silent)
    # what is quoted is what there is, and stands where a record without chi leaves it out
    text = SECTION.read_text(encoding="utf-8")
    used = set(re.findall(r"\\(?:ifcsname )?(Chi\w+)", text))
    assert used == {name for name in found if name.startswith("Chi")}
    inside = text.partition(r"\ifcsname ChiLayerBlocks\endcsname")[2].partition(r"\fi" + "\n")[0]
    assert set(re.findall(r"\\(Chi\w+)", inside)) == used
    assert {name for name in without if not name.startswith("Chi")} == set(silent)
