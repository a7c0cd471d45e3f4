"""The cost of a step, measured alone: once for each method, and in rounds."""

import pytest

from experiments import alone, configuration
from experiments.training.loading import Loading


@pytest.mark.slow
def test_the_cost_of_a_step_is_measured_once_for_each_method(entries):
    listed = entries("grid", {"method": ["sgd", "badam"], "seed": [0, 1], "method.lr": [0.1, 0.01]})
    chosen = alone.configurations(listed)
    assert [entry.cell["method"] for entry in chosen] == ["sgd", "badam"]
    seconds, peak = alone.measure(chosen[1].plan, Loading(), steps=4, timed=2)
    assert len(seconds) == 2
    assert min(seconds) > 0
    assert peak is None, "a CPU keeps no account"
    found = alone.record(chosen[1], alone.joined(None, seconds, peak))
    assert (found.kind, found.study, found.name) == ("profile", "steps_alone", "pretrained-reasoning_gym-badam")
    assert found.measurements["seconds_per_step"] == pytest.approx(sum(seconds) / 2)


def test_a_disturbed_step_counts_little_where_there_are_rounds():
    first = alone.joined(None, [1.0, 2.0], 5)
    assert first == {"seconds_per_step": 1.5, "rounds": [[1.0, 2.0]], "peak_allocated": 5}
    third = alone.joined(alone.joined(first, [1.0, 20.0], 7), [9.0, 4.0], 6)
    assert third["rounds"] == [[1.0, 2.0], [1.0, 20.0], [9.0, 4.0]]
    assert third["seconds_per_step"] == 2.5, "the mean of 1 and 4, the medians of each step"
    assert third["peak_allocated"] == 7


@pytest.mark.slow
def test_what_costs_the_same_has_one_name_in_every_study_and_is_measured_once(entries, capsys, monkeypatch):
    first = entries("first", {"method": ["sgd", "badam"], "seed": [0]})
    second = entries(
        "second", {"data": ["reasoning_gym"], "method": ["badam", "adamw"], "method.lr": [0.1]}, "data.test=true"
    )
    third = entries("third", {"order": ["ascending"]}, "method=badam")
    real, measured = alone.measure, []

    def broken(planned, loading):
        measured.append(planned.name)
        if planned.config.choices.method == "sgd":
            raise RuntimeError("no luck")
        return real(planned, loading, steps=2, timed=1)

    monkeypatch.setattr(alone, "measure", broken)
    found = alone.execute([*first, *second, *third])
    names = [f"pretrained-reasoning_gym-{name}" for name in ("sgd", "badam", "adamw", "ascending")]
    assert [record.name for record in found] == names
    assert [record.status for record in found] == ["failed", *["finished"] * 3]
    assert "pretrained-reasoning_gym-sgd: FAILED, RuntimeError: no luck" in capsys.readouterr().out
    measured.clear()
    assert [record.name for record in alone.execute([*second, *first])] == [names[1], names[2], names[0]]
    assert measured == ["sgd-seed0"], "what is finished is not measured again, whichever study asks"
    measured.clear()
    capsys.readouterr()
    found = alone.execute(second, rounds=3)
    assert measured == ["reasoning_gym-badam-lr0.1", "reasoning_gym-adamw-lr0.1"] * 2, "in turns, until all have three"
    assert [len(record.measurements["rounds"]) for record in found] == [3, 3]
    assert capsys.readouterr().out.count("ms a step (") == 4
    assert alone.execute(second) == found
    assert capsys.readouterr().out.count(", recorded before\n") == 2
    monkeypatch.setattr(alone, "measure", lambda *_: 1 / 0)
    failed = alone.execute(second, rounds=4)
    assert [record.error for record in failed] == ["ZeroDivisionError: division by zero"] * 2
    monkeypatch.setattr(alone, "measure", broken)
    measured.clear()
    assert alone.execute(second, rounds=3) == found, "a failure takes no round away"
    assert measured == []
    monkeypatch.setattr(configuration, "device_name", lambda kind: "another card")
    assert [len(record.measurements["rounds"]) for record in alone.execute(second)] == [1, 1]
    assert [len(record.measurements["rounds"]) for record in alone.execute(second, force=True)] == [1, 1]
    assert len(measured) == 4
