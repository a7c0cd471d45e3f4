"""Numbers that are not finite: stop, skip, rollback."""

import shutil

import pytest
from safetensors.torch import load_file, save_file

from experiments.evaluate import __main__ as evaluate
from experiments.interruption import Interrupted
from experiments.studies import runner
from experiments.training.loop import ROLLBACKS
from experiments.training.run import Run
from experiments.training.running import execute
from experiments.workloads.finetuning import FinetuningTask
from records import load
from tests.experiments.conftest import terminate


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


def test_a_run_that_was_rolled_back_and_preempted_goes_on_with_the_same_data(tiny, poisoned, at_step):
    seen = poisoned(4)
    run = Run(tiny("method=badam", "nonfinite=rollback", "checkpoint.every=2"))
    at_step(4, terminate)
    with pytest.raises(Interrupted):
        execute(run)
    assert execute(run).status == "finished"
    assert seen == [1, 2, 3, 4, 5, 6, 7, 8], "each batch once: after the rollback to step 2 batch 5 comes"


def test_rollbacks_that_do_not_help_end_the_run(tiny, poisoned):
    poisoned(*range(1, 100))
    record = execute(Run(tiny("method=badam", "nonfinite=rollback")))
    assert f"the loss is nan at step 0, also after {ROLLBACKS} rollbacks" in record.error


@pytest.fixture
def broken(checkpoint, tmp_path):
    """A folder with the tiny Llama, whose last norm is NaN."""
    folder = shutil.copytree(checkpoint, tmp_path / "broken")
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"].fill_(float("nan"))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("method", ["badam", "lora"])
@pytest.mark.parametrize("nonfinite", ["stop", "skip"])
def test_a_loss_that_is_not_finite_before_training_is_a_failed_record(method, nonfinite, broken, tiny):
    run = Run(tiny(f"method={method}", f"model.path={broken}", f"nonfinite={nonfinite}"))
    record = execute(run)
    assert record.status == "failed"
    assert "the held-out loss before training is nan: the weights or the data are broken" in record.error
    read = load(run.path)
    assert read.measurements["before"]["heldout_loss"] is None
    assert read.measurements["not_finite"] == ["before.heldout_loss"]


def test_every_run_of_a_study_leaves_a_record_of_it(broken, entries):
    runs = entries("small", {"method": ["sgd", "badam"]}, f"model.path={broken}")
    assert [record.status for record in runner.execute(runs, "small")] == ["failed", "failed"]
    assert [run.state for run in runs] == ["failed", "failed"]


def test_a_point_of_the_curve_that_is_not_finite_is_null_and_the_run_finishes(tiny, monkeypatch):
    real = FinetuningTask.evaluate

    def overflows_once(self, model, label):
        return real(self, model, label) | ({"heldout_loss": float("inf")} if label == "evaluate" else {})

    monkeypatch.setattr(FinetuningTask, "evaluate", overflows_once)
    run = Run(tiny("method=badam", "evaluate_every=4"))
    assert execute(run).status == "finished"
    measured = load(run.path).measurements
    assert [point["heldout_loss"] for point in measured["curve"]][1:-1] == [None]
    assert measured["not_finite"] == ["curve.1.heldout_loss"]


def test_an_evaluation_that_is_not_finite_is_a_failed_part_and_the_others_go_on(broken, tmp_path, command):
    given = [f"path={broken}", "device=cpu", f"records_dir={tmp_path}", "parts=[heldout]", "name=broken"]
    done = command(evaluate.main, *given, "data.heldout_size=2", "data.max_tokens=512", "evaluation.max_new_tokens=2")
    assert done.returncode == 1, done.stderr
    assert "broken-heldout: FAILED, not finite: loss.value" in done.stdout
