"""Downstream tasks through lm-eval, and their data: the hub or a folder, never both silently."""

import itertools
import json

import pytest
import torch

from experiments.errors import UserError
from experiments.evaluate.downstream import definition
from experiments.evaluate.subject import PartialError
from tests.experiments.evaluate.conftest import NAMES, SHARED, downstream, rows, write_rows


@pytest.mark.usefixtures("global_generator_untouched")
def test_every_task_runs_through_lm_eval(data, subject):
    found = downstream(data)(subject)
    assert sorted(found) == NAMES
    assert {"gsm8k", "math", "svamp", "mawps", "aqua_rat", "sat_math", "mmlu_math"} < set(NAMES)
    assert {"arc_easy", "arc_challenge", "piqa", "openbookqa", "boolq"} < set(NAMES)
    for task, measured in found.items():
        kept = 5 if task == "mmlu_math" else 7  # astronomy is none of the mathematical subjects
        assert measured["items"] == len(measured["right"]) == kept
        assert measured["source"].startswith("local file ")
        assert measured["cut"] == 0
    assert found["gsm8k"]["chance"] == 0
    assert found["arc_easy"]["chance"] == 0.25
    assert found["aqua_rat"]["chance"] == pytest.approx(0.2)
    assert found["boolq"]["constant_answer"] == pytest.approx(5 / 7)


def test_generated_and_scored_answers_have_batches_of_their_own(data, subject, monkeypatch):
    import lm_eval.models.huggingface

    sizes = []
    given = lm_eval.models.huggingface.HFLM.__init__

    def seen(self, *args, **kwargs):
        sizes.append(kwargs["batch_size"])
        given(self, *args, **kwargs)

    monkeypatch.setattr(lm_eval.models.huggingface.HFLM, "__init__", seen)
    downstream(data, ["piqa", "gsm8k"], batch_size=2, generation_batch_size=5)(subject)
    assert sizes == [2, 5]
    assert downstream(data, ["gsm8k"], batch_size=2).generation_batch_size == 2
    with pytest.raises(ValueError, match=r"downstream\.generation_batch_size=0 is not possible"):
        downstream(data, generation_batch_size=0)


@pytest.mark.parametrize(("task", "normed"), [("arc_easy", True), ("boolq", False)])
def test_multiple_choice_is_the_likeliest_continuation(task, normed, data, subject):
    part = downstream(data, [task])
    right = part(subject)[task]["right"]
    tokenizer, expected = subject.tokenizer, ""
    for row in part.rows(task)[0]:
        text = row["question"] if normed else f"{row['passage']}\n\nAnswer yes or no: {row['question']}?"
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False
        )
        choices = row["choices"]["text"] if normed else ["no", "yes"]
        scores = []
        for choice in choices:
            # lm-eval counts white space at the end of the prompt, here a newline, to the continuation
            answer = [prompt[-1], *tokenizer(choice, add_special_tokens=False)["input_ids"]]
            with torch.no_grad():
                logits = subject.model(torch.tensor([prompt[:-1] + answer])).logits[0, len(prompt) - 2 : -1]
            likelihood = logits.log_softmax(-1)[range(len(answer)), answer].sum().item()
            scores.append(likelihood / (len(choice) if normed else 1))
        gold = row["choices"]["label"].index(row["answerKey"]) if normed else row["label"]
        expected += str(int(max(range(len(scores)), key=scores.__getitem__) == gold))
    assert right == expected
    assert "1" in right
    assert "0" in right


def test_generation_gets_the_chat_prompt_and_256_tokens_and_its_answers_are_scored(data, subject, monkeypatch):
    from lm_eval.models.huggingface import HFLM

    asked = []

    def answer(self, requests, **_):
        asked.extend(request.args for request in requests)
        return ["I think 3 + 1 makes 4." if "3 + 1?" in request.args[0] else "no idea" for request in requests]

    monkeypatch.setattr(HFLM, "generate_until", answer)
    part = downstream(data, ["gsm8k"], max_new_tokens=256, system="Think.")
    found = part(subject)["gsm8k"]
    place = [row["question"] for row in part.rows("gsm8k")[0]].index("3 + 1?")
    assert found["right"] == "".join(str(int(i == place)) for i in range(7))
    for prompt, options in asked:
        assert prompt.startswith("<|im_start|>system\nThink.<|im_end|>\n<|im_start|>user\n")
        assert prompt.endswith("<|im_end|>\n<|im_start|>assistant\n")
        assert options["max_gen_toks"] == 256
        assert options["do_sample"] is False


def test_a_prompt_that_lost_its_beginning_is_counted(data, subject, monkeypatch):
    from lm_eval.models.huggingface import HFLM

    monkeypatch.setattr(HFLM, "max_length", property(lambda _: 120))
    write_rows(data, "gsm8k.test", [{"question": "1?" * n, "answer": "#### 1"} for n in (1, 2, 150)])
    assert downstream(data, ["gsm8k"])(subject)["gsm8k"]["cut"] == 1


