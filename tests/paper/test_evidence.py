"""Figures, tables and numbers of the theory: what they take from the records, and that new bounds come in."""

import importlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from paper import evidence, theorems
from paper.figures import effect_of_k, number_of_blocks, stochastic_floor, trajectories, vacuous
from paper.tables import bounds, certificates, certified_steps, loosest_lines
from records import Record

ROOT = Path(__file__).resolve().parent.parent.parent
SECTION = ROOT / "paper" / "sections" / "evidence.tex"
PROVENANCE = {"commit": "0123456789abcdef", "dirty": False, "date": "2026-01-02", "device": "X", "device_type": "cpu"}
LINE = {"kind": "inequality", "checks": 10, "instances": 5, "largest_ratio": 0.5, "violations": 0}
CONTROL = {"name": "doubled", "line": "bound", "ratio": 2.0, "true_ratio": 1.0, "rejected": True}


def record(bound: str, family: str = "quadratic", tier: str = "quick", **changes: Any) -> Record:
    measured = {
        "lines": {"B.3'": LINE, "bound": LINE | {"largest_ratio": 0.995}, "same": LINE | {"kind": "identity"}},
        "kind": "upper",
        "instances": {"ratio": [0.1, 0.4, 0.2]},
        "precise": {"instances": 2},
        "showcase": {"bound": [3.0, 2.0, 1.0], "measured": [2.0, 1.0, 0.0], "ratios": {}},
        "controls": [CONTROL],
        "violations": 0,
        "refuted": False,
    }
    config = {"bound": {"problems": ["quadratic", "logistic"], "example": {"epochs": 2}}}
    return Record(
        "verify", "theory", f"{bound}-{family}-{tier}", "k", "finished", config, measured | changes, PROVENANCE
    )


FALSE = record("badam_d4_printed", violations=3, refuted=True, showcase=None, controls=[])
LOWER = record("d3", kind="lower", instances={"ratio": [2.0, 4.0]})
THEORY = [record("a1", "logistic"), record("a1"), FALSE, LOWER, record("z9_new")]


def cells(table: str) -> dict[str, list[str]]:
    """First cell of a row -> the row."""
    rows = [line.removesuffix(r" \\").split(" & ") for line in table.splitlines() if " & " in line]
    return {row[0]: row for row in rows}


def test_one_record_a_family_in_the_order_of_the_configuration() -> None:
    groups = theorems.by_bound([*THEORY, record("a1", tier="full")])
    assert [found.name for found in groups["a1"]] == ["a1-quadratic-full", "a1-logistic-quick"]
    assert list(groups) == ["a1", "badam_d4_printed", "d3", "z9_new"]


def test_the_table_of_all_statements() -> None:
    rows = cells(bounds.text(THEORY))
    assert rows["A1"] == ["A1", "2", "3", "60", "6", "0.200", "0.400", "1 of 1", "holds"]
    assert rows["D3"][5:7] == ["0.500", "0.500"]  # of a lower bound the ratio is turned around
    assert rows["D.4, printed"][-2:] == ["--", "refuted"]
    assert rows["Z9 NEW"][-1] == "holds"


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"violations": 1}, "FAILS"),
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


def test_every_theorem_with_a_showcase_has_a_panel() -> None:
    drawn = trajectories.draw(THEORY)
    titles = [axes.get_title(loc="left") for axes in drawn.axes if axes.get_visible()]
    assert titles == ["A1", "D3", "Z9 NEW"]
    (first, *_) = drawn.axes
    assert {str(line.get_label()): list(line.get_ydata()) for line in first.lines} == {
        "bound": [3.0, 2.0, 1.0],
        "measured": [2.0, 1.0, 0.0],
    }
    assert [text.get_text() for text in first.texts] == ["quadratic"]
    assert list(first.lines[0].get_xdata()) == [0.0, 1.0, 2.0]
    mean = {"bound": [3.0, 2.0], "measured": [2.0, 1.0], "ratios": {}}  # over as many block epochs as there are
    (first,) = (axes for axes in trajectories.draw([record("c1", showcase=mean)]).axes if axes.get_visible())
    assert list(first.lines[0].get_xdata()) == [1.0, 2.0]


@pytest.mark.parametrize("path", sorted((ROOT / "conf" / "bound").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_theorem_has_a_run_for_the_figure(path: Path) -> None:
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    module, name = config["_target_"].rsplit(".", 1)
    imported = importlib.import_module(module)
    statement = "Not in the paper." not in str(imported.__doc__) and not getattr(imported, name).refuted
    assert ("example" in config) == statement


def test_figures_show_the_numbers_of_the_records(worst_case_record: Record, curves_record: Record) -> None:
    epoch = number_of_blocks.draw([worst_case_record], [curves_record]).axes[1]
    exact = next(line for line in epoch.lines if "SDP" in str(line.get_label()))
    assert list(exact.get_ydata()) == worst_case_record.measurements["epochs"]["worst_case"]

    gain = effect_of_k.draw([worst_case_record], [curves_record]).axes[0]
    assert [list(line.get_ydata()) for line in gain.lines] == [[0.75, 0.9375], [1.0, 1.0]]

    floor = stochastic_floor.draw([curves_record]).axes[0]
    zeros = next(line for line in floor.lines if line.get_label() == "$p=0.3$")
    assert list(zeros.get_ydata()) == curves_record.measurements["floor"]["zero"]["0.3"]


def test_the_map_is_grey_where_a_bound_says_nothing(curves_record: Record) -> None:
    panels = {axes.get_title(): axes for axes in vacuous.draw([curves_record]).axes if axes.get_title()}
    assert list(panels) == [
        "B1+",
        "B2",
        "D.5, printed",
        "better of B1+ and B2",
        "floor of D1",
        r"floor of D2 ($\beta_1=0$)",
    ]
    masked = {title: panels[title].collections[0].get_array().mask for title in ("B1+", "B2", "better of B1+ and B2")}
    assert not masked["B1+"].any()
    assert masked["B2"].tolist() == [[False, False], [False, False], [True, True]]
    assert not masked["better of B1+ and B2"].any()


def test_numbers_of_the_section(worst_case_record: Record, curves_record: Record) -> None:
    found = evidence.numbers(THEORY, [worst_case_record], [curves_record])
    assert all(name.isalpha() for name in found)
    assert found["TheoryBoundsProved"] == found["TheoryBoundsHold"] == "3"
    assert found["TheoryBoundsRefuted"] == "1"
    assert found["TheoryBoundsChecks"] == "120"
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
