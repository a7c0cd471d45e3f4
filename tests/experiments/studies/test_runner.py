"""Studies: failed runs wait for a request, runs are shared, the table tells what is left."""

import io

import pytest
from rich.console import Console

from experiments.studies import estimate, runner, show, worker
from experiments.studies.progress import Progress
from experiments.training import running
from experiments.training.checkpoint import BusyError, Checkpoints, locked
from tests.experiments.conftest import measured


def test_failed_runs_are_run_again_on_request_only(entries, monkeypatch, capsys):
    measure = running.Running.measure

    def broken(self, found, interruption):
        raise OSError("no luck")

    monkeypatch.setattr(running.Running, "measure", broken)
    assert [record.status for record in runner.execute(entries("small", {"method": ["sgd"]}), "small")] == ["failed"]
    monkeypatch.setattr(running.Running, "measure", measure)
    listed = entries("small", {"method": ["sgd"]})
    assert listed[0].state == "failed"
    assert "sgd  failed" in show.table(listed)
    assert [record.status for record in runner.execute(listed, "small")] == ["failed"]
    assert "sgd: failed before (OSError: no luck); retry=true runs it again" in capsys.readouterr().out
    assert [record.status for record in runner.execute(listed, "small", retry=True)] == ["finished"]


def test_an_error_with_brackets_is_told_as_it_is():
    console = Console(file=io.StringIO(), width=200)
    Progress("small", [], 2, console).say("sgd: FAILED, RuntimeError: [/tmp/x.so] [bold] is missing")
    assert console.file.getvalue() == "sgd: FAILED, RuntimeError: [/tmp/x.so] [bold] is missing\n"


@pytest.mark.slow
def test_a_run_that_another_process_works_on_is_skipped(entries, capsys):
    listed = entries("small", {"method": ["sgd", "adamw"]})
    with listed[0].locked():
        records = runner.execute(listed, "small")
    assert [record.name for record in records] == ["adamw"]
    assert "sgd: another process works on it, skipped" in capsys.readouterr().out
    assert len(runner.execute(entries("small", {"method": ["sgd", "adamw"]}), "small")) == 2


def test_runs_whose_names_differ_after_a_dot_do_not_wait_for_each_other(tmp_path):
    one, other = (Checkpoints(tmp_path / f"sgd-lr0.{digits}-seed0-key", "key") for digits in ("01", "001"))
    with locked(one.lock), locked(other.lock), pytest.raises(BusyError), locked(one.lock):
        pass


def test_a_run_finished_elsewhere_meanwhile_is_not_repeated(entries, monkeypatch):
    listed = entries("small", {"method": ["sgd"]})
    runner.execute(listed, "small")  # as if by another process: `listed` still says "to do"
    monkeypatch.setattr(worker, "execute", lambda *_, **__: pytest.fail("it ran again"))
    assert [record.status for record in runner.execute(listed, "small")] == ["finished"]


def test_a_lock_is_free_when_its_process_is_gone(tmp_path):
    with locked(tmp_path / "a.lock"), pytest.raises(BusyError), locked(tmp_path / "a.lock"):
        pass
    with locked(tmp_path / "a.lock"):
        pass


def test_the_live_table_shows_what_runs_and_what_is_left(entries):
    listed = entries("small", {"method": ["sgd", "adamw"]})
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    progress = Progress("small", listed, 2, console)
    with progress:
        progress.started(listed[0])
        console.print(progress)
        progress.ended(listed[0], "finished")
    text = console.file.getvalue()
    assert "0 of 2 runs done" in text
    assert "running" in text
    assert "1 of 2 runs done" in progress.remaining()


def test_a_study_skips_what_is_finished_and_goes_on_after_a_failure(entries, monkeypatch, capsys):
    listed = entries("small", {"method": ["badam", "sgd", "lora"], "seed": [0]})
    assert [entry.name for entry in listed] == ["badam-seed0", "sgd-seed0", "lora-seed0"]
    assert all(estimate.seconds(entry) > 0 for entry in listed)
    measure = running.Running.measure

    def broken(self, found, interruption):
        if self.planned.name.startswith("sgd"):
            raise OSError("disk full")
        measure(self, found, interruption)

    monkeypatch.setattr(running.Running, "measure", broken)
    records = runner.execute(listed, "small", retry=True)
    assert [record.status for record in records] == ["finished", "failed", "finished"]
    assert "sgd-seed0: FAILED, OSError: disk full" in capsys.readouterr().out
    monkeypatch.setattr(running.Running, "measure", measure)
    listed = entries("small", {"method": ["badam", "sgd", "lora"], "seed": [0]})
    assert [entry.state for entry in listed] == ["finished", "failed", "finished"]
    assert "left: 1 runs" in show.table(listed)
    assert [record.status for record in runner.execute(listed, "small", retry=True)] == ["finished"] * 3


