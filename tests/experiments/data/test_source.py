"""Where rows come from: files of every format and the hub, and every fault in one line."""

import gzip
import json
import lzma
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.data import source
from experiments.data.source import SUFFIXES, Source, read_file
from experiments.errors import UserError
from experiments.evaluate import documents, mt_bench
from tests.experiments.conftest import ROOT
from tests.experiments.data.conftest import ROWS, write


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_gives_the_same_rows(suffix, tmp_path):
    write(tmp_path / f"sums.train{suffix}", ROWS)
    for local in (tmp_path, tmp_path / f"sums.train{suffix}"):
        found = Source(hub="nobody/sums", file="sums", local=str(local)).rows("train", ("question", "answer"))
        assert found == ROWS


@pytest.mark.slow
def test_the_hub_is_asked_by_name_through_datasets(tmp_path):
    """A folder is what the library takes for a hub name without a network; two configurations give all rows."""
    for name, rows in (("one", ROWS[:3]), ("two", ROWS[3:])):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "train.jsonl", rows)
    card = [f"  - config_name: {name}\n    data_files: {name}/train.jsonl\n" for name in ("one", "two")]
    (tmp_path / "README.md").write_text("---\nconfigs:\n" + "".join(card) + "---\n")
    code = (
        "from experiments.data.source import Source; import sys;"
        "print(len(Source(hub=sys.argv[1], file='x', configs=['one', 'two']).rows('train', ('question', 'answer'))))"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.stdout == f"{len(ROWS)}\n", done.stderr


@pytest.mark.slow
def test_a_hub_that_cannot_be_had_is_told_with_the_way_out(tmp_path):
    code = (
        "from experiments.data.source import Source; Source(hub='nobody/nothing-at-all', file='x').rows('train', ())"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    told = done.stderr.strip().splitlines()[-1]
    assert re.search(
        r"UserError: nobody/nothing-at-all, split train, cannot be had from the hub \(.+\); .*local_data=FOLDER",
        told,
    )


def test_a_missing_library_is_told_with_its_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        UserError, match="by the package datasets, which is missing: pip install datasets, or give a folder"
    ):
        Source(hub="openai/gsm8k", file="gsm8k").rows("train", ())


def test_local_files_are_never_replaced_by_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "_hub_rows", lambda *_: pytest.fail("the hub was asked"))
    with pytest.raises(UserError, match=r"has no gsm8k\.train\{\.jsonl,.* or null for openai/gsm8k"):
        Source(hub="openai/gsm8k", file="gsm8k", local=str(tmp_path)).rows("train", ())
    write(tmp_path / "gsm8k.train.jsonl", ROWS)
    write(tmp_path / "gsm8k.train.json", ROWS)
    with pytest.raises(UserError, match=r"has both gsm8k\.train\.jsonl and gsm8k\.train\.json"):
        Source(hub="openai/gsm8k", file="gsm8k", local=str(tmp_path)).rows("train", ())
    with pytest.raises(UserError, match="is one file, so it has no test split"):
        Source(hub="openai/gsm8k", file="gsm8k", local=str(tmp_path / "gsm8k.train.json")).rows("test", ())


