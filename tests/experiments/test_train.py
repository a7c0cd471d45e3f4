"""The command that trains: exit codes, messages, sweeps, signals, and the spelling of how runs are made."""

import json
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from experiments import configuration, train
from experiments.interruption import Interrupted
from experiments.models import Pretrained
from experiments.studies import study
from experiments.training import planning
from experiments.training.run import Run
from experiments.training.running import execute
from records import load
from tests.experiments.conftest import ROOT, TINY


@pytest.mark.parametrize(
    ("overrides", "code", "message"),
    [
        (["method=badam", "method.inner_steps=0"], 2, "error: inner_steps=0 is not possible"),
        (["method=adam"], 2, "error: method=adam is not one of "),
        (["method=adamw", "order=cyclic"], 2, "error: there is no option 'order' here, with the method"),
        (["method.inner_step=3"], 2, "error: there is no option 'method.inner_step'"),
        (["studies=[quick,nothing]"], 2, "error: study=nothing is not one of digits, equal_time, "),
        (["study=quick", "dry=banana"], 2, "error: dry='banana' is not one of True, False"),
        (
            ["model=pretrained", "model.path=outputs/exports/no/such"],
            2,
            "export=outputs/exports writes such",
        ),
        (["model=pretrained"], 2, "Missing mandatory value: path full_key: model.path"),
        (["study=quick", "workers=0"], 2, "workers=0 is not possible"),
    ],
)
def test_the_command_stops_with_one_message_and_no_traceback(overrides, code, message, command):
    done = command(train.main, *overrides)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    if "method=adam" in message:
        assert "badam" in done.stderr, "the message says what exists"


@pytest.mark.parametrize(
    ("stop", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "what is finished is kept"),
        (Interrupted(signal.SIGTERM), 75, "interrupted by SIGTERM"),
    ],
    ids=["Ctrl-C", "SIGTERM"],
)
def test_an_interrupted_command_says_how_to_go_on(stop, code, message, command, monkeypatch):
    def interrupted(config):
        raise stop

    monkeypatch.setattr(train, "run_single", interrupted)
    done = command(train.main, "method=badam")
    assert done.returncode == code
    assert message in done.stderr


def test_one_run_is_done_once(command, places, tmp_path):
    arguments = [*places, *TINY, "method=sgd", "steps=2"]
    done = command(train.main, *arguments)
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "records" / "single").glob("*.json")
    assert str(path) in done.stdout
    assert "finished before (force=true runs it again)" in command(train.main, *arguments).stdout


def test_a_sweep_from_the_shell(command, places, tmp_path):
    sweep = ["steps=2", "order=cyclic,descending", f"hydra.sweep.dir={tmp_path}/hydra"]
    done = command(train.main, "-m", *places, *TINY, *sweep)
    assert done.returncode == 0, done.stderr
    records = [load(path) for path in (tmp_path / "records" / "single").glob("*.json")]
    assert {record.config["choices"]["order"] for record in records} == {"cyclic", "descending"}


@pytest.mark.slow
def test_sigterm_ends_the_command_with_75_and_the_same_command_finishes(places, tmp_path):
    arguments = [*places, *TINY, "method=badam", "steps=100000", "checkpoint.every=5"]
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.train", *arguments], cwd=ROOT, text=True, stderr=subprocess.PIPE
    )
    try:
        deadline = time.monotonic() + 300
        while not list((tmp_path / "checkpoints").rglob("step-*.json")):
            assert time.monotonic() < deadline
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 75, told
    assert "interrupted by SIGTERM: the same command goes on from there" in told
    (path,) = (tmp_path / "records" / "single").glob("*.json")
    record = load(path)
    assert record.status == "interrupted"
    assert record.measurements["steps"]
    assert list((tmp_path / "checkpoints").rglob(f"step-{len(record.measurements['steps']['loss']):08d}.json"))


@pytest.mark.parametrize("fault", ["missing", "schema"])
def test_a_fault_of_the_data_is_one_line(fault, command, places, tmp_path):
    if fault == "schema":
        (tmp_path / "gsm8k.train.jsonl").write_text('{"problem": "a", "solution": "b"}')
    data = ["device=cpu", "data=gsm8k", f"data.source.local={tmp_path}"]
    done = command(train.main, *places, *data)
    assert done.returncode == 2, done.stderr
    assert re.fullmatch(r"error: .*(has no gsm8k\.train|the field 'question' is missing).*\n", done.stderr)


def test_a_run_that_the_study_lacks_is_refused(command, places):
    done = command(train.main, "study=quick", "only=nothing", *places)
    assert done.returncode == 2
    assert "only='nothing' is no run of the study quick" in done.stderr


