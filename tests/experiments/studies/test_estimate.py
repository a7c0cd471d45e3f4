"""The time that a study takes, before and while it runs."""

import pytest

from experiments.studies import estimate, show
from experiments.studies.progress import Progress

RATES = (1.0, 2.0, 2.0, 2.0, 4.0)  # one round was disturbed, one was lucky


def test_a_disturbed_round_does_not_decide(monkeypatch):
    monkeypatch.setattr(estimate, "rates", lambda *_: RATES)
    assert estimate.flops_per_second("cpu", 64) == 2.0


def test_the_rounds_are_measured_after_a_warm_up():
    found = estimate.rates("cpu", 8, width=8, seconds=0.001, rounds=3)
    assert len(found) == 3
    assert all(rate > 0 for rate in found)


@pytest.mark.integration
def test_the_first_estimate_is_a_range_and_finished_runs_replace_it(entries, monkeypatch):
    listed = entries("small", {"method": ["sgd", "adamw"]})
    monkeypatch.setattr(estimate, "rates", lambda *_: RATES)
    monkeypatch.setattr(estimate, "estimated", lambda run: 300.0)
    assert estimate.spread(listed) == (0.5, 2.0)
    assert show.table(listed).endswith("left: 2 runs, about 5 min to 20 min")
    progress = Progress("small", listed, 1)
    assert progress.remaining() == "study small: 0 of 2 runs done, about 5 min to 20 min left"
    progress.started(listed[0])
    monkeypatch.setattr(progress, "seconds", lambda run: 60.0)
    progress.ended(listed[0], "finished")
    assert progress.remaining() == "study small: 1 of 2 runs done, about 60 s left"
    progress.started(listed[1])
    progress.ended(listed[1], "finished")
    assert progress.remaining() == "study small: 2 of 2 runs done, about 0 s left"