@pytest.mark.slow
def test_records_of_an_earlier_form_of_a_study_are_removed(entries, capsys, tmp_path):
    listed = entries("small", {"method": ["sgd", "lora"], "seed": [0]})
    runner.execute(listed, "small")
    runner.remove_strangers(listed[:1], tmp_path / "records" / "small")
    assert "lora-seed0.json: no run of the study any more, removed" in capsys.readouterr().out
    left = sorted(path.name for path in (tmp_path / "records" / "small").iterdir())
    assert left == ["sgd-seed0.json", "sgd-seed0.live.jsonl"]


# --- several studies ---


@pytest.mark.slow
def test_a_run_that_two_studies_have_is_executed_once(entries, capsys, monkeypatch):
    first = entries("first", {"method": ["sgd", "adamw"]})
    second = entries("second", {"seed": [0, 1], "method": ["sgd"]})
    real, executed = running.execute, []

    def counted(run, **options):
        executed.append(run.place)
        return real(run, **options)

    monkeypatch.setattr(worker, "execute", counted)
    records = runner.execute([*first, *second], "first, second")
    assert executed == [("first", "sgd"), ("first", "adamw"), ("second", "seed1-sgd")]
    assert [(r.study, r.name) for r in records] == [
        ("first", "sgd"),
        ("first", "adamw"),
        ("second", "seed0-sgd"),
        ("second", "seed1-sgd"),
    ]
    assert measured(records[0]) == measured(records[2])
    (later,) = runner.execute(entries("third", {"seed": [1], "method": ["sgd"]}), "third")
    assert "seed1-sgd: finished before in the study second, taken over" in capsys.readouterr().out
    assert later.study == "third"
    assert len(executed) == 3
    assert measured(later) == measured(records[3])


@pytest.mark.slow
@pytest.mark.parametrize("failed", ["a", "z"])
def test_a_run_that_failed_here_is_taken_over_from_where_it_finished(failed, entries, monkeypatch):
    other = {"a": "z", "z": "a"}[failed]
    measure = running.Running.measure

    def broken(self, found, interruption):
        raise OSError("no luck")

    monkeypatch.setattr(running.Running, "measure", broken)
    assert runner.execute(entries(failed, {"method": ["sgd"]}), failed)[0].status == "failed"
    monkeypatch.setattr(running.Running, "measure", measure)
    assert runner.execute(entries(other, {"method": ["sgd"]}), other)[0].status == "finished"
    monkeypatch.setattr(worker, "execute", None)
    (record,) = runner.execute(entries(failed, {"method": ["sgd"]}), failed)
    assert (record.study, record.status) == (failed, "finished")


# --- turns ---


def test_long_and_short_runs_take_turns(entries):
    listed = entries("sizes", {"steps": [1, 2, 3, 4, 5, 6, 7]}, "method=sgd")
    order = [entry.plan.config.steps for entry in runner.interleaved(listed, 2)]
    assert order == [7, 6, 2, 1, 5, 4, 3]
    assert sorted(e.plan.config.steps for e in runner.interleaved(listed, 1)) == [1, 2, 3, 4, 5, 6, 7]


def test_a_process_keeps_to_the_forms_that_it_has_compiled(entries):
    listed = entries("forms", {"method": ["sgd", "adamw"], "method.lr": [0.1, 0.01], "seed": [0, 1]})
    sgd, adamw = listed[0].plan.form, listed[4].plan.form
    first = runner.rounds(listed)
    assert [[entry.cell["method"] for entry in part] for part in first] == [["sgd", "adamw"]] * 4
    assert sorted(entry.name for part in first for entry in part) == sorted(e.plan.name for e in listed)
    waiting = [entry for part in first for entry in part]
    assert [runner.next_for(forms, waiting) for forms in ({sgd}, {adamw}, {"x"}, ())] == [0, 1, 0, 0]
    later = entries("later", {"method": ["lora"]})
    assert runner.next_for({adamw}, [*later, *waiting]) == 0, "the study in turn comes first"
