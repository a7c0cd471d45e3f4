"""Examples from rows: what is learned, what is left out and counted, and what is refused."""

import itertools
import re

import pytest
from hydra import initialize_config_dir

from experiments import configuration
from experiments.data import splits
from experiments.data.schemas import Alpaca
from experiments.data.source import Source
from experiments.data.splits import identity
from experiments.data.supervised import Supervised
from experiments.errors import UserError
from experiments.interruption import Interrupted
from experiments.studies import study
from experiments.training.run import Run
from experiments.training.running import execute
from tests.experiments.conftest import ROOT, terminate
from tests.experiments.data.conftest import COPIES, ROWS, TESTS, write


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.validation_share=0", "data.validation_share=0 is not possible"),
        ("data.validation_share=1.0", "data.validation_share=1.0 is not possible"),
        ("data.test_share=x", "data.test_share='x' is not possible"),
        ("data.test_share=0.9", "leave nothing to train on"),
        ("data.train_size=1000", r"data.train_size=1000 is not possible: there are \d+ examples"),
        ("data.heldout_size=0", "data.heldout_size=0 is not possible"),
        ("data.max_tokens=0", "data.max_tokens=0 is not possible"),
        ("data.bucket=x", "data.bucket='x' is not possible"),
        ("data.test=1", "data.test=1 is not one of True, False"),
        ("data.exclude=/nowhere", "data.exclude=/nowhere cannot be read: No such file"),
        ("batch_size=100", "batch_size=100 exceeds data.train_size="),
    ],
)
def test_impossible_values_are_refused(override, message, tiny_gsm8k):
    with pytest.raises(ValueError, match=message):
        tiny_gsm8k(override)


def test_too_long_examples_are_left_out_and_counted_but_not_of_the_test(tiny_gsm8k, files):
    from transformers import AutoTokenizer

    long = {"question": "What is " + "1 plus " * 40 + "1?", "answer": "#### 41"}
    planned = tiny_gsm8k("data.max_tokens=190")
    tokenizer = AutoTokenizer.from_pretrained(planned.workload.model.folder())
    whole = planned.workload.data.load(tokenizer)
    assert whole.about["too_long"] == 0
    for name, rows in (("train", ROWS), ("test", TESTS)):
        write(files / f"gsm8k.{name}.jsonl", [*rows, long])
    again = tiny_gsm8k("data.max_tokens=190").workload.data
    dataset = again.load(tokenizer)
    assert dataset.about["too_long"] == 1
    assert len(dataset.train) + len(dataset.heldout) == len(whole.train) + len(whole.heldout) + (
        again.heldout_size != 4
    )
    assert len(again.load_test(tokenizer)) == len(TESTS) + 1
    with pytest.raises(UserError, match=r"all \d+ train examples are longer than data.max_tokens=20"):
        tiny_gsm8k("data.max_tokens=20").workload.data.load(tokenizer)


def test_rows_without_a_prompt_or_an_answer_are_left_out_and_counted(tiny_gsm8k, files):
    before = tiny_gsm8k().workload.data._parts()
    empty = [{"question": " ", "answer": "#### 1"}, {"question": "What is 1?", "answer": "\n"}]
    write(files / "gsm8k.train.jsonl", [*ROWS, *empty])
    after = tiny_gsm8k().workload.data._parts()
    assert after.empty == 2
    assert (after.train, after.heldout) == (before.train, before.heldout)


def test_only_answers_are_learned_in_the_chat_template(tiny_gsm8k):
    from transformers import AutoTokenizer

    planned = tiny_gsm8k()
    tokenizer = AutoTokenizer.from_pretrained(planned.workload.model.folder())
    example, text = planned.workload.data.load(tokenizer).train[0], planned.workload.data._parts().train[0]
    assert tokenizer.decode(example.prompt) == (f"<|im_start|>user\n{text.prompt}<|im_end|>\n<|im_start|>assistant\n")
    assert tokenizer.decode(example.answer) == f"{text.answer}<|im_end|>"
    assert example.score(text.answer)
    assert not example.score("It is 1000")
    system = tiny_gsm8k("data.system=Add.").workload.data.load(tokenizer).train[0]
    assert tokenizer.decode(system.prompt).startswith("<|im_start|>system\nAdd.<|im_end|>\n<|im_start|>user\n")


def test_a_run_on_buckets_goes_on_to_the_same_bits(tiny_gsm8k, at_step):
    planned = tiny_gsm8k("method=badam", "data.bucket=3", "accumulation=2", "steps=12")
    whole = execute(Run(planned, "whole"))
    at_step(9, terminate)  # in the second epoch
    with pytest.raises(Interrupted):
        execute(Run(planned, "cut"))
    resumed = execute(Run(planned, "cut"))
    assert resumed.provenance["resumed_after_step"] == 9
    losses = (record.measurements["steps"]["loss"] for record in (whole, resumed))
    assert next(losses) == next(losses)
    assert whole.measurements["after"] == resumed.measurements["after"]
    assert whole.measurements["data"] == resumed.measurements["data"]


