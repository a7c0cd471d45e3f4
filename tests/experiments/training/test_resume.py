"""Interrupted runs go on exactly; failures of the machine and of the numbers end in one line, with nothing lost."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hydra import initialize_config_dir

from experiments import configuration, train
from experiments.interruption import Interrupted
from experiments.studies import study
from experiments.training import capacity, planning, running
from experiments.training.checkpoint import CheckpointError
from experiments.training.loop import ROLLBACKS, Training
from experiments.training.run import Run
from experiments.training.running import execute
from experiments.workloads.finetuning import FinetuningTask
from records import load

ROOT = Path(__file__).resolve().parents[3]
METHODS = sorted(path.stem for path in (ROOT / "conf" / "method").glob("*.yaml"))
STATEFUL = [f"variant/{name}" for name in ("badam_average_steps", "badam_average_visits", "hift")]
TINY = ["steps=6", "batch_size=2", "data.train_size=8", "data.heldout_size=4", "data.max_tokens=256", "device=cpu"]


@pytest.fixture
def tiny(checkpoint, tmp_path):
    """tiny(*overrides) -> the plan of a run on the tiny Llama, everything below tmp_path."""

    def compose(*overrides):
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            return planning.plan(*study.compose([*fixed(checkpoint, tmp_path), *overrides]))

    return compose


def fixed(checkpoint, folder):
    return [
        "model=pretrained",
        f"model.path={checkpoint}",
        f"records_dir={folder}/records",
        f"checkpoint.folder={folder}/checkpoints",
        f"export={folder}/exports",
        *TINY,
    ]


@pytest.fixture
def at_step(monkeypatch):
    """at_step(n, act): act(training) is called once, in step n of the next run, after the weights have moved."""
    real = Training.step

    def arrange(number, act):
        def step(self):
            real(self)
            if self.steps == number:
                monkeypatch.setattr(Training, "step", real)
                act(self)

        monkeypatch.setattr(Training, "step", step)

    return arrange


def terminate(training):
    os.kill(os.getpid(), signal.SIGTERM)


def measured(record):
    """Everything measured except seconds and places."""
    kept = {name: value for name, value in record.measurements.items() if name != "export"}
    return re.sub(r'"seconds": (\[[^]]*\]|[0-9.e+-]+)', "", json.dumps(kept, sort_keys=True))


def weights(record):
    return {path.name: path.read_bytes() for path in Path(record.measurements["export"]).glob("*.safetensors")}


@pytest.mark.usefixtures("global_generator_untouched")
@pytest.mark.parametrize("method", [*METHODS, *STATEFUL])
def test_a_preempted_run_goes_on_to_the_same_bits(method, tiny, at_step, tmp_path):
    planned = tiny(f"method={method}")
    whole = execute(Run(planned, "whole"))
    at_step(3, terminate)
    with pytest.raises(Interrupted) as stopped:
        execute(Run(planned, "cut"))
    assert stopped.value.code == 75
    record = load(tmp_path / "records" / "cut" / f"{planned.name}.json")
    assert record.status == "interrupted"
    assert len(record.measurements["steps"]["loss"]) == 3
    assert Run(planned, "cut").finished is None
    resumed = execute(Run(planned, "cut"))
    assert resumed.provenance["resumed_after_step"] == 3
    assert measured(resumed) == measured(whole)
    assert weights(resumed) == weights(whole)
    assert not list((tmp_path / "checkpoints").rglob("*.pt")), "a finished run keeps no checkpoint"


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


def command(arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "experiments.train", *arguments], cwd=ROOT, text=True, stderr=subprocess.PIPE, **options
    )


def test_sigterm_ends_the_command_with_75_and_the_same_command_finishes(checkpoint, tmp_path):
    arguments = [*fixed(checkpoint, tmp_path), "method=badam", "steps=100000", "checkpoint.every=5"]
    process = command(arguments)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "checkpoints").rglob("step-*.json")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 75, told
    assert "interrupted by SIGTERM: the same command goes on from there" in told
    (path,) = (tmp_path / "records" / "single").glob("*.json")
    record = load(path)
    assert record.status == "interrupted"
    assert record.measurements["steps"]
    assert list((tmp_path / "checkpoints").rglob(f"step-{len(record.measurements['steps']['loss']):08d}.json"))


# --- numbers that are not finite ---


@pytest.fixture
def poisoned(monkeypatch):
    """poisoned(*draws): the loss of these batches, counted from 1, is NaN."""
    real, loss = FinetuningTask.batches, FinetuningTask.loss

    def arrange(*draws):
        seen = []

        def counted(self, start):
            for number, batch in enumerate(real(self, start), start + 1):
                seen.append(number)
                yield batch

        def spoilt(self, model, batch, execution):
            return loss(self, model, batch, execution) * (float("nan") if seen[-1] in draws else 1)

        monkeypatch.setattr(FinetuningTask, "batches", counted)
        monkeypatch.setattr(FinetuningTask, "loss", spoilt)
        return seen

    return arrange


def test_stop_fails_before_the_weights_are_touched(tiny, poisoned):
    poisoned(3)
    record = execute(Run(tiny("method=badam")))
    assert record.status == "failed"
    assert record.error.startswith("FloatingPointError: the loss is nan at step 2; try a smaller method.lr")
    assert len(record.measurements["steps"]["loss"]) == 2


def test_skip_drops_the_step_and_counts_it(tiny, poisoned):
    poisoned(3)
    record = execute(Run(tiny("method=badam", "nonfinite=skip")))
    assert record.status == "finished"
    steps = record.measurements["steps"]
    assert steps["skipped"] == [None, None, True, None, None, None]
    assert steps["loss"][2] is None


def test_rollback_goes_back_to_the_checkpoint_and_on_with_other_data(tiny, poisoned):
    seen = poisoned(4)
    record = execute(Run(tiny("method=badam", "nonfinite=rollback", "checkpoint.every=2")))
    assert record.status == "finished"
    assert record.measurements["rollbacks"] == [3]
    assert len(record.measurements["steps"]["loss"]) == 6
    assert seen == [1, 2, 3, 4, 5, 6, 7, 8], "after batch 4 the run is at step 2 again and goes on with batch 5"


def test_rollbacks_that_do_not_help_end_the_run(tiny, poisoned):
    poisoned(*range(1, 100))
    record = execute(Run(tiny("method=badam", "nonfinite=rollback")))
    assert f"the loss is nan at step 0, also after {ROLLBACKS} rollbacks" in record.error


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


def test_the_command_ends_an_interrupted_run_with_its_code(tiny, monkeypatch, capsys):
    def interrupted(config):
        raise Interrupted(signal.SIGTERM)

    monkeypatch.setattr(train, "run_single", interrupted)
    with pytest.raises(SystemExit) as stopped:
        train.main.__wrapped__(tiny("method=badam").config)
    assert stopped.value.code == 75
    assert "interrupted by SIGTERM" in capsys.readouterr().err


# --- exports ---


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", [*METHODS, *STATEFUL])
def test_an_export_evaluates_to_the_recorded_loss(method, dtype, tiny):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    planned = tiny(f"method={method}", f"dtype={dtype}")
    record = execute(Run(planned))
    assert record.status == "finished", record.error
    folder = record.measurements["export"]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    dataset = planned.workload.data.load(tokenizer)
    found = configuration.build(planned.config.evaluation)(model, tokenizer, dataset.heldout, "again")
    merged = "lora" in method  # merging rounds W + BA once more
    tolerance = 0 if not merged else 1e-5 if dtype == "float32" else 2e-2
    assert found["heldout_loss"] == pytest.approx(record.measurements["after"]["heldout_loss"], rel=tolerance, abs=0)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight, "the head stays tied"
