"""Figures of the theory: they show the numbers of the records, and new bounds come in."""

import importlib
from pathlib import Path

import pytest
import yaml

from paper.figures import effect_of_k, match, number_of_blocks, stochastic_floor, trajectories, vacuous
from records import ROOT, Record
from tests.paper import synthetic
from tests.paper.checked import THEORY, record


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
        "better of B1+, B2",
        "floor of D1",
        r"floor of D2 ($\beta_1=0$)",
    ]
    masked = {title: panels[title].collections[0].get_array().mask for title in ("B1+", "B2", "better of B1+, B2")}
    assert not masked["B1+"].any()
    assert masked["B2"].tolist() == [[False, False], [False, False], [True, True]]
    assert not masked["better of B1+, B2"].any()


def test_the_match_of_block_descent_is_drawn_from_the_record(curves_record: Record) -> None:
    study = synthetic.of("inner_steps")
    assert len(match.draw([curves_record], []).axes) == 2, "without the study there is no panel for it"
    ratio, floor, losses = match.draw([curves_record], study).axes
    rows = sorted(curves_record.measurements["match"]["penalties"], key=lambda row: (row["inner_steps"], row["chi"]))
    dashed = [line for line in ratio.lines if line.get_linestyle() == "--" and len(line.get_xdata())]
    assert [y for line in dashed for y in line.get_ydata()] == [row["predicted"] for row in rows]
    points = [line for line in ratio.lines if str(line.get_label()).startswith("measured")]
    assert [y for line in points for y in line.get_ydata()] == [row["measured"] for row in rows]
    bars = [tuple(segment[:, 1]) for item in ratio.collections for segment in item.get_segments()]
    assert bars == [(min(row["groups"]), max(row["groups"])) for row in rows]
    assert list(floor.lines[0].get_ydata()) == curves_record.measurements["match"]["floor"]["fixed"]
    assert losses.get_ylabel() == "held-out loss (nats a token)"
    assert sorted(losses.lines[0].get_xdata()) == sorted({item.config["method"]["inner_steps"] for item in study})
