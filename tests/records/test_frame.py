"""Records as a table: every run, step and point of a study, under the names that the records have."""

import json
import subprocess
import sys

import pytest

import records
from records import Record, RecordError, write
from tests.conftest import ROOT


def record(seed, *, study="small", status="finished", **measurements):
    return Record(
        kind="train",
        study=study,
        name=f"run-seed{seed}",
        key=str(seed),
        status=status,
        config={"seed": seed, "method": {"lr": 0.1}, "always": ["a"]},
        measurements=measurements,
        provenance={"device": "cpu", "versions": {"torch": "2"}},
        error="broken" if status == "failed" else "",
    )


@pytest.fixture
def folder(tmp_path):
    curve = [{"step": 0, "heldout_loss": 3.0}, {"step": 2, "heldout_loss": 2.0}]
    steps = {"loss": [3.0, 2.5], "lr": [0.1, 0.05]}
    write(record(0, after={"heldout_loss": 2.0}, curve=curve, steps=steps), tmp_path)
    write(record(1, status="failed"), tmp_path)
    write(record(0, study="other", after={"heldout_loss": 1.0}), tmp_path)
    return tmp_path


def test_a_row_a_run(folder):
    table = records.frame(folder / "small")
    assert list(table["name"]) == ["run-seed0", "run-seed1"]
    assert list(table["config.method.lr"]) == [0.1, 0.1]
    assert table["config.always"][0] == ["a"]
    assert table["measurements.after.heldout_loss"][0] == 2.0
    assert table["measurements.after.heldout_loss"].isna()[1]
    assert list(table["error"]) == ["", "broken"]
    assert table["provenance.versions.torch"][0] == "2"
    assert not [name for name in table if name.startswith("measurements.steps")]


def test_a_row_a_step_and_a_row_a_point(folder):
    table = records.frame(folder / "small", "step")
    assert table[["name", "step", "loss", "lr"]].to_numpy().tolist() == [
        ["run-seed0", 1, 3.0, 0.1],
        ["run-seed0", 2, 2.5, 0.05],
    ]
    points = records.frame(folder / "small", "point")
    assert points[["config.seed", "step", "heldout_loss"]].to_numpy().tolist() == [[0, 0, 3.0], [0, 2, 2.0]]


def test_a_folder_of_studies_a_file_and_a_name_are_places(folder, monkeypatch):
    assert sorted(records.frame(folder)["study"]) == ["other", "small", "small"]
    assert len(records.frame(folder / "small" / "run-seed0.json")) == 1
    line = json.dumps(records.content(record(7, study="lines")))
    (folder / "lines.jsonl").write_text(line + "\n")
    assert list(records.frame(folder / "lines.jsonl")["config.seed"]) == [7]
    monkeypatch.setattr(records, "OUTPUTS", folder)
    assert list(records.frame("lines")["config.seed"]) == [7]
    assert len(records.frame("small")) == 2


def test_the_committed_studies_are_tables():
    table = records.frame("headline", kind="train")
    assert {"adamw", "badam"} <= set(table["config.choices.method"])
    assert table["measurements.test.heldout_loss"].notna().all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing",), "nothing is no file, no folder and none of the studies .*headline"),
        (("headline", "epoch"), "each='epoch' is not one of run, step, point"),
    ],
)
def test_what_is_not_there_is_one_line(arguments, message):
    with pytest.raises(RecordError, match=message):
        records.frame(*arguments)


def test_an_empty_folder_and_an_empty_kind_are_one_line(folder, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    (empty / f"under-way{records.LIVE}").write_text("{}")
    with pytest.raises(RecordError, match="has no records"):
        records.frame(empty)
    with pytest.raises(RecordError, match="kind='profile'"):
        records.frame(folder, kind="profile")


@pytest.mark.integration
def test_pandas_is_imported_by_a_frame_alone():
    code = "import records, sys; assert 'pandas' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
