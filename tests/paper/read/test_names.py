"""Names in print and the sentence of a caption."""

from paper.read import names
from records import Record
from tests.paper.small import PROVENANCE, train_record


def test_captions_say_which_runs_they_show():
    said = names.source([train_record("badam", 1.0), train_record("lora", 1.0)])
    assert said == "study quick, 2 runs on X CPU, 2026-01-02, commit 0123456789"
    dirty = Record(**{**vars(train_record("badam", 1.0)), "provenance": PROVENANCE | {"dirty": True}})
    assert names.source([dirty]).endswith("commit 0123456789+changes")
