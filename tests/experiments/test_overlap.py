"""Overlap of training texts with evaluation sets: against a plain search, and from the command to the list."""

import json
import os
import re
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from experiments import configuration, overlap
from experiments.command import spelled_out
from experiments.data.ngrams import Index, words
from experiments.data.splits import identity
from experiments.errors import UserError
from experiments.studies import study
from records import load

ROOT = Path(__file__).resolve().parent.parent.parent
COPIES = ROOT.parent / "shared" / "data"


def plain(items, examples, n, shortest):
    """For every item the largest share of its grams in one example, by comparing everything with everything."""

    def grams(text, size):
        of = words(text)
        return {tuple(of[i : i + size]) for i in range(len(of) - size + 1)}

    found = []
    for texts in items:
        sizes = [min(n, len(words(text))) for text in texts]
        own = set().union(*(grams(t, size) for t, size in zip(texts, sizes, strict=True) if size >= shortest))
        shares = [
            sum(any(gram in grams(text, len(gram)) for text in example) for gram in own) / len(own)
            for example in examples
            if own
        ]
        found.append(max(shares, default=0.0))
    return found


text = st.lists(st.sampled_from("abc"), max_size=9).map(" ".join)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(text, min_size=1, max_size=2), max_size=4), st.lists(st.tuples(text, text), max_size=4))
def test_the_index_finds_what_a_plain_search_finds(items, examples):
    index = Index({"set": items}, n=4, shortest=2)
    covered = [index.add(number, texts) for number, texts in enumerate(examples)]
    expected = plain(items, examples, 4, 2)
    found = index.overlaps["set"]
    assert [found.coverage.get(number, 0.0) for number in range(len(items))] == expected
    assert covered == [max(plain(items, [example], 4, 2), default=0.0) for example in examples]
    assert found.touched == sum(share > 0 for share in expected)
    assert found.near == sum(share >= 0.8 for share in expected)
    assert found.untested == sum(all(len(words(t)) < 2 for t in texts) for texts in items)


def test_case_marks_and_spaces_do_not_hide_a_copy():
    index = Index({"set": [["If 3 hens lay 3 eggs in 3 days, how many do 12 hens lay in 12 days?"]]}, 13, 8)
    assert index.add(0, ["IF 3 hens  lay 3 eggs in 3 days -- how many do 12 hens lay in 12 days", "48"]) == 1.0
    assert index.add(1, ["If 4 hens lay 3 eggs in 3 days, how many do 12 hens lay in 12 days?"]) == pytest.approx(
        4 / 6
    )
    assert index.overlaps["set"].example == {0: 0}, "18 words have 6 grams; the changed word is in two of them"


def test_a_gram_does_not_reach_over_two_texts():
    index = Index({"set": [["a b", "c d"]]}, n=4, shortest=2)
    assert index.add(0, ["x b c x"]) == 0
    assert index.add(0, ["a", "b"]) == 0
    assert index.add(0, ["x a b x"]) == 0.5


@pytest.mark.parametrize(("n", "shortest"), [(0, 1), (3, 0), (3, 4), (True, 1), (2.5, 1)])
def test_impossible_sizes_are_refused(n, shortest):
    with pytest.raises(ValueError, match=r"is not possible|exceeds"):
        Index({}, n, shortest)


# --- the command ---

TRAIN = [
    {
        "question": f"Anna has {i} apples and buys {i} more; how many apples does she have now?",
        "answer": f"#### {2 * i}",
    }
    for i in range(40)
]
TEST = [
    {"question": TRAIN[11]["question"].upper(), "answer": "#### 22"},
    {"question": "Too short", "answer": "#### 0"},
    {"question": "How far does a train go in three hours at a speed of sixty miles each hour?", "answer": "#### 180"},
]


