"""The rows of train records: cells, curves, and the times of steps measured alone."""

from dataclasses import replace

import pytest

from paper.read import studies
from tests.paper import synthetic
from tests.paper.synthetic import of


def test_two_runs_of_one_cell_and_seed_are_refused():
    with pytest.raises(ValueError, match="share a seed"):
        studies.cells(studies.rows(of("order")), lambda row: "all of them")


def test_a_curve_goes_from_the_untrained_model_to_the_end():
    row = studies.rows(of("headline"))[0]
    assert row.curve[0] == (0, row.before)
    assert row.curve[-1] == (row.tokens, row.loss)
    assert [tokens for tokens, _ in row.curve] == sorted({tokens for tokens, _ in row.curve})
    without = studies.Row(replace(row.record, measurements={**row.record.measurements, "curve": []}))
    assert without.curve == [(0, row.before), (row.tokens, row.loss)]


def test_the_time_of_a_method_is_not_that_of_another_cell():
    for data, factor in (("gsm8k", 1), ("alpaca_cleaned", 2)):
        here = [row for row in studies.rows(of("headline")) if row.data == data]
        found = studies.seconds_alone(of("steps_alone"), studies.cells(here, lambda row: row.method))
        assert found["badam"] == factor * synthetic.SECONDS["badam"]
    by_order = studies.cells(studies.rows(of("order")), lambda row: row.choice("order"))
    times = studies.seconds_alone(of("steps_alone"), by_order)
    assert times == {"random_reshuffle": synthetic.SECONDS["badam"], "ascending": 0.5}


def test_the_recommended_k_is_that_of_the_method_s_paper():
    runs = studies.rows(of("inner_steps"))
    assert {studies.recommended_inner_steps(row) for row in runs} == {6711 / (16 * 30)}
    assert {row.value("method.inner_steps") for row in runs if studies.is_recommended(row)} == {14}