def test_the_padding_is_told_and_recorded(tiny_gsm8k, capfd):
    record = execute(Run(tiny_gsm8k()))
    data = record.measurements["data"]
    assert re.search(
        r"\d+ train examples, 4 heldout examples, 0 too long, 0 empty, 0 excluded; "
        rf"{data['tokens']} tokens in 4 steps \(\S+ epochs\), {data['padding_waste']:.1%} padding besides "
        r"\(data.bucket=32\)",
        capfd.readouterr().err,
    )


def test_excluded_questions_are_not_trained_on(tiny_gsm8k, tmp_path):
    before = tiny_gsm8k().workload.data._parts().train
    listed = tmp_path / "excluded.txt"
    listed.write_text("".join(identity(text.prompt) + "\n" for text in before[:3]))
    data = tiny_gsm8k(f"data.exclude={listed}").workload.data
    assert data._parts().train == before[3:]
    assert data.fingerprint() != tiny_gsm8k().workload.data.fingerprint()
    listed.write_text(identity("of another set") + "\n")
    with pytest.raises(UserError, match="names no example of"):
        tiny_gsm8k(f"data.exclude={listed}")
    listed.write_text("not a hash\n")
    with pytest.raises(UserError, match=r"is no list that experiments\.overlap wrote"):
        tiny_gsm8k(f"data.exclude={listed}")


# --- the local copies of the real sets ---


needs_copies = pytest.mark.skipif(not COPIES.is_dir(), reason="no local copies of the data sets in ../shared/data")


@pytest.mark.slow
@needs_copies
@pytest.mark.parametrize(
    ("name", "local", "rows"),
    [("gsm8k", "", 7473), ("math", "", 7500), ("alpaca", "alpaca_cleaned.train.jsonl.xz", 51941)],
)
def test_real_sets_fit_their_schema_and_score_their_own_answers(name, local, rows):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config, _ = study.compose([f"data={name}", f"data.source.local={COPIES / local}", "data.heldout_size=null"])
    data = configuration.build(config.data)
    parts = data._parts()
    texts = [*parts.train, *parts.heldout, *(parts.test or [])]
    assert len(texts) == rows
    assert all(text.prompt and text.answer for text in texts)
    assert all(data.schema.right(text.answer, text.answer) for text in texts)
    pairs = itertools.islice(itertools.pairwise(parts.train), 300)
    wrong = [data.schema.right(one.answer, other.answer) for one, other in pairs]
    assert sum(wrong) < len(wrong) / 10, "the score tells answers apart"
    prompts = [{identity(text.prompt) for text in part} for part in (parts.train, parts.heldout, parts.test or [])]
    assert not prompts[0] & prompts[1]
    assert not prompts[2] & (prompts[0] | prompts[1])


def supervised(path, schema, **given):
    options = {"validation_share": 0.02, "test_share": 0.02, "max_tokens": 256, "heldout_size": 320} | given
    return Supervised(Source(None, "own", local=str(path)), schema, **options)


@pytest.mark.parametrize("rows", [160, 400])
def test_a_small_file_of_ones_own_fits_the_defaults_and_what_is_fewer_is_said(rows, tmp_path, capsys):
    splits._say_fewer.cache_clear()
    write(tmp_path / "own.jsonl", [{"instruction": f"Say {i}.", "output": f"{i}"} for i in range(rows)])
    data = supervised(tmp_path / "own.jsonl", Alpaca())
    assert 0 < data.heldout_size < 20
    assert data.train_size > 0.9 * rows
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"data.heldout_size=320, but validation_share=0.02 gives {data.heldout_size} examples: all of them are taken"
    )


def test_a_part_without_an_example_is_refused_with_the_cure(tmp_path):
    write(tmp_path / "own.jsonl", [{"instruction": f"Say {i}.", "output": f"{i}"} for i in range(3)])
    with pytest.raises(UserError, match=r"validation_share=0.001 gives no example; give more rows or a larger share"):
        _ = supervised(tmp_path / "own.jsonl", Alpaca(), validation_share=0.001, test_share=0).heldout_size


def test_the_input_of_alpaca_may_be_missing_and_is_a_text_if_it_is_there(tmp_path):
    rows = [{"instruction": f"Say {i}.", "output": f"{i}"} | ({"input": "a"} if i % 2 else {}) for i in range(40)]
    write(tmp_path / "own.jsonl", rows)
    texts = supervised(tmp_path / "own.jsonl", Alpaca(), validation_share=0.2).texts()
    assert {prompt.endswith("\n\na") for prompt, _ in texts["train"]} == {True, False}
    write(tmp_path / "null.jsonl", [*rows, {"instruction": "Say.", "input": None, "output": "1"}])
    with pytest.raises(UserError, match="row 41: the field 'input' is None, no text"):
        supervised(tmp_path / "null.jsonl", Alpaca()).texts()
