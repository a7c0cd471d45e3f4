"""Early stopping: when a run ends, and that its weights are bitwise those of the lowest held-out loss."""

from pathlib import Path

import pytest
from safetensors.torch import load_file

from experiments.errors import UserError
from experiments.interruption import Interrupted
from experiments.training import running
from experiments.training.run import Run
from experiments.training.running import execute
from experiments.workloads.finetuning import FinetuningTask
from tests.experiments.conftest import terminate

LOSSES = {2: 5.0, 4: 4.0, 6: 4.5, 8: 3.95, 10: 6.0, 12: 3.0}


@pytest.fixture
def scripted(monkeypatch):
    """Held-out losses by step, in place of measured ones; `evaluate after` gives 0."""
    steps = iter(())

    def start(first=2):
        nonlocal steps
        steps = iter(range(first, 100, 2))

    def evaluate(self, model, label):
        loss = LOSSES[next(steps)] if label == "evaluate" else 9.0
        return {"heldout_loss": loss, "items": 1}

    monkeypatch.setattr(FinetuningTask, "evaluate", evaluate)
    monkeypatch.setattr(running, "_evaluations", {})  # no other test gets the loss before training
    return start


def weights(record):
    return load_file(Path(record.measurements["export"]) / "model.safetensors")


def early(tiny, tmp_path, *options, method="badam"):
    given = ["evaluate_every=2", "evaluation=loss", "schedule=constant", f"export={tmp_path}/exports"]
    return Run(tiny(f"method={method}", *given, *options))


EARLY = ["steps=12", "stop_early={patience: 2, at_least: 0.1}"]


@pytest.mark.integration
@pytest.mark.parametrize("method", ["badam", "adamw", "lora", "schedule_free"])
def test_the_weights_are_those_of_the_lowest_loss(method, tiny, tmp_path, scripted, capsys):
    scripted()
    record = execute(early(tiny, tmp_path, *EARLY, method=method))
    assert record.status == "finished", record.error
    about = {"patience": 2, "at_least": 0.1, "step": 4, "heldout_loss": 4.0, "stopped": 8}
    assert record.measurements["stop_early"] == about, "3.95 at step 8 is not lower by more than 0.1"
    assert [point["heldout_loss"] for point in record.measurements["curve"]] == [9.0, 5.0, 4.0, 4.5, 3.95]
    assert len(record.measurements["steps"]["loss"]) == 8
    assert (
        "stopped after step 8 of 12; the weights are those of step 4, held-out loss 4.0000" in capsys.readouterr().err
    )
    scripted()
    short = execute(early(tiny, tmp_path, "steps=4", method=method))
    found, expected = weights(record), weights(short)
    assert all(found[name].equal(expected[name]) for name in expected)


@pytest.mark.integration
def test_a_run_that_goes_on_keeps_the_best_weights(tiny, tmp_path, scripted, at_step):
    scripted()
    whole = weights(execute(early(tiny, tmp_path, *EARLY)))
    at_step(7, terminate)
    run = early(tiny, tmp_path, *EARLY, f"checkpoint.folder={tmp_path}/again", f"records_dir={tmp_path}/again")
    scripted()
    with pytest.raises(Interrupted):
        execute(run)
    scripted(8)
    record = execute(run)
    assert record.provenance["resumed_after_step"] == 7
    assert record.measurements["stop_early"]["step"] == 4
    found = weights(record)
    assert all(found[name].equal(whole[name]) for name in whole)


@pytest.mark.integration
def test_the_last_step_counts_too(tiny, tmp_path, scripted):
    scripted()
    record = execute(early(tiny, tmp_path, "steps=12", "stop_early={patience: 5}"))
    assert record.status == "finished", record.error
    assert record.measurements["stop_early"]["step"] == 12
    assert record.measurements["stop_early"]["stopped"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["stop_early=3"], r"stop_early=3 is not possible: give \{patience: 3\}"),
        (["stop_early={patience: 0}", "evaluate_every=2"], r"stop_early\.patience=0 is not possible"),
        (["stop_early={patience: 1, at_least: -1}", "evaluate_every=2"], r"stop_early\.at_least=-1 is not possible"),
        (["stop_early={patience: 1}"], "every evaluate_every=STEPS; give it"),
        (["stop_early={patience: 1}", "evaluate_every=2", "nonfinite=rollback"], "nonfinite=rollback is not possible"),
        (
            ["stop_early={patience: 1}", "evaluate_every=2", "target={metric: heldout_loss, at_most: 1}"],
            "stop_early and target are two ends",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(options, message, tiny):
    with pytest.raises(ValueError, match=message):
        tiny(*options)
    assert issubclass(UserError, ValueError)
