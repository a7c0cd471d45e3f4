"""MT-bench: answers of a tiny Llama, and scores of a judge."""

import json

import pytest
from hydra import compose, initialize_config_dir

from experiments import configuration
from experiments.command import spelled_out
from experiments.errors import UserError
from experiments.evaluate import evaluation, mt_bench
from experiments.evaluate.__main__ import main
from experiments.evaluate.judge import UNRATED, tasks
from experiments.evaluate.mt_bench import MTBench
from records import load
from tests.experiments.conftest import ROOT
from tests.experiments.evaluate.conftest import SHARED

QUESTIONS = [
    {"question_id": 81, "category": "writing", "turns": ["Write a line.", "Again, shorter."]},
    {"question_id": 101, "category": "reasoning", "turns": ["Who is second?", "And last?"]},
    {"question_id": 140, "category": "stem", "turns": ["What is light?", "How fast?"]},
]

REFERENCE = {
    "question_id": 101,
    "answer_id": "a",
    "model_id": "r",
    "choices": [{"index": 0, "turns": ["You.", "Nobody."]}],
}

PROMPTS = [
    {"name": "single-v1", "system_prompt": "Judge.", "prompt_template": "Q {question}\nA {answer}"},
    {
        "name": "single-math-v1",
        "system_prompt": "Judge.",
        "prompt_template": "R {ref_answer_1}\nQ {question}\nA {answer}",
    },
    {
        "name": "single-v1-multi-turn",
        "system_prompt": "Judge the second.",
        "prompt_template": "Q {question_1}\nA {answer_1}\nQ {question_2}\nA {answer_2}",
    },
    {
        "name": "single-math-v1-multi-turn",
        "system_prompt": "Judge the second.",
        "prompt_template": "R {ref_answer_1} {ref_answer_2}\nQ {question_1} {question_2}\nA {answer_1} {answer_2}",
    },
]

JUDGE = {
    "requests_per_minute": 60000,
    "attempts": 3,
    "timeout": 5,
    "max_tokens": 64,
    "prices": {"input": None, "output": None},
    "max_cost": None,
}


@pytest.fixture
def files(tmp_path):
    for name, rows in (("question", QUESTIONS), ("reference", [REFERENCE]), ("prompts", PROMPTS)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def bench(files, **options):
    given = {
        "questions": str(files / "question.jsonl"),
        "references": str(files / "reference.jsonl"),
        "prompts": str(files / "prompts.jsonl"),
        "max_new_tokens": 6,
        "batch_size": 2,
        "folder": str(files / "mt_bench"),
        "judge": JUDGE,
    }
    return MTBench(**given | options)


@pytest.mark.usefixtures("server", "global_generator_untouched")
def test_without_a_judge_there_are_answers_and_no_score(files, subject):
    found = bench(files, prompts=None, references=None)(subject)
    assert found["verdict"] == "not judged: JUDGE_BASE_URL and JUDGE_MODEL name no judge"
    assert "score" not in found
    rows = [json.loads(line) for line in (files / "mt_bench" / "model_answer" / "tiny.jsonl").read_text().splitlines()]
    assert [row["question_id"] for row in rows] == [81, 101, 140]
    for row in rows:
        assert list(row) == ["question_id", "answer_id", "model_id", "choices", "tstamp"]
        assert row["model_id"] == "tiny"
        (choice,) = row["choices"]
        assert len(choice["turns"]) == 2
    compared = bench(files, prompts=None).compare(found, found)
    assert compared == {"score": {"verdict": "not judged"}}


@pytest.mark.usefixtures("server")
def test_the_second_answer_follows_the_first_in_the_chat_template(files, subject, monkeypatch):
    asked = []

    def generate(model, tokenizer, prompts, max_new_tokens):
        asked.extend(tokenizer.decode(prompt) for prompt in prompts)
        return [f"answer {len(asked)}.{i}" for i in range(len(prompts))]

    monkeypatch.setattr(mt_bench, "generate", generate)
    answers = bench(files, batch_size=1).answer(subject)
    assert asked[0] == "<|im_start|>user\nWrite a line.<|im_end|>\n<|im_start|>assistant\n"
    first = f"{asked[0]}answer 1.0<|im_end|>\n"
    assert asked[1] == f"{first}<|im_start|>user\nAgain, shorter.<|im_end|>\n<|im_start|>assistant\n"
    assert answers[81] == ["answer 1.0", "answer 2.0"]


@pytest.mark.usefixtures("server")
def test_answers_go_on_after_a_kill_and_are_those_of_one_go(files, subject, tmp_path, monkeypatch):
    whole = bench(files, folder=str(tmp_path / "whole")).answer(subject)
    part, path = bench(files), files / "mt_bench" / "model_answer" / "tiny.jsonl"
    assert part.answer(subject) == whole
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0] + lines[1][:25])  # killed within the first batch
    assert bench(files).answer(subject) == whole
    monkeypatch.setattr(mt_bench, "generate", lambda *_: pytest.fail("generated again"))
    assert bench(files).answer(subject) == whole
    with pytest.raises(pytest.fail.Exception):
        bench(files, max_new_tokens=7).answer(subject)


def test_scores_are_means_of_the_rated_judgments(files, subject, judged):
    judged.verdict = lambda text: "no number" if "What is light" in text and "How fast" not in text else "[[4]]"
    found = bench(files)(subject)
    assert found["unrated"] == 1
    assert found["score"] == {"value": 4.0, "standard_error": 0.0, "judgments": 5}
    assert found["turn 1"]["judgments"] == 2
    assert found["category reasoning"] == {"value": 4.0, "standard_error": None, "judgments": 2}
    assert [140, 1, -1] in found["scores"]
    assert found["judge"]["model"] == "local/judge"
    assert found["judge"]["host"] == "127.0.0.1"
    judged.verdict = lambda text: "no number"
    assert bench(files, folder=str(files / "other"))(subject)["score"]["value"] is None


