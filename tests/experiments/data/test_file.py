"""One's own file: what is read, split, cut and trained on, and every fault with its row."""

import re
from types import SimpleNamespace

import pytest
from datasets import Dataset

from experiments.data import file as of_file
from experiments.data import reading, splits
from experiments.data.file import File
from experiments.errors import UserError
from experiments.training.run import Run
from experiments.training.running import execute
from tests.experiments.data.conftest import write


def said(role, content):
    return {"role": role, "content": content}


def chat(i):
    turns = [said("user", f"What is {i} + 1?"), said("assistant", f"{i + 1}"), said("user", "And then?")]
    return {"messages": [said("system", "Add."), *turns, said("assistant", f"{i + 2}.")]}


CHATS = [chat(i) for i in range(40)]
TEXTS = [{"text": f"Text number {i}."} for i in range(40)]
PAIRS = [{"prompt": f"{i}, ", "completion": f"{i + 1}"} for i in range(40)]
ALPACA = [{"instruction": f"Say {i}.", "input": "", "output": f"{i}"} for i in range(40)]


@pytest.fixture(autouse=True)
def says_again():
    of_file._say.cache_clear()
    splits._say_least.cache_clear()


@pytest.fixture(scope="module")
def tokenizer(checkpoint):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(checkpoint)


