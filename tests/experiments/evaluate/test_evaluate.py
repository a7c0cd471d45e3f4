"""Evaluation of saved models: held-out, downstream tasks, comparisons, refusals; on a tiny Llama and small data."""

import itertools
import json
import lzma
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

from experiments import configuration
from experiments.data import collate
from experiments.errors import UserError
from experiments.evaluate import evaluation, scoring
from experiments.evaluate.downstream import TASKS, Downstream, definition
from experiments.evaluate.significance import NOT_TESTABLE
from experiments.evaluate.subject import Subject
from experiments.interruption import Interrupted
from experiments.studies import study
from experiments.training import planning
from experiments.training.run import Run
from experiments.training.running import execute
from experiments.workloads.language import Evaluation, answer_loss
from records import load

ROOT = Path(__file__).resolve().parents[3]
SHARED = ROOT.parent / "shared" / "data"
NAMES = sorted(path.stem for path in TASKS.glob("*.yaml"))
TINY = ["data.train_size=8", "data.heldout_size=6", "data.max_tokens=256", "device=cpu"]


def rows(task, n=7):
    """n rows of a task in the hub's schema; the right choice or number is known."""
    fruit = ["apple pie", "pear", "plum and cherry", "fig"]
    letters = {"text": fruit, "label": ["A", "B", "C", "D"]}
    subjects = ["abstract_algebra", "college_mathematics", "astronomy"]
    return {
        "gsm8k": [{"question": f"{i} + 1?", "answer": f"It is {i + 1}.\n#### {i + 1}"} for i in range(n)],
        "svamp": [{"Body": f"There are {i}.", "Question": "How many?", "Answer": f"{i}.0"} for i in range(n)],
        "mawps": [{"input": f"Add {i} and 2.", "target": i + 2.0} for i in range(n)],
        "math": [{"problem": f"Halve {i}.", "solution": rf"So $\boxed{{\frac{{{i}}}{{2}}}}$."} for i in range(n)],
        "arc_easy": [{"question": f"Best {i}?", "choices": letters, "answerKey": "ABCD"[i % 4]} for i in range(n)],
        "arc_challenge": [{"question": f"Worst {i}?", "choices": letters, "answerKey": "B"} for i in range(n)],
        "openbookqa": [{"question_stem": f"Fruit {i}", "choices": letters, "answerKey": "C"} for i in range(n)],
        "piqa": [{"goal": f"Eat {i}", "sol1": "With a spoon", "sol2": "Never", "label": i % 2} for i in range(n)],
        "boolq": [{"passage": f"Number {i}.", "question": "is it big", "label": int(i > 1)} for i in range(n)],
        "aqua_rat": [
            {"question": f"x = {i}", "options": [f"{a}){i}" for a in "ABCDE"], "correct": "E"} for i in range(n)
        ],
        "sat_math": [
            {"query": f"Q{i}", "choices": ["(A)1", "(B)2", "(C)3", "(D)4"], "gold": [i % 4]} for i in range(n)
        ],
        "mmlu_math": [
            {"question": f"Q{i}", "subject": subjects[i % 3], "choices": fruit, "answer": i % 4} for i in range(n)
        ],
    }[task]