FAULTS = {
    "bad.jsonl": (b'{"question": "a", "answer": "b"}\n{"question": \n', "line 2: no valid JSON"),
    "bad.json": (b'[\n{"question": "a"},\n]', "line 3: no valid JSON"),
    "object.json": (b'{"question": "a"}', "is no list of rows"),
    "list.jsonl": (b"[1, 2]\n", "row 1: not an object with fields"),
    "empty.jsonl": (b"", "has no rows"),
    "latin.jsonl": ('{"question": "é"}'.encode("latin-1"), "line 1: byte 0xe9 at 14 is no UTF-8; save the file as"),
    "cut.jsonl.xz": (lzma.compress(b'{"question": "a", "answer": "b"}\n' * 99)[:-20], "cannot be read: "),
    "no.jsonl.xz": (b"no such format", "cannot be read: Input format not supported"),
    "no.parquet": (b"no such format", "cannot be read: "),
    "cut.jsonl.gz": (gzip.compress(b'{"question": "a", "answer": "b"}\n' * 99)[:-20], "cannot be read: "),
    "no.jsonl.gz": (b"no such format", "cannot be read: Not a gzipped file"),
    "short.csv": (b"question,answer\na\n", r"row 1 \(line 2\): 1 values for 2 fields \(question, answer\)"),
    "long.csv": (b"question,answer\na,b, or c\n", r"row 1 \(line 2\): 3 values for 2 fields"),
    "quotes.csv": (b'question,answer\n"a" b,c\n', "after line 1: no valid CSV"),
    "open.csv": (b'question,answer\n"a,c\n', "no valid CSV"),
    "twice.csv": (b"question,question\na,b\n", "line 1: the names of the fields are 'question', 'question'"),
    "name.tsv": (b"question,answer\n", "the name ends in none of .jsonl"),
    "field.jsonl": (
        b'{"question": "a", "answer": "b"}\n{"question": "a", "reply": "b"}\n',
        r"row 2: the field 'answer' is missing \(it has question, reply\)",
    ),
    "number.jsonl": (b'{"question": "a", "answer": 3}\n', "row 1: the field 'answer' is 3, no text"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_of_a_file_are_one_line_with_its_name(name, tmp_path):
    content, message = FAULTS[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as told:
        Source(hub="x/y", file="x", local=str(tmp_path / name)).rows("train", ("question", "answer"))
    assert name in str(told.value)
    assert "\n" not in str(told.value)


def test_five_faults_are_told_at_once_and_the_others_counted(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"a": "b"}\n' + "{\n" * 7)
    with pytest.raises(UserError) as told:
        read_file(path)
    *lines, last = str(told.value).splitlines()
    assert [line.partition(": ")[0] for line in lines] == [f"{path}, line {number}" for number in range(2, 7)]
    assert last == "7 bad rows in all, of which these are the first 5"


def test_a_value_of_a_table_may_have_commas_quotes_and_lines(tmp_path):
    rows = [{"question": 'a, "b"\nc' + "d" * 200_000, "answer": ""}]
    write(tmp_path / "own.csv", rows)
    (tmp_path / "marked.csv").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "own.csv").read_bytes())
    assert read_file(tmp_path / "own.csv") == read_file(tmp_path / "marked.csv") == rows


def test_rows_may_be_under_data(tmp_path):
    path = tmp_path / "own.json"
    path.write_text(json.dumps({"version": 1, "data": ROWS}))
    assert read_file(path) == ROWS


def test_a_file_that_may_not_be_read_is_told(tmp_path, monkeypatch):
    write(tmp_path / "x.train.jsonl", ROWS)

    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(UserError, match=r"x\.train\.jsonl cannot be read: Permission denied"):
        Source(hub="x/y", file="x", local=str(tmp_path)).rows("train", ())


def test_a_changed_file_is_read_again(tmp_path):
    where = Source(hub="x/y", file="x", local=str(tmp_path))
    write(tmp_path / "x.train.jsonl", ROWS)
    assert len(where.rows("train", ())) == len(ROWS)
    write(tmp_path / "x.train.jsonl", ROWS[:5])
    assert len(where.rows("train", ())) == 5


LINES = [json.dumps(row) for row in ROWS]


@pytest.mark.parametrize(
    "text",
    [
        "\n\n".join(LINES) + "\n   \n",
        "\r\n".join(LINES) + "\r\n",
        "\ufeff" + "\n".join(LINES),
        "\n".join(LINES),
    ],
    ids=["blank lines", "CRLF", "byte-order mark", "no last newline"],
)
def test_training_and_evaluation_read_the_same_rows(text, tmp_path):
    (tmp_path / "gsm8k.test.jsonl").write_text(text, encoding="utf-8", newline="")
    assert Source(None, "gsm8k", local=str(tmp_path)).rows("test", ("question", "answer")) == ROWS
    assert documents.Source("gsm8k.test").rows(tmp_path, ("question", "answer"))[0] == ROWS
    assert mt_bench.checked(str(tmp_path / "gsm8k.test.jsonl"), ("question",)) == ROWS


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"question": "this \ud83d thing", "answer": "1"}, "question"),
        ({"question": "a", "answer": "\udc00"}, "answer"),
        ({"question": "a", "answer": "1", "turns": [{"content": "\ud83d"}]}, "turns"),
    ],
)
@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_half_a_character_is_named_with_file_row_and_field(row, field, suffix, tmp_path):
    rows = [*ROWS, row]
    path = tmp_path / f"gsm8k.train{suffix}"
    path.write_text(json.dumps(rows) if suffix == ".json" else "\n".join(map(json.dumps, rows)), encoding="utf-8")
    with pytest.raises(
        UserError, match=rf"{path}, row {len(rows)}: the field '{field}' has half of a character \('.u[d8]"
    ):
        read_file(path)


def test_a_whole_character_in_two_halves_is_one(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({"question": "😀"}), encoding="utf-8")
    assert "\\ud83d" in path.read_text(encoding="utf-8")
    assert read_file(path) == [{"question": "😀"}]
