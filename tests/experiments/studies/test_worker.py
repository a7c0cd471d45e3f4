"""Processes of a study: the same bits as alone, and what becomes of runs whose process dies or lacks memory."""

import io
import json
import signal
import subprocess
import sys
import time
from contextlib import redirect_stdout

import pytest
import yaml

from experiments.studies import runner
from experiments.training import running
from records import load
from tests.experiments.conftest import ROOT, TINY, below, entries_at, measured

METHODS = ["badam", "lora", "adamw", "schedule_free", "bsgd"]


@pytest.mark.slow
@pytest.mark.usefixtures("global_generator_untouched")
def test_runs_of_one_process_are_bitwise_those_of_a_process_each(entries, trained):
    listed = entries("small", {"method": METHODS})
    running._evaluations.clear()
    runner.execute(listed, "small")
    for entry in listed:
        _, alone = trained(entry.cell["method"])
        assert measured(entry.record) == measured(alone), entry.name


SCARCE = """
from experiments.workloads.language import HeldOutLoss

class Scarce(HeldOutLoss):
    def __call__(self, *given):
        with open("{folder}/tries", "a") as file:
            file.write("x")
        if len(open("{folder}/tries").read()) < 2:
            raise RuntimeError("out of memory, as a library says it")
        return super().__call__(*given)
"""


@pytest.fixture(scope="module")
def two_processes(checkpoint, tmp_path_factory):
    """(records, text): five runs, one whose process dies and one that finds no memory at first, in two processes."""
    folder = tmp_path_factory.mktemp("two")
    places, said = below(folder, checkpoint), io.StringIO()
    (folder / "deadly.py").write_text("def deadly(**_):\n    import os\n    return lambda *_: os.abort()\n")
    (folder / "scarce.py").write_text(SCARCE.format(folder=folder))
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said):
        patch.syspath_prepend(folder)
        deadly = entries_at(places, "small", {"method": ["sgd"], "seed": [7]}, "evaluation._target_=deadly.deadly")
        scarce = entries_at(
            places, "small", {"method": ["sgd"], "seed": [3]}, "evaluation=loss", "evaluation._target_=scarce.Scarce"
        )
        others = entries_at(places, "small", {"method": METHODS})
        records = runner.execute([*deadly, *scarce, *others], "small", workers=2)
    return records, said.getvalue()


@pytest.mark.slow
def test_two_processes_share_five_runs_and_give_the_same_bits(two_processes, trained):
    records, _ = two_processes
    shared = [record for record in records if record.name in METHODS]
    assert [record.name for record in shared] == METHODS
    for record in shared:
        assert measured(record) == measured(trained(record.name)[1])


@pytest.mark.slow
def test_a_process_that_dies_is_replaced_and_its_run_is_left(two_processes):
    records, said = two_processes
    assert [record.name for record in records] == ["sgd-seed3", *METHODS]
    assert all(record.status == "finished" for record in records)
    assert "sgd-seed7: its process ended with -6" in said


@pytest.mark.slow
def test_a_run_without_memory_is_tried_once_more(two_processes):
    records, said = two_processes
    assert next(record.status for record in records if record.name == "sgd-seed3") == "finished"
    assert said.index("sgd-seed3: FAILED, RuntimeError: out of memory") < said.index("sgd-seed3: held-out loss")


@pytest.mark.slow
def test_a_run_for_which_a_library_finds_no_memory_is_tried_once_more(entries, capsys, monkeypatch, tmp_path):
    error = "CUDA error: CUBLAS_STATUS_ALLOC_FAILED"
    code = f"""
import torch
from experiments.workloads.language import HeldOutLoss

class Scarce(HeldOutLoss):
    def __call__(self, *given):
        with open("{tmp_path}/tries", "a") as file:
            file.write("x")
        if len(open("{tmp_path}/tries").read()) < 2:
            raise RuntimeError("{error}")
        return super().__call__(*given)
"""
    (tmp_path / "scarce.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    scarce = entries("small", {"method": ["sgd"]}, "evaluation=loss", "evaluation._target_=scarce.Scarce")
    (record,) = runner.execute(scarce, "small", workers=2)
    assert record.status == "finished"
    said = capsys.readouterr().out
    assert said.index(f"sgd: FAILED, RuntimeError: {error}") < said.index("sgd: held-out loss")


@pytest.mark.slow
def test_a_signal_ends_all_processes_with_checkpoints(checkpoint, tmp_path):
    definition = {"name": "long", "axes": {"seed": [0, 1, 2]}, "overrides": [*TINY, "steps=100000", "method=badam"]}
    (tmp_path / "conf" / "study").mkdir(parents=True)
    (tmp_path / "conf" / "study" / "long.yaml").write_text(yaml.safe_dump(definition))
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "experiments.train", "study=long", "workers=2", "checkpoint.every=5"),
            *("model=pretrained", f"model.path={checkpoint}", f"hydra.searchpath=[file://{tmp_path}/conf]"),
            *(f"records_dir={tmp_path}/records", f"checkpoint.folder={tmp_path}/checkpoints"),
        ],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for _ in range(600):
            if len({path.parent for path in (tmp_path / "checkpoints").rglob("step-*.json")}) == 2:
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 75, said
    assert "interrupted by SIGTERM" in said
    found = [load(path) for path in (tmp_path / "records").rglob("*.json")]
    assert [record.status for record in found] == ["interrupted"] * 2
    assert all(record.measurements["steps"]["loss"] for record in found)


@pytest.mark.slow
def test_several_workers_give_the_records_of_one(entries, checkpoint, tmp_path):
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
    (alone,) = runner.execute(entries("small", {"method": ["sgd"]}), "small")
    assert losses(found["sgd"]) == losses(alone)


def losses(record):
    return json.dumps(record.measurements["steps"]["loss"])
