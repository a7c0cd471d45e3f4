"""Interrupted runs go on exactly; failures of the machine end in one line, with nothing lost."""

import errno
import os
import re
import signal
import time

import pytest
import torch

from experiments.interruption import Interrupted
from experiments.training import capacity, running
from experiments.training.checkpoint import CheckpointError
from experiments.training.run import Run
from experiments.training.running import execute
from experiments.workloads.finetuning import FinetuningTask
from tests.experiments.conftest import (
    measured,
    terminate,
)


def test_a_run_killed_between_checkpoints_loses_the_steps_since_the_last(tiny, at_step):
    planned = tiny("method=badam", "checkpoint.every=2")
    whole = execute(Run(planned, "whole"))

    class Killed(BaseException):
        pass

    def kill(training):
        raise Killed

    at_step(5, kill)
    with pytest.raises(Killed):
        execute(Run(planned, "cut"))
    assert Run(planned, "cut").checkpoints.steps() == [2, 4]
    resumed = execute(Run(planned, "cut"))
    assert resumed.provenance["resumed_after_step"] == 4
    assert measured(resumed) == measured(whole)


def test_ctrl_c_while_evaluating_keeps_the_training(tiny, monkeypatch):
    planned = tiny("method=badam")
    real = FinetuningTask.evaluate

    def evaluate(self, model, label):
        if label == "evaluate after":
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        return real(self, model, label)

    monkeypatch.setattr(FinetuningTask, "evaluate", evaluate)
    with pytest.raises(Interrupted) as stopped:
        execute(Run(planned, "cut"))
    assert stopped.value.code == 130
    monkeypatch.undo()
    assert execute(Run(planned, "cut")).provenance["resumed_after_step"] == planned.config.steps


def test_a_damaged_newest_checkpoint_is_told_and_the_one_before_used(tiny, at_step, capsys):
    planned = tiny("method=badam", "checkpoint.every=2")
    at_step(5, terminate)
    with pytest.raises(Interrupted):
        execute(Run(planned, "cut"))
    kept = Run(planned, "cut").checkpoints
    newest = kept.folder / f"step-{kept.steps()[-1]:08d}.pt"
    newest.write_bytes(newest.read_bytes()[:-10])
    assert execute(Run(planned, "cut")).provenance["resumed_after_step"] == 4
    assert re.search(f"{newest} is refused: it is damaged.*\n.*goes on after step 4", capsys.readouterr().err)


def test_other_values_never_go_on_from_this_checkpoint(tiny, at_step):
    at_step(3, terminate)
    with pytest.raises(Interrupted):
        execute(Run(tiny("method=badam"), "cut"))
    assert "resumed_after_step" not in execute(Run(tiny("method=badam", "method.lr=2e-3"), "cut")).provenance


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["nonfinite=retry"], "nonfinite='retry' is not one of stop, skip, rollback"),
        (["nonfinite=rollback", "checkpoint.every=null"], "nonfinite='rollback' is not possible without checkpoints"),
        (["checkpoint.every=0"], "checkpoint.every=0 is not possible"),
        (["checkpoint.every=x"], "checkpoint.every='x' is not possible"),
    ],
)
def test_impossible_values_are_refused(overrides, message, tiny):
    with pytest.raises(ValueError, match=re.escape(message)):
        tiny(*overrides)


# --- faults of the machine ---


def test_a_checkpoint_that_cannot_be_written_fails_the_run_and_keeps_the_last(tiny, at_step, tmp_path):
    planned = tiny("method=badam", "checkpoint.every=2")

    def fill_the_disk(training):
        (Run(planned).checkpoints.folder / "step-00000004.partial").symlink_to("/dev/full")

    at_step(3, fill_the_disk)
    record = execute(Run(planned))
    assert record.status == "failed"
    assert re.search(
        r"step-00000004\.pt cannot be written \(.*No space left on device\).*last good one is .*step-00000002\.pt",
        record.error,
    )
    assert "\n" not in record.error
    assert execute(Run(planned)).provenance["resumed_after_step"] == 2


def test_folders_are_checked_before_anything_is_computed(tiny, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(running.Running, "measure", lambda *_: pytest.fail("work was done"))
    for key in ("records_dir", "checkpoint.folder", "export"):
        with pytest.raises(
            CheckpointError, match=f"{tmp_path}/file/.* cannot be written to .*; choose another folder with {key}="
        ):
            execute(Run(tiny("method=badam", f"{key}={tmp_path}/file/below")))
    monkeypatch.setattr("shutil.disk_usage", lambda folder: os.statvfs_result([0] * 10) and type("U", (), {"free": 0}))
    with pytest.raises(CheckpointError, match=r"has 0\.00 GB free"):
        execute(Run(tiny("method=badam", "checkpoint.every=2")))


def test_a_record_that_cannot_be_written_loses_nothing(tiny, monkeypatch):
    planned = tiny("method=badam")

    def full(self, record):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Run, "write", full)
    with pytest.raises(ValueError, match=r"cannot be written \(No space left on device\); the run's state is kept in"):
        execute(Run(planned))
    monkeypatch.undo()
    assert execute(Run(planned)).provenance["resumed_after_step"] == planned.config.steps


def test_out_of_memory_says_what_would_fit(tiny, monkeypatch):
    from experiments.cost.predict import predict

    planned = tiny("method=adamw", "batch_size=8")

    def exhausted(self, model, batch, execution):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...")

    small = planned.workload.model.skeleton(torch.float32)
    size = {"batch": 2, "sequence": planned.workload.data.max_tokens, "accumulated": True}
    peak = predict(small, planned.method(), planned.execution(), **size).phases.peak
    monkeypatch.setattr(FinetuningTask, "loss", exhausted)
    monkeypatch.setattr(capacity, "device_bytes", lambda device: peak)
    record = execute(Run(planned))
    assert record.status == "failed"
    assert record.error.startswith(
        "OutOfMemoryError: CUDA out of memory; 8 examples at once are too many here: accumulation=4 "
        "(batch_size=8 in parts of 2) is predicted to need"
    )
    monkeypatch.setattr(capacity, "device_bytes", lambda device: 1)
    assert "no accumulation is predicted to fit" in execute(Run(planned)).error


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_out_of_memory_of_a_real_gpu(tiny):
    total = torch.cuda.mem_get_info()[1]
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 2**20) / total)
    try:
        record = execute(Run(tiny("method=adamw", "device=cuda", "batch_size=8", "dtype=float64")))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert record.status == "failed"
    assert record.error.startswith("OutOfMemoryError: CUDA out of memory")