# --- data ---


def test_the_folder_is_used_alone(data, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: pytest.fail("the hub was asked"))
    (data / "gsm8k.test.jsonl.xz").unlink()
    with pytest.raises(UserError, match=r"has no gsm8k\.test.*or drop downstream\.folder to load it"):
        downstream(data, ["gsm8k"]).rows("gsm8k")
    (data / "gsm8k.test.jsonl").write_text(json.dumps(rows("gsm8k")[0]) + "\n")
    assert len(downstream(data, ["gsm8k"]).rows("gsm8k")[0]) == 1
    write_rows(data, "svamp.test", rows("svamp"))
    (data / "svamp.test.jsonl").write_text("")
    with pytest.raises(UserError, match=r"has more than one svamp.test"):
        downstream(data, ["svamp"]).rows("svamp")


def test_the_hub_is_asked_by_name_and_gives_the_same_subset(data, monkeypatch):
    import datasets

    from experiments.evaluate import downstream as module

    asked = []

    def load_dataset(path, name, split):
        asked.append((path, name, split))
        (task,) = (t for t in NAMES if definition(t)["metadata"]["source"].get("hub") == path and fits(t, name))
        return rows(task)[::-1] if name in (None, "main", "all", "raw", "algebra", "boolq", task_name(name)) else []

    def fits(task, name):
        return name in (definition(task)["metadata"]["source"].get("configurations") or [None])

    def task_name(name):
        return name if name and name.startswith("ARC") else "-"

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    names = [name for name in NAMES if definition(name)["metadata"]["source"].get("hub")]
    assert len(names) >= 11
    module._read.cache_clear()
    for task in names:
        there, origin = downstream(None, [task], items=3).rows(task)
        assert [*there] == [*downstream(data, [task], items=3).rows(task)[0]]
        assert origin.startswith("hub ")
    assert ("openai/gsm8k", "main", "test") in asked
    assert ("baber/piqa", None, "validation") in asked
    assert sum(path == "EleutherAI/hendrycks_math" for path, _, _ in asked) == 7
    module._read.cache_clear()


def test_without_a_folder_an_unreachable_hub_is_an_error(monkeypatch):
    import datasets

    def unreachable(*_, **__):
        raise ConnectionError("no network\nmore")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(UserError, match=r"the hub's openai/gsm8k .*\(no network\); give downstream.folder"):
        downstream(None, ["gsm8k"]).rows("gsm8k")
    with pytest.raises(UserError, match=r"mawps\.test is not on the hub in this schema"):
        downstream(None, ["mawps"]).rows("mawps")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"question": "a"}\n', "row 1 lacks the field answer; it has question"),
        ('{"question": "a", "answer": null}\n', "row 1 lacks the field answer"),
        ("{broken\n", "line 1: no valid JSON"),
        ("[1]\n", "row 1: not an object with fields"),
        ("", "there is no row"),
    ],
)
def test_a_file_of_another_schema_is_refused(text, message, tmp_path):
    (tmp_path / "gsm8k.test.jsonl").write_text(text)
    with pytest.raises(UserError, match=message):
        downstream(tmp_path, ["gsm8k"]).rows("gsm8k")


def test_a_damaged_file_is_refused(data):
    file = data / "gsm8k.test.jsonl.xz"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(UserError, match="cannot be read"):
        downstream(data, ["gsm8k"]).rows("gsm8k")


@pytest.mark.integration
@pytest.mark.skipif(not SHARED.is_dir(), reason="the local copies of the test sets are not beside the repository")
def test_the_real_test_sets_have_the_schema_and_their_own_answers_are_right():
    part = downstream(SHARED, items=60)
    there = [task for task in NAMES if [*SHARED.glob(f"{definition(task)['metadata']['source']['local']}.*")]]
    assert len(there) >= 12
    for task in there:
        found, _ = part.rows(task)
        assert len(found) == 60
        about = definition(task)
        if about["output_type"] == "generate_until":
            field = about["doc_to_target"].strip("{}")
            assert all(about["process_results"](row, [str(row[field])])["exact_match"] for row in found), task
            wrong = sum(
                about["process_results"](a, [str(b[field])])["exact_match"] for a, b in itertools.pairwise(found)
            )
            assert wrong < 10, task


def test_a_task_that_fails_is_named_and_the_others_are_measured(data, subject):
    spoilt = [*rows("gsm8k")[:-1], rows("gsm8k")[-1] | {"answer": "no number #### many"}]
    write_rows(data, "gsm8k.test", spoilt)
    with pytest.raises(PartialError, match=r"1 of 2 tasks failed: gsm8k \(ValueError: .*many' is not one") as failed:
        downstream(data, ["gsm8k", "piqa"])(subject)
    assert list(failed.value.measured) == ["piqa"]
    assert failed.value.measured["piqa"]["items"] == 7
