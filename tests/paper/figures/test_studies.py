"""Figures of the studies: what they show of complete records."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.axes import Axes

from paper.figures import equal_time as equal_time_figure
from paper.figures import frontier as frontier_figure
from paper.figures import headline, inner_steps, learning_rate, movement, order, placement, rank, scale, style
from paper.read import statistics, studies
from records import RecordError
from tests.paper import synthetic
from tests.paper.synthetic import frontier_cost, of


def test_the_figure_of_the_order_shows_the_paired_differences():
    axes = order.draw(of("order")).axes[1]
    cells = studies.cells(studies.rows(of("order")), lambda row: row.choice("order"))
    losses = {name: studies.losses(rows) for name, rows in cells.items()}
    wanted = {
        round(d.mean, 9)
        for name in losses
        if name != "random_reshuffle" and (d := statistics.contrast({name: 1, "random_reshuffle": -1}, losses))
    }
    drawn = {round(float(np.asarray(line.get_xdata())[0]), 9) for line in axes.lines if line.get_marker() == "o"}
    assert wanted <= drawn


def test_the_figure_of_k_marks_the_recommended_one():
    axes = inner_steps.draw(of("inner_steps")).axes[0]
    assert any("14" in text.get_text() for text in axes.texts)


def test_diverged_runs_are_marked_and_no_mean():
    axes = learning_rate.draw(of("learning_rate")).axes[0]
    crosses = [line for line in axes.lines if line.get_marker() == "x"]
    assert len(crosses) == 2
    (sgd,) = (line for line in axes.lines if line.get_label() == "SGD")
    assert len(np.asarray(sgd.get_xdata())) == 4, "the fifth learning rate diverged"


PREDICTED = [frontier_cost("badam", peak=21e9), frontier_cost("lora", peak=23e9), frontier_cost("adamw", peak=64e9)]
OVER_EPOCHS = {name: of(name) for name in studies.REGIME}


def means(axes: Axes) -> set[float]:
    """Places of the dots of a figure of rows."""
    lines = [line for line in axes.lines if line.get_marker() in ("o", "^") and len(line.get_xdata()) == 1]
    return {round(float(np.asarray(line.get_xdata())[0]), 9) for line in lines}


def test_the_main_result_has_both_lengths_and_what_a_large_model_would_need():
    drawn = headline.draw(of("headline"), of("equal_time"), PREDICTED)
    *sets, needed = drawn.axes
    assert [axes.get_title() for axes in sets] == ["GSM8K, one epoch", "Alpaca, one epoch"]
    for axes, data in zip(sets, ("gsm8k", "alpaca_cleaned"), strict=True):
        rows = [row for name in ("headline", "equal_time") for row in studies.rows(of(name)) if row.data == data]
        groups = studies.groups(rows, lambda row: (row.record.study, row.method)).values()
        assert means(axes) == {round(studies.loss(runs).mean, 9) for runs in groups}
    assert sorted(patch.get_width() for patch in needed.patches) == [21.0, 23.0, 64.0]
    assert len(headline.draw(of("headline"), [], []).axes) == 2


def test_over_whole_epochs_those_are_the_main_result():
    drawn = headline.draw(of("headline"), of("equal_time"), PREDICTED, **OVER_EPOCHS)
    assert [axes.get_title() for axes in drawn.axes] == ["GSM8K, three epochs", "Alpaca, three epochs", "Llama 3-8B"]
    rows = [row for row in studies.rows(studies.over_epochs(OVER_EPOCHS)) if row.data == "gsm8k"]
    cells = studies.cells(rows, lambda row: row.method)
    assert means(drawn.axes[0]) == {round(studies.loss(runs).mean, 9) for runs in cells.values()}
    assert drawn.axes[0].get_yticklabels()[0].get_text() == "sign above"


def test_a_matrix_that_did_not_change_has_a_rank_and_no_spectrum():
    unmoved = {"shape": [4, 4], "stable_rank": 0.0, "rank_90": 0, "values": []}
    first, *others = of("rank")
    spectra = {"spectrum": {"matrices": {"w": unmoved, **first.measurements["spectrum"]["matrices"]}}}
    shares, stable = rank.draw([replace(first, measurements=first.measurements | spectra), *others]).axes[1:3]
    counts = [len(np.asarray(axes.lines[0].get_ydata())) for axes in (shares, stable)]
    assert counts == [10, 9], "of three seeds with three matrices, and the one that stayed"


def test_the_gap_against_depth_is_paired():
    gap = scale.draw(of("scale")).axes[1]
    (line,) = (line for line in gap.lines if str(line.get_label()).endswith("AdamW"))
    assert len(np.asarray(line.get_ydata())) == 4
    assert list(np.asarray(line.get_ydata())) == sorted(np.asarray(line.get_ydata()))


def frontier(variants=(), measured=(), **over_epochs):
    return frontier_figure.draw(variants, of("methods"), PREDICTED, measured, [], **over_epochs)


def test_a_loss_far_above_is_named_and_not_drawn():
    worse = [
        replace(r, measurements=r.measurements | {"after": {"heldout_loss": 1.3}}) if "blocks2-" in r.name else r
        for r in of("variants")
    ]
    predicted = [*PREDICTED, frontier_cost("badam_blocks2", peak=24e9), frontier_cost("badam_blocks5", peak=30e9)]
    above, below = frontier_figure.draw(worse, of("methods"), predicted, [], []).axes
    assert below.get_title(loc="right") == "above: 2 layers a block (1.30)"
    assert above.get_ylim()[1] < 1
    written = [text.get_text() for text in above.texts]
    assert "2 layers a block" not in written
    assert {"5 layers a block", "BAdam", "LoRA", "AdamW", "24 GB"} <= set(written)
    assert [text.get_text() for text in below.texts] == ["not run"]


def test_the_frontier_has_the_bytes_and_the_seconds_of_a_large_model():
    measured = [frontier_cost("badam", seconds=0.3), frontier_cost("lora", seconds=0.6)]
    above, below = frontier(of("variants"), measured).axes
    bytes_of, seconds_of = (
        sorted(float(line.get_xdata()[0]) for line in axes.lines if line.get_marker() in ("o", "^", "D"))
        for axes in (above, below)
    )
    assert bytes_of == [21.0, 23.0, 64.0]
    assert seconds_of == [0.3, 0.6]
    (box,) = above.patches
    lora = studies.loss([row for row in studies.rows(of("methods")) if row.method == "lora"]).mean
    assert box.get_x() + box.get_width() == pytest.approx(23.0)
    assert box.get_y() + box.get_height() == pytest.approx(lora)


def test_over_whole_epochs_the_frontier_has_a_column_for_each_data_set():
    drawn = frontier(of("variants"), **OVER_EPOCHS)
    assert [axes.get_title() for axes in drawn.axes[:2]] == ["GSM8K, three epochs", "Alpaca, three epochs"]
    (key,) = drawn.legends
    written = {text.get_text() for axes in drawn.axes for text in axes.texts}
    numbers = dict(text.get_text().split(": ") for text in key.get_texts())
    assert numbers == {"1": "LoRA", "2": "AdamW", "3": "BAdam"}
    assert {"1", "2"} <= written


def test_methods_at_equal_time_end_at_one_time():
    drawn = equal_time_figure.draw(of("equal_time"), of("steps_alone"))
    for axes, others, times in zip(drawn.axes, (900, 700), (1, 2), strict=True):
        ends = [times * (420 if name == "lora" else others) * seconds for name, seconds in synthetic.SECONDS.items()]
        assert sorted(line.get_xdata()[-1] for line in axes.lines) == pytest.approx(sorted(ends), rel=1e-3)
    with pytest.raises(RecordError, match=r"no step of .*badam.* on gsm8k was timed alone; run experiments.alone"):
        equal_time_figure.draw(of("equal_time"), [])


def test_names_of_a_scatter_plot_do_not_cover_each_other():
    drawn, (axes,) = style.figure(height=3.0)
    generator = np.random.default_rng(0)
    points = [(float(x), float(y)) for x, y in generator.uniform(0, 1, (12, 2))]
    axes.plot(*zip(*points, strict=True), "o")
    placement.label(axes, points, [f"variant {i}" for i in range(12)], [(y, y) for _, y in points])
    drawn.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == 12
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_the_gap_is_drawn_against_the_movement_of_adamw():
    (axes,) = movement.draw(of("movement"), of("movement_brief")).axes
    lines = {str(line.get_label()): line for line in axes.lines if line.get_marker() == "o"}
    assert list(lines) == ["SmolLM2-135M, GSM8K", "llama small trained, GSM8K"]
    first = lines["SmolLM2-135M, GSM8K"]
    assert list(np.asarray(first.get_xdata())) == pytest.approx([1e-3, 1e-2, 1e-1])
    assert list(np.asarray(first.get_ydata())) == pytest.approx([10, 20, 30])
    assert len(np.asarray(lines["llama small trained, GSM8K"].get_xdata())) == 2
    alone = [r for r in of("movement") if r.config["choices"]["method"] == "adamw"]
    assert [text.get_text() for text in movement.draw(alone, []).axes[0].texts] == ["no pair of runs"]
