"""Figures of the studies: what they show of complete records."""

from dataclasses import replace

import numpy as np
import pytest

from paper.figures import equal_time as equal_time_figure
from paper.figures import frontier as frontier_figure
from paper.figures import headline, inner_steps, learning_rate, order, placement, rank, scale, style
from paper.read import statistics, studies
from records import RecordError
from tests.paper import synthetic
from tests.paper.synthetic import of


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


def test_without_times_the_curves_are_drawn_against_tokens_alone():
    assert len(headline.draw(of("headline"), []).axes) == 2
    assert len(headline.draw(of("headline"), of("steps_alone")).axes) == 4


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


def test_a_loss_far_above_is_named_and_not_drawn():
    worse = [
        replace(r, measurements=r.measurements | {"after": {"heldout_loss": 1.3}}) if "bf16-" in r.name else r
        for r in of("variants")
    ]
    axes = frontier_figure.draw(worse, of("methods"), of("steps_alone")).axes[0]
    assert axes.get_title(loc="right") == "above: bfloat16 weights (1.30)"
    assert axes.get_ylim()[1] < 1
    assert "bfloat16 weights" not in [text.get_text() for text in axes.texts]
    assert frontier_figure.draw(of("variants"), of("methods"), []).axes[0].get_title(loc="right") == ""


def test_a_variant_is_named_where_it_is_clearly_below_badam():
    axes = frontier_figure.draw(of("variants"), of("methods"), of("steps_alone")).axes[0]
    written = {text.get_text() for text in axes.texts}
    assert {"10 layers a block", "BAdam", "LoRA"} <= written
    assert not {"bfloat16, exact master", "state kept"} & written


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