@pytest.mark.parametrize(("name", "times"), [("quick", 1), ("tuning_gsm8k", 1), ("tuning_regime_gsm8k", 2)])
def test_only_a_study_that_extends_its_grid_is_listed_again(name, times, command, places, monkeypatch):
    listed, run = [], SimpleNamespace(study=name, name="one", place=(name, "one"), busy=True)
    monkeypatch.setattr(study, "runs", lambda each, *_, **__: [listed.append(each.name) or run])
    monkeypatch.setattr(train.runner, "execute", lambda *_, **__: [])
    monkeypatch.setattr(train.show, "table", str)
    assert command(train.main, f"study={name}", *places).returncode == 0
    assert listed == [name] * times


@pytest.mark.integration
def test_a_multirun_goes_on_after_a_run_that_failed_or_was_refused(places, tmp_path, command):
    given = [*places, *TINY, f"hydra.sweep.dir={tmp_path}/sweep", "method=badam", "max_grad_norm=null"]
    done = command(train.main, "-m", *given, "method.lr=1e30,1e-3", "steps=6,0")
    assert done.returncode == 1
    assert "error: 3 of 4 jobs of this multirun failed" in done.stderr
    assert done.stderr.count("error: steps=0 is not possible") == 2
    written = [load(path) for path in (tmp_path / "records" / "single").glob("*.json")]
    assert sorted(record.status for record in written) == ["failed", "finished"]


def test_an_interrupted_multirun_ends(places, tmp_path, command, monkeypatch):
    started = []

    def interrupted(config):
        started.append(config)
        raise Interrupted(signal.SIGTERM)

    monkeypatch.setattr(train, "run_single", interrupted)
    done = command(train.main, "-m", *places, *TINY, f"hydra.sweep.dir={tmp_path}/sweep", "method=badam,sgd")
    assert done.returncode == 75
    assert len(started) == 1


def test_a_run_that_another_process_works_on_is_refused(places, tmp_path, command, composed):
    run = Run(planning.plan(*composed("method=sgd")))
    with run.locked():
        done = command(train.main, *places, *TINY, "method=sgd")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: another process works on this very run, {run.name};"), done.stderr
    assert not run.path.exists()


@pytest.mark.integration
def test_started_elsewhere_a_command_finds_what_the_other_wrote_and_leaves_nothing(places, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr(configuration, "ROOT", tmp_path / "root")
    monkeypatch.chdir(tmp_path / "elsewhere")
    train.main([*places, *TINY, "method=sgd", "export=outputs/exports"])
    (folder,) = (tmp_path / "root" / "outputs" / "exports" / "single").iterdir()
    assert Pretrained(f"outputs/exports/single/{folder.name}").local() == folder
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("key", ["records_dir", "export", "checkpoint.folder"])
def test_a_tilde_is_the_home_folder_wherever_something_is_written(key, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    run = Run(tiny(f"how.{key}='~/x'"))
    place = {"records_dir": run.path, "export": run.export, "checkpoint.folder": run.checkpoints.folder}[key]
    assert place.is_relative_to(tmp_path / "home" / "x")


def test_an_export_goes_behind_a_link_that_has_its_place(tiny, tmp_path):
    run = Run(tiny("method=sgd", f"how.export={tmp_path}/exports"))
    (tmp_path / "disk").mkdir()
    run.export.parent.mkdir(parents=True)
    run.export.symlink_to(tmp_path / "disk")
    assert execute(run).status == "finished"
    assert run.export.is_symlink()
    assert (tmp_path / "disk" / "config.json").is_file()


def test_a_dry_run_shows_the_plan_and_an_example_and_leaves_nothing(command, places, tmp_path):
    rows = [{"messages": [said("user", f"What is {i}?"), said("assistant", f"It is {i}.")]} for i in range(10)]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = [
        "data=file",
        f"data.path={tmp_path / 'own.jsonl'}",
        "epochs=2",
        "batch_size=4",
        "device=cpu",
        "dry=true",
    ]
    done = command(train.main, *places, *options)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^steps: 4 of 4 examples on cpu, about \d", done.stdout, re.MULTILINE)
    assert re.search(r"^memory: weights 0\.\d+, gradients 0\.\d+, state 0\.\d+ GB", done.stdout, re.MULTILINE)
    assert "data: 10 rows, 0 empty, 0 duplicates, 0 in another part, 8 train examples, 2 held" in done.stdout
    assert re.search(r"<\|im_start\|>assistant\n>>>It is \d\.<\|im_end\|><<<$", done.stdout)
    assert not (tmp_path / "records").exists()


def test_a_dry_run_of_a_workload_without_texts_has_no_example(command, tmp_path):
    done = command(train.main, "workload=digits", "method=adamw", "device=cpu", "dry=true", f"records_dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("data: 1197 train examples, 300 heldout examples\n")


def said(role, content):
    return {"role": role, "content": content}
