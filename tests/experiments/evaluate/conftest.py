"""Test sets of every task, evaluations of the tiny Llama, and a judge behind a real HTTP server."""

import json
import lzma
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from hydra import compose, initialize_config_dir

from experiments import configuration
from experiments.command import spelled_out
from experiments.evaluate import endpoint, evaluation
from experiments.evaluate.downstream import TASKS, Downstream, definition
from experiments.evaluate.subject import Subject
from tests.experiments.conftest import ROOT

SHARED = ROOT.parent / "shared" / "data"

SIZES = ["data.train_size=8", "data.heldout_size=6", "data.max_tokens=256", "device=cpu"]
NAMES = sorted(path.stem for path in TASKS.glob("*.yaml"))


def rows(task, n=7):
    """n rows of a task in the hub's schema; the right choice or number is known."""
    fruit = ["apple pie", "pear", "plum and cherry", "fig"]
    letters = {"text": fruit, "label": ["A", "B", "C", "D"]}
    subjects = ["abstract_algebra", "college_mathematics", "astronomy"]
    known = {
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
    }
    if task not in known:
        pytest.fail(f"experiments/evaluate/tasks/{task}.yaml is new: add rows of it to `rows` in this file")
    return known[task]


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
        fixed = [f"path={checkpoint}", f"downstream.folder={data}", "downstream.max_new_tokens=4", *SIZES]
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            given = [*fixed, f"records_dir={tmp_path}/records", *overrides]
            config = compose("evaluate", overrides=spelled_out(given, "evaluate"), return_hydra_config=True)
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
