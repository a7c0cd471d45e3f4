"""MT-bench: answers of a tiny Llama, judged by a real HTTP server that also fails in every way servers fail."""

import email.utils
import itertools
import json
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

from experiments import configuration
from experiments.errors import UserError
from experiments.evaluate import endpoint, evaluation, mt_bench
from experiments.evaluate.endpoint import Endpoint
from experiments.evaluate.journal import Journal
from experiments.evaluate.judge import UNRATED, Judge, Prices, rating, tasks
from experiments.evaluate.mt_bench import MTBench
from experiments.evaluate.subject import Subject
from records import load

ROOT = Path(__file__).resolve().parents[3]
SHARED = ROOT.parent / "shared" / "data"
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


class Server(ThreadingHTTPServer):
    """Speaks the chat-completions protocol. `faults` are used up first, one a request; `seen` has every request."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answering)
        self.faults, self.seen, self.verdict = [], [], lambda text: f"Fine. Rating: [[{3 + len(text) % 7}]]"

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"


class Answering(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((self.path, self.headers.get("Authorization"), body))
        fault = self.server.faults.pop(0) if self.server.faults else {}
        if fault.get("silent"):
            time.sleep(fault["silent"])
            return
        if fault.get("drop"):
            self.close_connection = True
            self.connection.close()
            return
        text = self.server.verdict(body["messages"][1]["content"])
        reply = {
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}}],
            "usage": {"prompt_tokens": 20, "completion_tokens": 5},
        }
        content = fault.get("body", json.dumps(reply)).encode()
        self.send_response(fault.get("status", 200))
        for name, value in fault.get("headers", {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    for name in (endpoint.URL, endpoint.MODEL, endpoint.KEY):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def judged(server, monkeypatch):
    """The environment names the server as the judge."""
    monkeypatch.setenv(endpoint.URL, server.url)
    monkeypatch.setenv(endpoint.MODEL, "local/judge")
    monkeypatch.setenv(endpoint.KEY, "secret-key")
    return server


class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self):
        self.now, self.slept = 100.0, []

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds

    def __call__(self):
        return self.now


def client(server, clock=None, **options):
    clock = clock or Clock()
    given = {"requests_per_minute": 60000, "attempts": 4, "timeout": 5, "max_tokens": 64} | options
    return Endpoint(url=server.url, model="m", key="secret-key", sleep=clock.sleep, clock=clock, **given)


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


@pytest.fixture
def subject(checkpoint, tmp_path):
    source = configuration.build({"_target_": "experiments.models.Pretrained", "path": str(checkpoint)})
    model, tokenizer = source.load(torch.float32)
    return Subject("tiny", model.eval(), tokenizer, "fingerprint", tmp_path / "place")


# --- the endpoint ---


def test_a_request_follows_the_protocol(server):
    reply = client(server).ask("Be fair.", "Question?")
    ((path, authorization, body),) = server.seen
    assert path == "/v1/chat/completions"
    assert authorization == "Bearer secret-key"
    assert body == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be fair."}, {"role": "user", "content": "Question?"}],
        "temperature": 0,
        "max_tokens": 64,
    }
    assert reply.tokens == (20, 5)


def test_no_key_sends_no_authorization(server):
    given = client(server)
    given.key = ""
    given.ask("s", "u")
    assert server.seen[0][1] is None


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500},
        {"status": 503},
        {"status": 429},
        {"body": '{"choices": [{"mess'},
        {"body": "<html>gateway</html>"},
        {"body": '{"choices": []}'},
        {"body": '{"choices": [{"message": {"content": null}}]}'},
        {"body": "[]"},
        {"drop": True},
    ],
)
def test_a_passing_fault_is_tried_again_with_growing_pauses(fault, server):
    server.faults += [fault, fault]
    clock = Clock()
    assert client(server, clock).ask("s", "u").text.startswith("Fine.")
    assert len(server.seen) == 3
    assert [pause for pause in clock.slept if pause >= 1] == [1.0, 2.0]


def test_a_server_that_is_silent_is_given_up_after_the_timeout(server):
    server.faults += [{"silent": 0.6}]
    begin = time.perf_counter()
    assert client(server, timeout=0.2).ask("s", "u").text
    assert time.perf_counter() - begin < 5
    assert len(server.seen) == 2


@pytest.mark.parametrize(("header", "low", "high"), [("7", 7, 7), ("0.5", 1, 1), ("date", 25, 31), ("900", 120, 120)])
def test_retry_after_is_kept_up_to_a_limit(header, low, high, server):
    value = email.utils.formatdate(time.time() + 30, usegmt=True) if header == "date" else header
    server.faults += [{"status": 429, "headers": {"Retry-After": value}}]
    clock = Clock()
    client(server, clock).ask("s", "u")
    assert low <= max(clock.slept) <= high


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_refusal_is_not_tried_again_and_the_key_is_not_shown(status, server):
    server.faults += [{"status": status}]
    with pytest.raises(UserError, match=rf"refuses the request \(HTTP {status}") as refused:
        client(server).ask("s", "u")
    assert len(server.seen) == 1
    assert "secret-key" not in str(refused.value)
    assert "secret-key" not in repr(client(server))


def test_after_the_last_attempt_the_fault_is_told(server):
    server.faults += [{"status": 500}] * 4
    with pytest.raises(UserError, match=r"did not answer in 4 attempts, the last: HTTP 500"):
        client(server).ask("s", "u")
    assert len(server.seen) == 4


def test_nobody_listening_is_told(server):
    given = client(server, attempts=2)
    given.url = "http://127.0.0.1:9/v1"
    with pytest.raises(UserError, match="did not answer in 2 attempts"):
        given.ask("s", "u")


def test_the_rate_limit_spaces_requests(server):
    clock = Clock()
    given = client(server, clock, requests_per_minute=30)
    begun = []
    for _ in range(4):
        given.ask("s", "u")
        begun.append(clock.now)
    assert [b - a for a, b in itertools.pairwise(begun)] == [2.0, 2.0, 2.0]


def test_the_environment_names_the_judge(monkeypatch):
    options = {"requests_per_minute": 1, "attempts": 1, "timeout": 1, "max_tokens": 1}
    for name in (endpoint.URL, endpoint.MODEL, endpoint.KEY):
        monkeypatch.delenv(name, raising=False)
    assert endpoint.from_environment(**options) is None
    monkeypatch.setenv(endpoint.URL, "http://host/v1")
    with pytest.raises(UserError, match="JUDGE_MODEL is not set"):
        endpoint.from_environment(**options)
    monkeypatch.setenv(endpoint.MODEL, "m")
    found = endpoint.from_environment(**options)
    assert (found.url, found.model, found.key) == ("http://host/v1", "m", "")
    monkeypatch.setenv(endpoint.URL, "file:///etc/passwd")
    with pytest.raises(UserError, match="must begin with http"):
        endpoint.from_environment(**options)


# --- the journal ---


def test_a_torn_line_is_left_out_and_what_follows_is_whole(tmp_path):
    journal = Journal(tmp_path / "deep" / "rows.jsonl")
    assert journal.read() == []
    journal.append({"a": 1}, {"a": 2})
    with journal.path.open("a") as file:
        file.write('{"a": 3, "text": "cut in the mid')
    assert journal.read() == [{"a": 1}, {"a": 2}]
    journal.append({"a": 4})
    assert journal.read() == [{"a": 1}, {"a": 2}, {"a": 4}]


# --- the judge ---


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("Rating: [[7]]", 7),
        ("Rating: [[8.5]] and later [[2]]", 8.5),
        ("Rating: [6]", 6),
        ("I list [1] and then [[9]]", 9),
        ("Rating: 7", UNRATED),
        ("[[rating]]", UNRATED),
        ("[[11]]", UNRATED),
        ("[[0]]", UNRATED),
        ("", UNRATED),
    ],
)
def test_ratings(text, score):
    assert rating(text) == score


def test_prompts_are_chosen_and_filled_as_in_fastchat():
    answers = {number: [f"{number} one", f"{number} {{two}}"] for number in (81, 101, 140)}
    prompts = {row["name"]: row for row in PROMPTS}
    made = tasks(QUESTIONS, answers, prompts, {101: ["You.", "Nobody."]})
    assert [(task.question_id, task.turn, task.prompt) for task in made] == [
        (81, 1, "single-v1"),
        (81, 2, "single-v1-multi-turn"),
        (101, 1, "single-math-v1"),
        (101, 2, "single-math-v1-multi-turn"),
        (140, 1, "single-v1"),
        (140, 2, "single-v1-multi-turn"),
    ]
    assert made[1].user == "Q Write a line.\nA 81 one\nQ Again, shorter.\nA 81 {two}"
    assert made[2].user == "R You.\nQ Who is second?\nA 101 one"
    assert made[3].user == "R You. Nobody.\nQ Who is second? And last?\nA 101 one 101 {two}"
    with pytest.raises(UserError, match=r"question 101 .* needs a reference"):
        tasks(QUESTIONS, answers, prompts, {})
    broken = prompts | {"single-v1": PROMPTS[0] | {"prompt_template": "{verdict}"}}
    with pytest.raises(UserError, match="'single-v1' cannot be filled in"):
        tasks(QUESTIONS, answers, broken, {101: ["You.", "Nobody."]})


def judge(server, tmp_path, *, prices=None, max_cost=None, **options):
    return Judge(client(server, **options), Journal(tmp_path / "m_single.jsonl"), prices or Prices(), max_cost)


def wanted(answers="one"):
    made = {question["question_id"]: [answers, "two"] for question in QUESTIONS}
    return tasks(QUESTIONS, made, {row["name"]: row for row in PROMPTS}, {101: ["You.", "Nobody."]})


def test_judgments_are_kept_in_fastchats_format_and_not_asked_twice(server, tmp_path):
    rows, spent = judge(server, tmp_path).judge(wanted(), "tiny")
    assert spent == {"requests": 6, "tokens": [120, 30], "dollars": None}
    kept = [json.loads(line) for line in (tmp_path / "m_single.jsonl").read_text().splitlines()]
    assert kept == rows
    for row, task in zip(kept, wanted(), strict=True):
        names = ["question_id", "model", "judge", "user_prompt", "judgment", "score", "turn", "tstamp"]
        assert list(row) == names
        assert row["judge"] == ["m", task.prompt]
        assert row["score"] == 3 + len(task.user) % 7
    again, spent = judge(server, tmp_path).judge(wanted(), "tiny")
    assert again == rows
    assert spent["requests"] == 0
    assert len(server.seen) == 6
    judge(server, tmp_path).judge(wanted("another answer"), "tiny")
    assert len(server.seen) == 12, "both turns' prompts show the first answer"
    judge(server, tmp_path).judge(wanted(), "other model")
    assert len(server.seen) == 18


def test_a_judge_that_fails_midway_goes_on_where_it_stopped(server, tmp_path):
    server.faults += [{}, {}, *[{"status": 500}] * 4]
    with pytest.raises(UserError, match=r"2 of 6 judgments were made and are kept in .*m_single.jsonl"):
        judge(server, tmp_path).judge(wanted(), "tiny")
    rows, spent = judge(server, tmp_path).judge(wanted(), "tiny")
    assert spent["requests"] == 4
    assert len(rows) == 6
    whole, _ = judge(server, tmp_path / "elsewhere").judge(wanted(), "tiny")
    for row, other in zip(rows, whole, strict=True):
        assert row | {"tstamp": 0} == other | {"tstamp": 0}


def test_the_cost_is_told_before_the_first_request_and_can_forbid_it(server, tmp_path, capsys):
    prices = Prices(input=10.0, output=30.0)
    given = judge(server, tmp_path, prices=prices, max_cost=0.001)
    tokens, dollars = given.estimate(wanted())
    letters = sum(len(task.system) + len(task.user) for task in wanted())
    assert tokens == (letters // 4, 6 * 64)
    assert dollars == pytest.approx((tokens[0] * 10 + tokens[1] * 30) / 1e6)
    with pytest.raises(UserError, match=r"max_cost=0.001 forbids the judgments: at most \$0.01"):
        given.judge(wanted(), "tiny")
    assert server.seen == []
    with pytest.raises(UserError, match="no price is set"):
        judge(server, tmp_path, max_cost=1.0).judge(wanted(), "tiny")
    assert server.seen == []
    capsys.readouterr()
    _, spent = judge(server, tmp_path, prices=prices, max_cost=1.0).judge(wanted(), "tiny")
    assert "6 of 6 judgments to be made" in capsys.readouterr().out
    assert spent["dollars"] == pytest.approx((120 * 10 + 30 * 30) / 1e6)


# --- answers and scores ---


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


def test_the_command_goes_on_after_a_failing_judge(checkpoint, files, judged, tmp_path):
    given = [f"path={checkpoint}", "parts=[mt_bench]", "name=tiny", "device=cpu", f"records_dir={tmp_path}/records"]
    given += [f"mt_bench.questions={files}/question.jsonl", f"mt_bench.references={files}/reference.jsonl"]
    given += [f"mt_bench.prompts={files}/prompts.jsonl", f"mt_bench.folder={tmp_path}/mt_bench"]
    given += ["mt_bench.max_new_tokens=4", "mt_bench.judge.attempts=1", "mt_bench.judge.requests_per_minute=6000"]
    judged.faults += [{}, {}, {"status": 500}]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("evaluate", overrides=given, return_hydra_config=True)
    ((failed, _),) = evaluation.execute(evaluation.plan(config, configuration.choices(config.hydra)))
    assert failed.status == "failed"
    assert "2 of 6 judgments were made and are kept" in failed.error
    path = tmp_path / "records" / "evaluate" / "tiny-mt_bench.json"
    assert load(path) == failed
    command = [sys.executable, "-W", "error", "-m", "experiments.evaluate", *given]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    record = load(path)
    assert record.status == "finished"
    assert record.key == failed.key
    assert record.measurements["judge"]["spent"]["requests"] == 4
    assert 1 <= record.measurements["score"]["value"] <= 10
    assert "secret-key" not in path.read_text()
    assert f"score: {record.measurements['score']['value']:.4f}" in done.stdout