def write_rows(folder, name, content):
    with lzma.open(folder / f"{name}.jsonl.xz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in content)


@pytest.fixture
def data(tmp_path):
    """Folder with the test sets of all tasks."""
    folder = tmp_path / "data"
    folder.mkdir()
    for task in NAMES:
        write_rows(folder, definition(task)["metadata"]["source"]["local"], rows(task))
    return folder


@pytest.fixture
def planned(checkpoint, data, tmp_path, monkeypatch):
    """planned(*overrides) -> the plan of an evaluation of the tiny Llama, everything below tmp_path."""
    monkeypatch.setattr(evaluation, "KEPT", tmp_path / "kept")

    def plan(*overrides):
        fixed = [f"path={checkpoint}", f"downstream.folder={data}", "downstream.max_new_tokens=4", *TINY]
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            given = [*fixed, f"records_dir={tmp_path}/records", *overrides]
            config = compose("evaluate", overrides=given, return_hydra_config=True)
        return evaluation.plan(config, configuration.choices(config.hydra))

    return plan


def downstream(folder, tasks=None, **options):
    given = {"items": 500, "max_new_tokens": 4, "batch_size": 3, "system": None} | options
    return Downstream(tasks, folder=None if folder is None else str(folder), **given)


@pytest.fixture
def subject(checkpoint, tmp_path):
    model, tokenizer = configuration.build(
        {"_target_": "experiments.models.Pretrained", "path": str(checkpoint)}
    ).load(torch.float32)
    return Subject("tiny", model.eval(), tokenizer, "fingerprint", tmp_path / "place")


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


@pytest.mark.parametrize(
    ("text", "gold", "right"),
    [
        ("So 3 + 4 = 7.", "7", 1),
        ("7 apples, no, 8", "7", 0),
        ("It costs $1,234.50", "1234.5", 1),
        ("minus: -3", "3", 0),
        ("minus: −3", "-3", 1),
        ("5-3 is 2", "2", 1),
        ("7.", 7.0, 1),
        ("", "7", 0),
        ("seven", "7", 0),
        ("1,2", "12", 0),
        (".5", "0.5", 1),
    ],
)
def test_the_last_number_counts(text, gold, right):
    assert scoring.last_number(text, gold) == {"exact_match": right}


@pytest.mark.parametrize(
    ("solution", "text", "right"),
    [
        (r"$\boxed{\frac{1}{2}}$", r"so \boxed{0.5}", 1),
        (r"$\boxed{\frac{1}{2}}$", r"first \boxed{3}, then \boxed{\dfrac12}", 1),
        (r"$\boxed{x^2+2x+1}$", r"$\boxed{(x+1)^2}$", 1),
        (r"$\boxed{(3,4)}$", r"$\boxed{(4,3)}$", 0),
        (r"$\boxed{12}$", "The answer is 12", 1),
        (r"$\boxed{12}$", r"\boxed{", 0),
        (r"$\boxed{12}$", "", 0),
    ],
)
def test_math_is_compared_by_math_verify(solution, text, right):
    assert scoring.mathematics({"solution": solution}, [text]) == {"exact_match": right}


# --- data: the hub or a folder, never both silently ---


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
    names = [name for name in NAMES if name != "mawps"]
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
        ("{broken\n", "line 1: no JSON"),
        ("[1]\n", "line 1: an object is wanted"),
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


@pytest.mark.skipif(not SHARED.is_dir(), reason="the local copies of the test sets are not beside the repository")
def test_the_real_test_sets_have_the_schema_and_their_own_answers_are_right():
    part = downstream(SHARED, items=60)
    for task in NAMES:
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


# --- the entry point ---


def test_a_trained_export_evaluates_to_the_recorded_heldout_loss(checkpoint, planned, tmp_path):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        given = [
            "model=pretrained",
            f"model.path={checkpoint}",
            f"export={tmp_path}/exports",
            "steps=3",
            "batch_size=2",
        ]
        places = [f"records_dir={tmp_path}/trained", f"export={tmp_path}/exports"]
        places += [f"checkpoint.folder={tmp_path}/checkpoints"]
        trained = execute(Run(planning.plan(*study.compose([*given, *places, *TINY]))))
    assert trained.status == "finished", trained.error
    before = planned("parts=[heldout]", "name=before")
    with pytest.raises(UserError, match="evaluate that model first"):
        planned("parts=[heldout]", "before=before")
    ((first, none),) = evaluation.execute(before)
    assert none is None
    after = planned(f"path={trained.measurements['export']}", "parts=[heldout]", "before=before")
    ((second, compared),) = evaluation.execute(after)
    for record, key in ((first, "before"), (second, "after")):
        assert record.status == "finished", record.error
        assert record.measurements["loss"]["value"] == trained.measurements[key]["heldout_loss"]
        assert record.measurements["exact_match"]["share"] == trained.measurements[key]["exact_match"]
    assert compared.kind == "compare"
    loss = compared.measurements["loss"]
    change = trained.measurements["after"]["heldout_loss"] - trained.measurements["before"]["heldout_loss"]
    assert loss["difference"] == pytest.approx(change, rel=1e-3)
    assert compared.measurements["exact_match"]["verdict"] == NOT_TESTABLE


def test_losses_of_the_answers_add_up(subject):
    source = configuration.build(
        {"_target_": "experiments.data.reasoning_gym.ReasoningGym", "tasks": {"lcm": {"max_value": 30}}}
        | {"train_size": 2, "heldout_size": 7, "train_seed": 0, "heldout_seed": 1000, "system": "", "max_tokens": 300}
    )
    examples = source.load(subject.tokenizer).heldout
    scores = Evaluation(batch_size=3, max_new_tokens=4).scores(subject.model, subject.tokenizer, examples, "test")
    assert sum(scores.losses) / sum(scores.tokens) == pytest.approx(scores.loss, rel=1e-6)
    for i, example in enumerate(examples):
        alone = answer_loss(subject.model, collate([example], subject.tokenizer.pad_token_id), "sum").item()
        assert scores.losses[i] == pytest.approx(alone, rel=1e-5)
        assert scores.tokens[i] == len(example.answer)


def test_a_finished_part_is_not_run_again_and_another_subset_is(planned, monkeypatch):
    chosen = ["parts=[downstream]", "downstream.tasks=[arc_easy,piqa]"]
    ((first, _),) = evaluation.execute(planned(*chosen))
    assert first.status == "finished", first.error
    monkeypatch.setattr(Downstream, "_measure", lambda *_: pytest.fail("measured again"))
    ((again, _),) = evaluation.execute(planned(*chosen))
    assert again == first
    for other in (planned(*chosen, "downstream.items=3"), planned(*chosen, "downstream.system=Think.")):
        assert other.parts[0].key not in (first.key, "")
        with pytest.raises(pytest.fail.Exception, match="measured again"):
            list(evaluation.execute(other))


def test_an_interrupted_evaluation_goes_on_with_the_next_task(planned, monkeypatch, tmp_path):
    chosen = ["parts=[downstream]", "downstream.tasks=[arc_easy,piqa,boolq]"]
    ((whole, _),) = evaluation.execute(planned(*chosen, "name=whole"))
    (tmp_path / "records" / "evaluate" / "whole-downstream.json").unlink()
    real, done, stops = Downstream._measure, [], []

    def measure(self, language_model, task):
        if done == ["arc_easy"] and not stops:
            stops.append(task)
            os.kill(os.getpid(), signal.SIGTERM)
        done.append(task)
        return real(self, language_model, task)

    monkeypatch.setattr(Downstream, "_measure", measure)
    with pytest.raises(Interrupted) as stopped:
        list(evaluation.execute(planned(*chosen)))
    assert stopped.value.code == 75
    (record,) = (load(path) for path in (tmp_path / "records" / "evaluate").glob("*.json"))
    assert record.status == "interrupted"
    assert done == ["arc_easy"]
    ((resumed, _),) = evaluation.execute(planned(*chosen))
    assert done == ["arc_easy", "piqa", "boolq"], "the first task was not measured again"
    same = ({key: value for key, value in r.measurements.items() if key != "seconds"} for r in (resumed, whole))
    assert next(same) == next(same)
    assert not list((tmp_path / "kept").glob("*")), "what was kept for going on is removed"


def test_what_cannot_be_evaluated_is_told_before_any_weight_is_loaded(planned, data, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="file/evaluate cannot be written to"):
        planned("parts=[downstream]", "downstream.tasks=[piqa]", f"records_dir={tmp_path}/file")
    planned("parts=[downstream]", "downstream.tasks=[piqa]", f"records_dir={tmp_path}/file", "dry=true")
    with pytest.raises(
        UserError, match=r"downstream\.tasks=gsm8k is not possible: give a list, for example \[gsm8k\]"
    ):
        downstream(data, "gsm8k")


def test_records_go_where_recorded_as_says(planned):
    ((record, _),) = evaluation.execute(planned("parts=[downstream]", "downstream.tasks=[piqa]", "recorded_as=mine"))
    assert record.study == "mine"


def test_models_evaluated_differently_are_not_compared(planned):
    chosen = ["parts=[downstream]", "downstream.tasks=[arc_easy,piqa]"]
    list(evaluation.execute(planned(*chosen, "name=a")))
    with pytest.raises(UserError, match=r"was evaluated with other values of items, system"):
        planned(*chosen, "name=b", "before=a", "downstream.items=3", "downstream.system=Think.")
    sizes = ["downstream.batch_size=2", "downstream.generation_batch_size=3"]
    fewer = planned("parts=[downstream]", "downstream.tasks=[piqa]", *sizes, "name=b", "before=a")
    ((_, compared),) = evaluation.execute(fewer)
    assert compared.name == "b-downstream-against-a"
    assert list(compared.measurements) == ["piqa"]
    assert compared.measurements["piqa"]["kind"] == "same items"
    assert compared.measurements["piqa"]["difference"] == 0
    assert compared.measurements["piqa"]["verdict"] == NOT_TESTABLE


def test_dry_lists_the_parts_and_what_they_cost_before(planned):
    chosen = ["parts=[heldout,downstream]", "downstream.tasks=[arc_easy,piqa]"]
    assert evaluation.table(planned(*chosen, "name=a")).splitlines() == [
        "a-heldout: to do; 6 examples; time not known",
        "a-downstream: to do; 7 arc_easy, 7 piqa; time not known",
    ]
    list(evaluation.execute(planned("parts=[heldout]", "name=a")))
    first, second = evaluation.table(planned(*chosen, "name=b")).splitlines()
    assert first.startswith("b-heldout: to do; 6 examples; time ")
    assert first.endswith(" s (a-heldout)")
    assert second.endswith("time not known")
    assert evaluation.table(planned("parts=[heldout]", "name=a")).startswith("a-heldout: finished")


LONG = "reasoning_gym.data.max_tokens=256"  # a byte is a token here


def test_reasoning_gym_is_evaluated_whatever_the_data(planned):
    ((record, _),) = evaluation.execute(planned("parts=[reasoning_gym]", "reasoning_gym.data.heldout_size=9", LONG))
    assert record.measurements["exact_match"]["items"] == 9
    assert planned("parts=[reasoning_gym]", LONG).parts[0].part.size() == {"examples": 500}


def test_a_failing_part_is_a_record_and_stops_no_other(planned, monkeypatch):
    def fail(*_):
        raise RuntimeError("broken")

    monkeypatch.setattr(Downstream, "_measure", fail)
    records = [record for record, _ in evaluation.execute(planned("parts=[downstream,heldout]"))]
    assert [record.status for record in records] == ["failed", "finished"]
    assert records[0].error == "RuntimeError: broken"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["path=null"], r"path=\.\.\. is missing"),
        (["model=smollm2_135m"], "are two models"),
        (["path=/no/such/folder"], "is no folder with a config.json"),
        (["parts=[heldout,speed]"], "parts has 'speed'"),
        (["dtype=float8"], "dtype='float8'"),
        (["downstream.tasks=[chess]"], r"downstream.tasks has 'chess'; there are aqua_rat, "),
        (["downstream.items=0"], "downstream.items=0 is not possible"),
        (["downstream.folder=/no/such"], "downstream.folder=/no/such is no folder"),
        (["before=nobody"], "before=nobody: there is no"),
        (["parts=[mt_bench]"], "mt_bench.questions=FILE is missing"),
    ],
)
def test_impossible_values_are_refused_before_any_weight_is_loaded(overrides, message, planned, monkeypatch):
    from experiments import models

    monkeypatch.setattr(models, "_load_folder", lambda *_: pytest.fail("weights were loaded"))
    with pytest.raises(ValueError, match=message):
        planned(*overrides)


def test_the_command(checkpoint, data, tmp_path):
    command = [sys.executable, "-W", "error", "-m", "experiments.evaluate", f"path={checkpoint}", *TINY]
    command += [
        f"records_dir={tmp_path}/records",
        f"downstream.folder={data}",
        "downstream.tasks=[arc_easy]",
        "parts=[heldout,downstream]",
    ]
    done = subprocess.run([*command, "name=tiny"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "tiny-downstream:\n  arc_easy: 0." in done.stdout
    assert "guessing gives 0.286" in done.stdout  # two of seven have the same letter right
    for part in ("heldout", "downstream"):
        record = load(tmp_path / "records" / "evaluate" / f"tiny-{part}.json")
        assert (record.kind, record.status) == ("evaluate", "finished")
        assert record.provenance["versions"]["lm-eval"] == "0.4.13"


def test_a_refusal_is_one_line_and_exit_code_2(checkpoint):
    command = [sys.executable, "-W", "error", "-m", "experiments.evaluate", f"path={checkpoint}"]
    refused = subprocess.run([*command, "downstream.tasks=[chess]"], cwd=ROOT, capture_output=True, text=True)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert refused.stderr.startswith("error: downstream.tasks has 'chess'; there are aqua_rat, ")
