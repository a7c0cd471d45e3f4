import json

import pytest

import records
from records import Record, RecordError, commit

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


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_was_measured_and_is_not_finite_is_null_and_listed(value, tmp_path):
    measured = {"after": {"loss": value, "items": 3}, "curve": [{"loss": 1.0}, {"loss": value}], "steps": (value, 2)}
    path = records.write(Record(**FIELDS | {"measurements": measured}), tmp_path)
    read = records.load(path).measurements
    assert read == {
        "after": {"loss": None, "items": 3},
        "curve": [{"loss": 1.0}, {"loss": None}],
        "steps": [None, 2],
        "not_finite": ["after.loss", "curve.1.loss", "steps.0"],
    }


def test_a_configuration_that_is_not_finite_is_refused_and_the_old_record_stays(tmp_path):
    path = records.write(Record(**FIELDS), tmp_path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="not JSON compliant"):
        records.write(Record(**FIELDS | {"config": {"lr": float("nan")}}), tmp_path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_keys_depend_on_every_value_and_not_on_order():
    key = records.run_key({"a": 1, "b": {"c": 2}}, {"code": "x"})
    assert key == records.run_key({"b": {"c": 2}, "a": 1}, {"code": "x"})
    assert key != records.run_key({"a": 1, "b": {"c": 3}}, {"code": "x"})
    assert key != records.run_key({"a": 1, "b": {"c": 2}}, {"code": "y"})


def test_one_record_is_read_without_the_others(tmp_path):
    path = records.write(Record(**FIELDS), tmp_path)
    (path.parent / "damaged.json").write_text("{")
    assert records.read("s", "n", tmp_path) == Record(**FIELDS)
    assert records.read("s", "another", tmp_path) is None
    assert records.read("another", "n", tmp_path) is None


def together(folder, *changes):
    """The file of the study "s" with a line for each change of `FIELDS`."""
    path = folder / "s.jsonl"
    path.write_text("".join(json.dumps(FIELDS | change) + "\n" for change in changes))
    return path


TWO = ({"name": "a", "key": "1"}, {"name": "b", "key": "2", "status": "failed", "error": "e"})


def test_a_study_is_read_from_a_line_a_run(tmp_path):
    path = together(tmp_path, *TWO)
    first, second = records.read_study("s", tmp_path)
    assert (first.name, second.error, first.path) == ("a", "e", path)
    assert records.load_study("s", kind="train", folder=tmp_path) == [first]
    assert records.find("s", "a", "1", tmp_path) == first
    assert records.find("s", "b", "2", tmp_path) is None, "it failed"
    assert records.read("s", "b", tmp_path) == second
    assert records.read("s", "c", tmp_path) is None
    assert records.read_study("t", tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([{"name": "b", "key": "1"}, {"name": "a", "key": "2"}], "line 2: name='a' is not in order after 'b'"),
        ([{"name": "a", "key": "1"}, {"name": "a", "key": "2"}], "line 2: name='a' is that of line 1 too"),
        ([{"name": "a", "key": "1"}, {"name": "b", "key": "1"}], "line 2: key='1' of 'b' is that of line 1 too"),
        ([{"study": "t"}], "line 1: study='t' is not 's', as the file is named"),
        ([*TWO, {"name": "c", "kind": "x"}], "line 3 is not a valid record: kind='x' is not one of"),
        ([*TWO, {"name": "c", "more": 1}], "line 3 is not a valid record: .*unexpected keyword argument 'more'"),
    ],
)
def test_a_line_that_does_not_belong_there_is_named(changes, message, tmp_path):
    together(tmp_path, *changes)
    with pytest.raises(RecordError, match=rf"s\.jsonl, {message}"):
        records.read_study("s", tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1 is not a valid record: Expecting value at character 1"),
        ("LINE\n\n", "line 2 is not a valid record: Expecting value"),
        ('LINE\n{"kind": "train"', "line 2 is not a valid record: Expecting ',' delimiter at character 17"),
        ('LINE\n{"kind": "train"}', r"line 2 is not a valid record: .*missing .* 'study', 'name', 'key'"),
        ("LINE\n[1]\n", "line 2 is not a valid record"),
    ],
)
def test_a_damaged_line_is_named(text, message, tmp_path):
    (tmp_path / "s.jsonl").write_text(text.replace("LINE", json.dumps(FIELDS)))
    with pytest.raises(RecordError, match=rf"s\.jsonl, {message}"):
        records.read_study("s", tmp_path)


def test_a_file_that_is_no_text_is_named(tmp_path):
    (tmp_path / "s.jsonl").write_bytes(b"\xff")
    with pytest.raises(RecordError, match=r"s\.jsonl is not a file of records"):
        records.read_study("s", tmp_path)


def test_two_forms_of_one_study_are_refused(tmp_path):
    together(tmp_path, *TWO)
    records.write(Record(**FIELDS), tmp_path)
    with pytest.raises(RecordError, match="both hold records of s; remove one of them"):
        records.read_study("s", tmp_path)


COMMITTED = sorted(records.COMMITTED.glob("*.jsonl"))


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_committed_studies_are_valid_and_lack_what_tells_nothing(path):
    found = records.load_lines(path)
    assert commit.text_of(found) == path.read_text()
    assert not any(commit.columns_left_out(record) for record in found)


def test_folders_hold_code_or_results():
    assert len(COMMITTED) >= 26
    assert not [path for path in (records.ROOT / "records").iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert {path.suffix for path in records.COMMITTED.iterdir()} == {".jsonl", ".md"}
