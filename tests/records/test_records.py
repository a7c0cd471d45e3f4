import json
import math
import subprocess

import pytest

import records
from records import Record, RecordError, provenance

FIELDS = {
    "kind": "train",
    "study": "s",
    "name": "n",
    "key": "k",
    "status": "finished",
    "config": {"a": 1},
    "measurements": {"x": [1.0]},
    "provenance": {"commit": "c"},
}


def test_written_records_are_read_back_equal(tmp_path):
    record = Record(**FIELDS)
    path = records.write(record, tmp_path)
    assert path == tmp_path / "s" / "n.json"
    assert records.load(path) == record
    assert not list(tmp_path.rglob("*.partial"))


def test_find_asks_for_the_key_and_for_success(tmp_path):
    records.write(Record(**FIELDS), tmp_path)
    assert records.find("s", "n", "k", tmp_path)
    assert records.find("s", "n", "other", tmp_path) is None
    assert records.find("s", "m", "k", tmp_path) is None
    records.write(Record(**FIELDS | {"status": "failed", "error": "e"}), tmp_path)
    assert records.find("s", "n", "k", tmp_path) is None
    assert records.load_study("s", kind="train", folder=tmp_path) == []


def test_load_study_is_of_one_kind_and_ordered(tmp_path):
    for name, kind in (("b", "train"), ("a", "train"), ("c", "verify")):
        records.write(Record(**FIELDS | {"name": name, "kind": kind}), tmp_path)
    assert [r.name for r in records.load_study("s", kind="train", folder=tmp_path)] == ["a", "b"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "x"}, "kind='x' is not one of train, verify"),
        ({"status": "running"}, "status='running' is not one of finished, failed"),
        ({"schema": 2}, "schema=2 is not one of 1"),
        ({"name": 3}, "name must be a str, got 3"),
        ({"config": []}, r"config must be a dict, got \[\]"),
        ({"error": "e"}, "status='finished' does not go with error='e'"),
        ({"status": "failed"}, "status='failed' does not go with error=''"),
    ],
)
def test_the_schema_is_enforced(change, message):
    with pytest.raises(RecordError, match=message):
        Record(**FIELDS | change)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"kind": "train"}', json.dumps(FIELDS | {"extra": 1})])
def test_a_file_that_is_no_record_is_named(text, tmp_path):
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(RecordError, match=r"bad.json is not a valid record"):
        records.load(path)


def test_not_a_number_is_refused_and_the_old_record_stays(tmp_path):
    path = records.write(Record(**FIELDS), tmp_path)
    with pytest.raises(ValueError, match="not JSON compliant"):
        records.write(Record(**FIELDS | {"measurements": {"x": math.nan}}), tmp_path)
    assert records.load(path) == Record(**FIELDS)


def test_keys_depend_on_every_value_and_not_on_order():
    key = records.run_key({"a": 1, "b": {"c": 2}}, {"code": "x"})
    assert key == records.run_key({"b": {"c": 2}, "a": 1}, {"code": "x"})
    assert key != records.run_key({"a": 1, "b": {"c": 3}}, {"code": "x"})
    assert key != records.run_key({"a": 1, "b": {"c": 2}}, {"code": "y"})


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A root of its own with one package and git, and the stamp beside it."""
    (tmp_path / "bcd").mkdir()
    (tmp_path / "bcd" / "a.py").write_text("x = 1\n")
    (tmp_path / ".gitignore").write_text(".provenance.json\n")
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    monkeypatch.setattr(provenance, "STAMP", tmp_path / ".provenance.json")
    real = provenance.source_hash
    monkeypatch.setattr(provenance, "source_hash", lambda: real(("bcd",), tmp_path))
    for command in (["init", "-q"], ["add", "-A"], ["-c", "user.name=n", "-c", "user.email=e", "commit", "-qm", "m"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    return tmp_path


def test_revision_knows_the_commit_and_whether_it_is_dirty(clone):
    clean = provenance.revision()
    assert len(clean["commit"]) == 40
    assert not clean["dirty"]
    (clone / "bcd" / "a.py").write_text("x = 2\n")
    assert provenance.revision() == clean | {"dirty": True}


def test_without_git_the_stamp_counts_and_only_for_the_same_sources(clone):
    stamped = provenance.revision()
    provenance.stamp()
    (clone / ".git").rename(clone / "gone")
    assert provenance.revision() == stamped
    (clone / "bcd" / "a.py").write_text("x = 2\n")
    with pytest.raises(ValueError, match="was made from other sources"):
        provenance.revision()
    (clone / ".provenance.json").unlink()
    assert provenance.revision() == {"commit": "unknown", "dirty": True}


def test_source_hash_sees_names_and_contents(tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.py").write_text("1")
    first = provenance.source_hash(("p",), tmp_path)
    (tmp_path / "p" / "a.py").rename(tmp_path / "p" / "b.py")
    second = provenance.source_hash(("p",), tmp_path)
    (tmp_path / "p" / "b.py").write_text("2")
    assert len({first, second, provenance.source_hash(("p",), tmp_path)}) == 3


def test_committed_records_are_valid():
    for path in records.COMMITTED.rglob("*.json"):
        records.load(path)
