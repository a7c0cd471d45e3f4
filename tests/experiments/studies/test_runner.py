"""Studies: failed runs wait for a request, runs are shared between processes, the table tells what is left."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hydra import initialize_config_dir
from omegaconf import OmegaConf
from rich.console import Console

from experiments.studies import runner, show, study, worker
from experiments.studies.progress import Progress
from experiments.training import running
from experiments.training.checkpoint import BusyError, Checkpoints, locked
from records import load

ROOT = Path(__file__).resolve().parents[3]
TINY = ["steps=2", "batch_size=2", "data.train_size=8", "data.heldout_size=4", "data.max_tokens=256", "device=cpu"]


@pytest.fixture
def small(checkpoint, tmp_path):
    """small(methods) -> entries of a study over methods on the tiny Llama."""

    def make(methods):
        fixed = ["model=pretrained", f"model.path={checkpoint}", *TINY]
        config = OmegaConf.create({"name": "small", "axes": {"method": methods}, "overrides": fixed})
        places = [f"records_dir={tmp_path}", f"checkpoint.folder={tmp_path}/checkpoints"]
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            return study.runs(config, [], places)

    return make


def test_failed_runs_are_run_again_on_request_only(small, monkeypatch, capsys):
    measure = running.Running.measure

    def broken(self, found, interruption):
        raise OSError("no luck")

    monkeypatch.setattr(running.Running, "measure", broken)
    assert [record.status for record in runner.execute(small(["sgd"]), "small")] == ["failed"]
    monkeypatch.setattr(running.Running, "measure", measure)
    listed = small(["sgd"])
    assert listed[0].state == "failed"
    assert "sgd  failed" in show.table(listed)
    assert [record.status for record in runner.execute(listed, "small")] == ["failed"]
    assert "sgd: failed before (OSError: no luck); retry=true runs it again" in capsys.readouterr().out
    assert [record.status for record in runner.execute(listed, "small", retry=True)] == ["finished"]


def test_an_error_with_brackets_is_told_as_it_is():
    console = Console(file=io.StringIO(), width=200)
    Progress("small", [], 2, console).say("sgd: FAILED, RuntimeError: [/tmp/x.so] [bold] is missing")
    assert console.file.getvalue() == "sgd: FAILED, RuntimeError: [/tmp/x.so] [bold] is missing\n"


def test_a_run_that_another_process_works_on_is_skipped(small, capsys):
    listed = small(["sgd", "adamw"])
    with listed[0].locked():
        records = runner.execute(listed, "small")
    assert [record.name for record in records] == ["adamw"]
    assert "sgd: another process works on it, skipped" in capsys.readouterr().out
    assert len(runner.execute(small(["sgd", "adamw"]), "small")) == 2


def test_runs_whose_names_differ_after_a_dot_do_not_wait_for_each_other(tmp_path):
    one, other = (Checkpoints(tmp_path / f"sgd-lr0.{digits}-seed0-key", "key") for digits in ("01", "001"))
    with locked(one.lock), locked(other.lock), pytest.raises(BusyError), locked(one.lock):
        pass


def test_a_run_finished_elsewhere_meanwhile_is_not_repeated(small, monkeypatch):
    listed = small(["sgd"])
    runner.execute(listed, "small")  # as if by another process: `listed` still says "to do"
    monkeypatch.setattr(worker, "execute", lambda *_, **__: pytest.fail("it ran again"))
    assert [record.status for record in runner.execute(listed, "small")] == ["finished"]


def test_a_lock_is_free_when_its_process_is_gone(tmp_path):
    with locked(tmp_path / "a.lock"), pytest.raises(BusyError), locked(tmp_path / "a.lock"):
        pass
    with locked(tmp_path / "a.lock"):
        pass


def test_several_workers_give_the_records_of_one(small, checkpoint, tmp_path):
    """The whole command with two processes, on a study of its own configuration folder."""
    definition = {"name": "two", "axes": {"method": ["sgd", "bsgd"]}, "overrides": TINY}
    (tmp_path / "conf" / "study").mkdir(parents=True)
    (tmp_path / "conf" / "study" / "two.yaml").write_text(yaml.safe_dump(definition))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "experiments.train", "study=two", "workers=2"),
            *("model=pretrained", f"model.path={checkpoint}"),
            f"hydra.searchpath=[file://{tmp_path}/conf]",
            *(f"records_dir={tmp_path}/records", f"checkpoint.folder={tmp_path}/checkpoints"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    (folder,) = (tmp_path / "records").iterdir()
    found = {path.stem: load(path) for path in folder.glob("*.json")}
    assert set(found) == {"sgd", "bsgd"}
    (alone,) = runner.execute(small(["sgd"]), "small")
    assert losses(found["sgd"]) == losses(alone)


def losses(record):
    return json.dumps(record.measurements["steps"]["loss"])


def test_the_live_table_shows_what_runs_and_what_is_left(small):
    listed = small(["sgd", "adamw"])
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    progress = Progress("small", listed, 2, console)
    with progress:
        progress.started(listed[0])
        console.print(progress)
        progress.ended(listed[0], "finished")
    text = console.file.getvalue()
    assert "0 of 2 runs done" in text
    assert "running" in text
    assert "1 of 2 runs done" in progress.remaining()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [(["workers=0"], "workers=0 is not possible"), (["only=nothing"], "only='nothing' is no run of the study quick")],
)
def test_impossible_values_are_refused(overrides, message):
    arguments = [sys.executable, "-m", "experiments.train", "study=quick", *overrides]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert message in done.stderr