def test_scores_compare_by_question(files, subject, judged):
    part = bench(files)
    first = part(subject)
    raised = json.loads(json.dumps(first))
    raised["scores"] = [[q, t, s + 1] for q, t, s in first["scores"]]
    found = part.compare(first, raised)["score"]
    assert found["difference"] == pytest.approx(1)
    assert found["verdict"] == "better"
    raised["scores"][0][2] = UNRATED
    assert part.compare(first, raised)["score"]["difference"] == pytest.approx(1)
    with pytest.raises(ValueError, match="different questions, judges or prompts"):
        part.compare(first, raised | {"judge": first["judge"] | {"model": "another"}})


def test_bad_files_are_refused_before_any_answer(files, judged, monkeypatch):
    with pytest.raises(UserError, match=r"nowhere\.jsonl is no file"):
        bench(files, questions=str(files / "nowhere.jsonl"))
    with pytest.raises(UserError, match=r"a judge is set, but mt_bench.prompts=FILE is missing"):
        bench(files, prompts=None)
    with pytest.raises(UserError, match=r"question 101 .* needs a reference answer"):
        bench(files, references=None)
    with pytest.raises(ValueError, match=r"mt_bench.judge.attempts=0"):
        bench(files, judge=JUDGE | {"attempts": 0})
    (files / "question.jsonl").write_text('{"question_id": 1, "category": "a"}\n')
    with pytest.raises(UserError, match="line 1: the field turns is missing"):
        bench(files)
    (files / "question.jsonl").write_text((json.dumps(QUESTIONS[0]) + "\n") * 2)
    with pytest.raises(UserError, match="a question_id occurs twice"):
        bench(files)
    (files / "prompts.jsonl").write_text(json.dumps(PROMPTS[0]) + "\n")
    (files / "question.jsonl").write_text(json.dumps(QUESTIONS[0]) + "\n")
    with pytest.raises(UserError, match=r"mt_bench.prompts has no 'single-v1-multi-turn'"):
        bench(files)


def test_questions_of_the_hub_have_its_field_names(monkeypatch):
    import datasets

    row = {"prompt_id": 81, "category": "writing", "prompt": ["One?", "Two?"], "reference": []}
    monkeypatch.setattr(datasets, "load_dataset", lambda path, name, split: [row] if split == "train" else [])
    questions = mt_bench.read_questions("HuggingFaceH4/mt_bench_prompts")
    assert questions == [{"question_id": 81, "category": "writing", "turns": ["One?", "Two?"]}]
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: 1 / 0)
    with pytest.raises(UserError, match=r"cannot be had \(division by zero\); give mt_bench.questions=..."):
        mt_bench.read_questions("HuggingFaceH4/mt_bench_prompts")


def test_a_question_that_does_not_fit_the_model_is_told(files, subject):
    with pytest.raises(UserError, match=r"question 81 needs \d+ \+ 3000 tokens, and the model has 2048"):
        bench(files, max_new_tokens=3000).answer(subject)


@pytest.mark.skipif(not SHARED.is_dir(), reason="FastChat's files are not beside the repository")
def test_the_real_files_fill_every_prompt(judged, tmp_path):
    found = bench(
        tmp_path,
        questions=str(SHARED / "mt_bench.question.jsonl.xz"),
        references=str(SHARED / "mt_bench.reference_answer_gpt4.jsonl.xz"),
        prompts=str(SHARED / "mt_bench.judge_prompts.jsonl.xz"),
    )
    assert len(found.questions) == 80
    answers = {question["question_id"]: ["first", "second"] for question in found.questions}
    made = tasks(found.questions, answers, found.prompts, found.references)
    assert len(made) == 160
    assert all(("first" if task.turn == 1 else "second") in task.user for task in made)


def test_the_command_goes_on_after_a_failing_judge(checkpoint, files, judged, tmp_path, command):
    given = [f"path={checkpoint}", "parts=[mt_bench]", "name=tiny", "device=cpu", f"records_dir={tmp_path}/records"]
    given += [f"mt_bench.questions={files}/question.jsonl", f"mt_bench.references={files}/reference.jsonl"]
    given += [f"mt_bench.prompts={files}/prompts.jsonl", f"mt_bench.folder={tmp_path}/mt_bench"]
    given += ["mt_bench.max_new_tokens=4", "mt_bench.judge.attempts=1", "mt_bench.judge.requests_per_minute=6000"]
    judged.faults += [{}, {}, {"status": 500}]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("evaluate", overrides=spelled_out(given, "evaluate"), return_hydra_config=True)
    ((failed, _),) = evaluation.execute(evaluation.plan(config, configuration.choices(config.hydra)))
    assert failed.status == "failed"
    assert "2 of 6 judgments were made and are kept" in failed.error
    path = tmp_path / "records" / "evaluate" / "tiny-mt_bench.json"
    assert load(path) == failed
    done = command(main, *given)
    assert done.returncode == 0, done.stderr
    record = load(path)
    assert record.status == "finished"
    assert record.key == failed.key
    assert record.measurements["judge"]["spent"]["requests"] == 4
    assert 1 <= record.measurements["score"]["value"] <= 10
    assert "secret-key" not in path.read_text()
    assert f"score: {record.measurements['score']['value']:.4f}" in done.stdout