@pytest.fixture
def base(checkpoint):
    """Tokenizer of a base model."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    tokenizer.chat_template = None
    return tokenizer


@pytest.fixture
def own(tmp_path):
    """own(rows, **options) -> the data of a file with the rows."""

    def make(rows, name="own.jsonl", **options):
        write(tmp_path / name, rows)
        return File(str(tmp_path / name), **options)

    return make


def trained(tokenizer, example):
    ids = example.prompt + example.answer
    return [tokenizer.decode(ids[first:end]) for first, end in example.trained]


# --- what is read and trained on ---


@pytest.mark.parametrize(
    ("loss_on", "answers"), [("answers", [r"\d+<\|im_end\|>", r"\d+\.<\|im_end\|>"]), ("last", [r"\d+\.<\|im_end\|>"])]
)
def test_the_loss_is_on_all_answers_of_a_dialogue_or_on_the_last(loss_on, answers, own, tokenizer):
    dataset = own(CHATS, loss_on=loss_on).load(tokenizer)
    for example in dataset.train + dataset.heldout:
        found = trained(tokenizer, example)
        assert all(re.fullmatch(answer, text) for answer, text in zip(answers, found, strict=True)), found
        assert tokenizer.decode(example.prompt).startswith("<|im_start|>system\nAdd.<|im_end|>\n<|im_start|>user\n")
        assert example.score(found[-1].removesuffix("<|im_end|>"))
        assert not example.score("7")


def test_the_loss_may_be_on_all_tokens(own, tokenizer):
    example = own(CHATS, loss_on="all").load(tokenizer).train[0]
    assert example.trained == [(0, example.length)]


@pytest.mark.parametrize(
    ("rows", "suffixes"),
    [(CHATS, (".jsonl", ".json", ".parquet", ".jsonl.gz", ".jsonl.xz")), (ALPACA, (".csv", ".jsonl", ".parquet"))],
    ids=["chats", "alpaca"],
)
def test_every_kind_of_file_is_the_same_data(rows, suffixes, own):
    assert len({own(rows, f"own{suffix}").fingerprint() for suffix in suffixes}) == 1


@pytest.mark.parametrize("given", ["", "<|im_end|>"])
def test_texts_need_no_template_and_end(given, own, base):
    dataset = own([{"text": f"{row['text']}{given}"} for row in TEXTS]).load(base)
    for example in dataset.train:
        assert re.fullmatch(r"Text number \d+\.<\|im_end\|>", *trained(base, example))
        assert example.trained == [(0, example.length)]


def test_plain_prompts_need_no_template_and_only_the_completion_is_trained_on(own, base, tokenizer, capsys):
    for example in own(PAIRS).load(base).train:
        assert re.fullmatch(r"\d+<\|im_end\|>", *trained(base, example))
        assert re.fullmatch(r"\d+, ", base.decode(example.prompt))
    assert "taken as they are" not in capsys.readouterr().err
    own(PAIRS).load(tokenizer)
    assert "prompt and completion are texts, so they are taken as they are" in capsys.readouterr().err


def test_a_bos_token_comes_first_once(own, base):
    from tokenizers.processors import TemplateProcessing

    base.add_special_tokens({"bos_token": "<|im_start|>"})
    base.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A <|im_end|>", special_tokens=[("<|im_start|>", 0), ("<|im_end|>", 1)]
    )
    for rows in (PAIRS, TEXTS, [{"text": f"<|im_start|>{row['text']}"} for row in TEXTS]):
        for example in own(rows).load(base).train:
            ids = example.prompt + example.answer
            assert (ids[0], ids.count(0), ids[-1], ids.count(1)) == (0, 1, 1, 1)


def test_messages_without_a_template_are_refused_with_the_row(own, base):
    with pytest.raises(UserError, match=r"own\.jsonl, row \d+: the tokenizer of .* has no chat template"):
        own(CHATS).load(base)


def test_what_nothing_reads_is_said_once(own, capsys):
    data = own([row | {"id": i} for i, row in enumerate(CHATS)], validation_share=0.2)
    assert data.train_size + data.heldout_size == 40
    assert data.texts()["train"]
    assert re.fullmatch(r".*own\.jsonl: read as messages; not used: id\n", capsys.readouterr().err)


# --- what is left out or cut ---


def test_duplicates_and_empty_rows_are_counted(own, tokenizer):
    about = own([*CHATS, CHATS[3], CHATS[3], {"messages": []}]).load(tokenizer).about
    expected = {"rows": 43, "empty": 1, "duplicates": 2, "in_another_part": 0, "too_long": 0, "cut": 0}
    assert about == expected | {name: about[name] for name in ("train_examples", "heldout_examples")}
    assert about["train_examples"] + about["heldout_examples"] == 40


LONG = {"prompt": "abc", "completion": "defghijklmn"}


@pytest.mark.parametrize(
    ("truncate", "max_tokens", "left"),
    [
        ("drop", 10, None),
        ("right", 10, ("abc", "defghij")),
        ("left", 10, ("", "fghijklmn<|im_end|>")),
        ("left", 14, ("bc", "defghijklmn<|im_end|>")),
        ("right", 3, None),
        ("right", 15, ("abc", "defghijklmn<|im_end|>")),
    ],
)
def test_a_long_example_is_left_out_or_cut_as_asked(truncate, max_tokens, left, own, base):
    short = [{"prompt": chr(97 + i), "completion": "x"} for i in range(20)]
    data = own([*short, LONG], truncate=truncate, max_tokens=max_tokens, validation_share=0.3)
    dataset = data.load(base)
    rest = [example for example in dataset.train + dataset.heldout if example.length > 3]
    found = [(base.decode(example.prompt), base.decode(example.answer)) for example in rest]
    assert found == ([] if left is None else [left])
    cut = left is not None and max_tokens < 15
    assert (dataset.about["too_long"], dataset.about["cut"]) == (int(left is None), int(cut))


def test_a_cut_dialogue_keeps_the_answers_that_are_left(own, tokenizer):
    whole = own(CHATS[:9], validation_share=0.2).load(tokenizer).train[0]
    last = whole.trained[-1][0]
    cut = own(CHATS[:9], validation_share=0.2, truncate="right", max_tokens=last).load(tokenizer).train[0]
    assert cut.trained == [whole.trained[0]]
    assert cut.prompt + cut.answer == whole.prompt[: whole.trained[0][1]]


def test_nothing_left_is_refused(own, tokenizer):
    with pytest.raises(
        UserError, match=r"all \d+ examples of the part train are longer than data\.max_tokens=9; give"
    ):
        own(CHATS, max_tokens=9).load(tokenizer)


# --- parts ---


@pytest.mark.parametrize("rows", [2, 3, 4, 10, 30])
def test_few_rows_are_enough(rows, own, capsys):
    data = own(CHATS[:rows])
    assert data.heldout_size == min(2, rows // 2)
    assert data.train_size == rows - data.heldout_size
    assert f"of {rows} examples: {data.heldout_size} are held out" in capsys.readouterr().err
    texts = data.texts()
    assert not set(texts["train"]) & set(texts["heldout"])


def test_dialogues_that_begin_alike_are_in_one_part(own):
    alike = [
        {"messages": [*CHATS[i]["messages"][:3], said("user", f"{k}?"), said("assistant", "a")]}
        for i in range(9)
        for k in range(3)
    ]
    texts = own(alike, validation_share=0.2).texts()
    begin = {name: {prompt.split("\n\n")[1] for prompt, _ in part} for name, part in texts.items()}
    assert not begin["train"] & begin["heldout"]
    with pytest.raises(UserError, match="all 3 examples begin with the same question"):
        _ = own(alike[:3], "one.jsonl").train_size


def test_a_folder_has_a_file_a_part_and_nothing_is_in_two(tmp_path, tokenizer):
    write(tmp_path / "train-00000-of-00002.jsonl", CHATS[:20])
    write(tmp_path / "train-00001-of-00002.jsonl", CHATS[20:30])
    write(tmp_path / "chat.validation.json", [*CHATS[28:34], CHATS[38]])
    write(tmp_path / "test.parquet", CHATS[36:40])
    (tmp_path / "README.md").write_text("# About")
    data = File(str(tmp_path), test=True)
    dataset, test = data.load(tokenizer), data.load_test(tokenizer)
    assert (len(dataset.train), len(dataset.heldout), len(test)) == (28, 6, 4)
    assert dataset.about["in_another_part"] == 3
    parts = [{tuple(example.prompt) for example in part} for part in (dataset.train, dataset.heldout, test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 38
    with pytest.raises(UserError, match=r"data\.subset and data\.revision are of data sets on the hub"):
        _ = File(str(tmp_path), subset="en").train_size
    write(tmp_path / "chat.validation.json", CHATS[36:38])
    with pytest.raises(UserError, match="every example of the validation file is empty or in the test file too"):
        _ = File(str(tmp_path)).train_size
    write(tmp_path / "more.jsonl", CHATS)
    with pytest.raises(UserError, match=r"more\.jsonl is of no part; put train, validation or test into the name"):
        _ = File(str(tmp_path)).train_size


def test_a_folder_with_one_file_is_that_file(tmp_path, own):
    assert own(CHATS).fingerprint() == File(str(tmp_path)).fingerprint()


def test_a_test_part_is_a_share_where_it_has_no_file(own, tokenizer):
    data = own(CHATS, test_share=0.2, validation_share=0.2, test=True)
    test = {tuple(example.prompt) for example in data.load_test(tokenizer)}
    dataset = data.load(tokenizer)
    assert len(test) + len(dataset.train) + len(dataset.heldout) == 40
    assert not test & {tuple(example.prompt) for example in dataset.train + dataset.heldout}
    with pytest.raises(
        UserError, match=r"data\.test=true is not possible: there is no test file; give data\.test_share"
    ):
        _ = own(CHATS, test=True).train_size
    with pytest.raises(UserError, match=r"data\.test_share=0.001 gives no example"):
        _ = own(CHATS, test=True, test_share=0.001).train_size


def test_a_name_of_the_hub_is_asked_there(monkeypatch):
    import datasets

    def load(name, subset, revision):
        assert (name, subset, revision) == ("ann/chats", "en", None)
        return {"train": Dataset.from_list(CHATS[:20]), "test": Dataset.from_list(CHATS[20:])}

    reading._hub.cache_clear()
    monkeypatch.setattr(datasets, "load_dataset", load)
    data = File("ann/chats", subset="en", test=True)
    assert data.train_size == 18
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: {"a": None, "b": None})
    with pytest.raises(UserError, match="ann/more has the splits a, b and none of the name train"):
        _ = File("ann/more").train_size
    reading._hub.cache_clear()


# --- faults ---


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (None, r"data=file needs data\.path="),
        ("nowhere.jsonl", r"data\.path=nowhere\.jsonl: there is no such file or folder"),
        ("some/nowhere.jsonl", "there is no such file or folder"),
        ("pyproject.toml", r"ends in none of \.jsonl, "),
        ("conf", r"has no file that ends in .*; it needs a file with train in its name"),
    ],
)
def test_what_is_not_there_is_told(path, message):
    with pytest.raises(UserError, match=message):
        _ = File(path).train_size


def test_bad_rows_are_told_together_with_file_and_row(own, tokenizer):
    rows = [chat(i) if i % 2 else {"messages": [said("user", "a"), said("tool", "b")]} for i in range(20)]
    with pytest.raises(UserError) as told:
        _ = own(rows).train_size
    *lines, last = str(told.value).splitlines()
    assert [re.search(r"own\.jsonl, row (\d+): messages\[1\] is a turn of a tool", line)[1] for line in lines] == [
        *("1", "3", "5", "7", "9")
    ]
    assert last == "10 bad rows in all, of which these are the first 5"


def test_rows_that_the_template_would_change_are_told_with_their_place(own, checkpoint):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    tokenizer.chat_template = tokenizer.chat_template.replace("m['content']", "m['content'] | replace('9', '8')")
    with pytest.raises(UserError) as told:
        own(CHATS, validation_share=0.2).load(tokenizer)
    named = {
        int(re.search(r"own\.jsonl, row (\d+): the chat template", line)[1])
        for line in str(told.value).splitlines()[:5]
    }
    assert named <= {8, 9, 10, 18, 19, 20, 28, 29, 30, 38, 39, 40}


@pytest.mark.parametrize(
    ("option", "value"),
    [("format", "chat"), ("loss_on", "prompts"), ("truncate", "middle"), ("max_tokens", 1), ("validation_share", 0)],
)
def test_an_impossible_value_is_refused_before_anything_is_read(option, value):
    with pytest.raises(ValueError, match=rf"data\.{option}={value!r}"):
        File("nowhere", **{option: value})


# --- runs ---


@pytest.mark.integration
def test_a_run_on_ten_rows_records_what_was_counted(tiny, tmp_path):
    write(tmp_path / "own.jsonl", CHATS[:10])
    options = [
        "data=file",
        f"data.path={tmp_path / 'own.jsonl'}",
        "data.train_size=null",
        "steps=2",
        "evaluation=loss",
    ]
    record = execute(Run(tiny(*options)))
    assert record.status == "finished", record.error
    data = record.measurements["data"]
    assert (data["rows"], data["train_examples"], data["heldout_examples"]) == (10, 8, 2)
    record = execute(Run(tiny(*options, "execution.loss=chunked")))
    assert record.status == "finished", record.error


def test_texts_have_no_answer_to_generate(tiny, tmp_path):
    from experiments.workloads.language import Evaluation

    write(tmp_path / "own.jsonl", TEXTS)
    options = ["data=file", f"data.path={tmp_path / 'own.jsonl'}", "data.train_size=null"]
    with pytest.raises(UserError, match="a text has no prompt; give evaluation=loss"):
        tiny(*options)
    assert tiny(*options, "evaluation=loss").workload.data.train_size == 38
    with pytest.raises(UserError, match="no answer to generate for a text without a prompt; give evaluation=loss"):
        Evaluation(1, 1).scores(None, None, [SimpleNamespace(prompt=[])], "")
