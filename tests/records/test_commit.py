"""The results of a study from the records of its runs: what is kept, what is left out, what is refused."""

from typing import Any

import pytest

import records
from records import Record, commit

STEPS = {"loss": [2.0, 1.0], "lr": [1e-3, 0.0], "grad_norm": [None, 1.5], "seconds": [0.1, 0.2]}
CLEAN = {"commit": "c", "dirty": False}


def run(name: str, study: str = "s", execution: str = "packed", **changes: Any) -> Record:
    values: dict[str, Any] = {
        "kind": "train",
        "key": f"key of {name}",
        "status": "finished",
        "config": {"choices": {"execution": execution}},
        "measurements": {"steps": STEPS, "seconds": 9.5, "after": {"heldout_loss": 1e-17}},
        "provenance": CLEAN,
    }
    return Record(study=study, name=name, **values | changes)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "COMMITTED", tmp_path / "results")
    return tmp_path


def call(folder, *arguments: str, made: tuple[Record, ...] = ()) -> None:
    for record in made:
        records.write(record, folder / "outputs")
    commit.main([*arguments, "--from", str(folder / "outputs")])


def lines(study: str = "s") -> dict[str, Record]:
    return {record.name: record for record in records.read_study(study, records.COMMITTED)}


def test_every_field_but_two_columns_stays(folder, capsys):
    made = (run("b"), run("a", execution="plain"), run("c", kind="profile"))
    call(folder, "s", made=made)
    found = lines()
    assert list(found) == ["a", "b", "c"]
    steps = {name: record.measurements["steps"].keys() for name, record in found.items()}
    assert steps == {"a": {"loss", "grad_norm", "seconds"}, "b": {"loss", "grad_norm"}, "c": STEPS.keys()}
    for record in made:
        line = records.content(found[record.name])
        line["measurements"]["steps"] = STEPS
        assert line == records.content(record)
    said = capsys.readouterr().out
    assert "s.jsonl: 3 runs, 0 of them failed; 3 added, 0 changed, 0 removed" in said
    assert "left out: the learning rate of every step, of 2 runs" in said
    assert "left out: the seconds of every step, of 1 runs" in said


def test_a_failed_run_is_a_result_and_is_said(folder, capsys):
    call(folder, "s", made=(run("a"), run("b", status="failed", error="the loss is nan", measurements={})))
    assert lines()["b"].error == "the loss is nan"
    assert "failed: b: the loss is nan" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("made", "arguments", "message"),
    [
        ((), (), "outputs/s has no records"),
        ((run("a"), run("b", status="interrupted")), (), "s: b did not finish"),
        ((run("a", provenance=CLEAN | {"dirty": True}),), (), "s: a ran with changes that no commit holds"),
        ((run("a", provenance={}),), (), "give --allow-dirty"),
        ((run("a", key="1"), run("b", key="1")), (), "line 2: key='1' of 'b' is that of line 1 too"),
    ],
)
def test_what_is_no_result_is_refused_and_nothing_is_written(folder, made, arguments, message, capsys):
    call(folder, "t", made=(run("x", study="t"),))
    with pytest.raises(SystemExit) as stop:
        call(folder, "t", "s", "--replace", *arguments, made=(*made, run("y", study="t")))
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert list(lines("t")) == ["x"], "the other study is not written either"
    assert not (records.COMMITTED / "s.jsonl").exists()


def test_runs_of_changed_sources_are_taken_where_that_is_said(folder):
    call(folder, "s", "--allow-dirty", made=(run("a", provenance=CLEAN | {"dirty": True}),))
    assert lines()["a"].provenance["dirty"] is True


def test_a_study_that_is_there_is_merged_with_or_replaced_as_asked(folder, capsys):
    call(folder, "s", made=(run("a"), run("b")))
    before = lines()
    (folder / "outputs" / "s" / "a.json").unlink()
    again = run("b", measurements={"after": {"heldout_loss": 0.5}})
    with pytest.raises(SystemExit):
        call(folder, "s", made=(again, run("c")))
    assert "--merge adds to it, --replace makes it anew" in capsys.readouterr().err
    assert lines() == before
    call(folder, "s", "--merge")
    assert list(lines()) == ["a", "b", "c"]
    assert lines()["b"].measurements == again.measurements
    assert "1 added, 1 changed, 0 removed" in capsys.readouterr().out
    call(folder, "s", "--replace")
    assert list(lines()) == ["b", "c"]
    said = capsys.readouterr().out
    assert "0 added, 0 changed, 1 removed" in said
    assert "removed: a" in said


def test_two_files_with_one_name_are_refused(folder, capsys):
    path = records.write(run("a"), folder / "outputs")
    (path.parent / "copy.json").write_text(path.read_text())
    with pytest.raises(SystemExit):
        call(folder, "s")
    assert "hold runs of one name" in capsys.readouterr().err


def test_an_older_file_stays_when_the_new_one_cannot_be_written(folder, capsys, monkeypatch):
    call(folder, "s", made=(run("a"),))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(records.os, "fsync", full)
        with pytest.raises(SystemExit):
            commit.main(["s", "--merge", "--from", str(folder / "outputs")])
    assert list(lines()) == ["a"]
    assert [path.name for path in records.COMMITTED.iterdir()] == ["s.jsonl"]
