"""Numbers that are not finite: stop, skip, rollback."""

import pytest

from experiments.training.loop import ROLLBACKS
from experiments.training.run import Run
from experiments.training.running import execute
from experiments.workloads.finetuning import FinetuningTask


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