@pytest.fixture
def files(tmp_path):
    for name, rows in (("train", TRAIN), ("test", TEST)):
        (tmp_path / f"gsm8k.{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    turns = [{"turns": ["Tell me about the train that goes sixty miles", "How far does it go in three hours then?"]}]
    (tmp_path / "mt_bench.question.jsonl").write_text("".join(json.dumps(row) + "\n" for row in turns))
    return tmp_path


def arguments(files, *extra):
    sets = [f"~sets.{name}" for name in OmegaConf.load(ROOT / "conf/overlap.yaml").sets if name not in KEPT]
    places = [
        f"data.source.local={files}",
        f"local={files}",
        f"how.records_dir={files}/records",
        "data.heldout_size=null",
    ]
    return ["data=gsm8k", *places, *sets, *extra]


KEPT = ("gsm8k", "mt_bench")


def test_from_the_command_to_training_without_the_copies(files, command):
    listed = files / "lists" / "excluded.txt"
    done = command(overlap.main, *arguments(files, f"exclude={listed}", "coverage=0.5"))
    assert done.returncode == 0, done.stderr
    assert re.search(r"^gsm8k +3 +1 +1 \(50\.0%\) +1 \(50\.0%\)$", done.stdout, re.MULTILINE)
    assert re.search(r"^mt_bench +1 +0 +0 \(0\.0%\)", done.stdout, re.MULTILINE)
    (path,) = (files / "records" / "overlap").glob("gsm8k-*.json")
    record = load(path)
    assert record.kind == "overlap"
    assert record.measurements["sets"]["gsm8k"]["largest"][0]["coverage"] == 1.0
    assert record.measurements["sets"]["gsm8k"]["largest"][0]["prompt"] == TRAIN[11]["question"]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        options = ["data=gsm8k", f"data.source.local={files}", "data.heldout_size=null"]
        whole = configuration.build(study.compose(options)[0].data)
        clean = configuration.build(study.compose([*options, f"data.exclude={listed}"])[0].data)
    assert identity(TRAIN[11]["question"]) in listed.read_text().split()
    gone = {prompt for prompt, _ in whole.texts()["train"]} - {prompt for prompt, _ in clean.texts()["train"]}
    assert TRAIN[11]["question"] in gone
    assert len(gone) == record.measurements["train_excluded"]


def compare(files, *extra):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        import hydra

        return overlap.overlap(hydra.compose("overlap", spelled_out(arguments(files, *extra), "overlap")), "gsm8k")


def test_nothing_shared_writes_no_list(files):
    (files / "gsm8k.test.jsonl").write_text(json.dumps(TEST[2]) + "\n")
    record, told = compare(files, "~sets.mt_bench", f"how.exclude={files}/list")
    assert record.measurements["train_touched"] == 0
    assert "nothing to exclude" in told
    assert not (files / "list").exists()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["coverage=1"], "coverage=1 is not possible"),
        (["n=3"], "shortest=8 exceeds n=3"),
        (["sets.gsm8k.fields=[problem]"], r"gsm8k\.test\.jsonl, row 1: the field 'problem' is None, no text"),
        (["sets.gsm8k.split=dev"], r"has no gsm8k\.dev\{"),
        (
            ["local=null", "~sets.gsm8k"],
            "mt_bench is on no hub in this form: give a folder that has mt_bench.question.jsonl: .*local=FOLDER",
        ),
    ],
)
def test_bad_input_is_one_line(extra, message, files):
    with pytest.raises(ValueError, match=message) as told:
        compare(files, *extra)
    assert "\n" not in str(told.value)


def test_a_list_that_cannot_be_written_is_told(files):
    (files / "file").write_text("")
    with pytest.raises(UserError, match=r"exclude=.*file/list cannot be written"):
        compare(files, f"how.exclude={files}/file/list")
    (files / "list.partial").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\)"):
        compare(files, f"how.exclude={files}/list")
    assert not os.path.exists(files / "list")


@pytest.mark.skipif(not COPIES.is_dir(), reason="no local copies of the data sets in ../shared/data")
def test_every_evaluation_set_has_the_fields_that_its_yaml_names():
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        import hydra

        config = hydra.compose("overlap", [f"local={COPIES}"])
    for name, chosen in config.sets.items():
        assert overlap.items(configuration.build(chosen.source), chosen.split, chosen.fields), name
