"""Small files under the schema of GSM8K, and runs on them."""

import csv
import gzip
import json
import lzma
from functools import partial

import pytest

from tests.experiments.conftest import (
    ROOT,
    planned_at,
)

COPIES = ROOT.parent / "shared" / "data"

ROWS = [
    {"question": f"What is {a} plus {b}?", "answer": f"It is {a} + {b} = <<{a}+{b}={a + b}>>{a + b}.\n#### {a + b}"}
    for a in range(6)
    for b in range(8)
]

TESTS = [{"question": f"What is {a} times 3?", "answer": f"#### {3 * a}"} for a in range(5)]


def write(path, rows):
    """The rows in the format that the name ends in."""
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    if path.name.endswith(".jsonl"):
        path.write_text(lines)
    elif path.suffix == ".xz":
        path.write_bytes(lzma.compress(lines.encode()))
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(lines.encode()))
    elif path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, indent=1))
    else:
        import pyarrow as arrow
        import pyarrow.parquet as parquet

        parquet.write_table(arrow.Table.from_pylist(rows), path)


@pytest.fixture
def files(tmp_path):
    """Folder with a small train and test split under the schema of GSM8K."""
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder / "gsm8k.train.jsonl", ROWS)
    write(folder / "gsm8k.test.jsonl", TESTS)
    return folder


def on(files):
    """Overrides that train on the files."""
    data = ["data=gsm8k", f"data.source.local={files}", "data.train_size=null", "data.heldout_size=4"]
    return [*data, "data.validation_share=0.2", "data.max_tokens=512", "steps=4", "batch_size=4"]


@pytest.fixture
def tiny_gsm8k(places, files):
    """tiny_gsm8k(*overrides) -> the plan of a run on the tiny Llama with the small files."""
    return partial(planned_at, places, *on(files))
