"""A run under way: what it starts from, its own evaluations and dropout, and failures that are records."""

import json
import re
import shutil

import pytest
import torch

from experiments.training import running
from experiments.training.loading import Loading, copied
from experiments.training.run import Run
from experiments.training.running import execute
from experiments.workloads.language import Evaluation
from tests.experiments.conftest import measured


def test_lora_starts_as_the_untrained_model(tiny):
    lora = execute(Run(tiny("method=lora", "steps=1", "method.lr=0")))
    before, after = lora.measurements["before"], lora.measurements["after"]
    assert after["heldout_loss"] == pytest.approx(before["heldout_loss"], rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["1.0", "null"])
def test_lomo_trains_as_sgd_and_knows_the_gradient_norm_only_when_it_clips(norm, trained):
    (_, lomo), (_, sgd) = (trained(name, f"max_grad_norm={norm}") for name in ("lomo", "sgd"))
    ours, plain = lomo.measurements["steps"], sgd.measurements["steps"]
    assert ours["loss"] == pytest.approx(plain["loss"], rel=1e-5)
    assert ours.get("grad_norm") == (None if norm == "null" else pytest.approx(plain["grad_norm"], rel=1e-4))
    assert lomo.measurements["measured_bytes"]["gradients"] < sgd.measurements["measured_bytes"]["gradients"]


def test_the_evaluation_before_training_is_of_its_own_data(tiny):
    running._evaluations.clear()
    first = execute(Run(tiny("data.system=Add.")))
    second = execute(Run(tiny("data.system=Subtract.")))
    assert first.measurements["before"]["heldout_loss"] != second.measurements["before"]["heldout_loss"]


def test_dropout_is_seeded_by_the_run(checkpoint, tiny, tmp_path):
    folder = tmp_path / "with_dropout"
    shutil.copytree(checkpoint, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"attention_dropout": 0.5}))
    first = execute(Run(tiny(f"model.path={folder}", "method=sgd"), "first"))
    torch.rand(1)  # the global generator's state is none of the run's business
    again = execute(Run(tiny(f"model.path={folder}", "method=sgd"), "again"))
    plain = execute(Run(tiny("method=sgd"), "plain"))
    assert measured(first) == measured(again)
    assert first.measurements["steps"]["loss"] != plain.measurements["steps"]["loss"]


def test_a_failing_run_is_a_record(tiny):
    planned = tiny("method=sgd", "method.lr=1e30", "max_grad_norm=null", "steps=6")
    record = execute(Run(planned))
    assert record.status == "failed"
    assert re.match(
        r"FloatingPointError: the (loss|gradient norm) is (nan|inf) at step \d; try a smaller method.lr", record.error
    )
    assert record.measurements["steps"], "what was measured before the failure is kept"
    assert Run(planned).finished is None


def test_a_run_that_ends_in_nothing_finite_is_a_failed_record(tiny, monkeypatch):
    real = Evaluation.__call__

    def broken(self, model, tokenizer, examples, label):
        found = real(self, model, tokenizer, examples, label)
        return found | {"heldout_loss": float("nan")} if label == "evaluate after" else found

    monkeypatch.setattr(Evaluation, "__call__", broken)
    record = execute(Run(tiny("method=sgd")))
    assert record.error.startswith("FloatingPointError: the held-out loss after training is nan")
    assert len(record.measurements["steps"]["loss"]) == 6


def test_examples_are_never_truncated(tiny):
    planned = tiny("data.max_tokens=40")
    record = execute(Run(planned))
    assert re.search(r"a question of \d+ tokens exceeds data.max_tokens=40", record.error)


def test_a_kept_model_is_copied_with_what_is_tied_and_shares_nothing(tiny):
    planned, loading = tiny("method=adamw"), Loading(keep=True)
    first, tokenizer = loading.model(planned)
    before = {name: p.detach().clone() for name, p in first.named_parameters()}
    assert first.get_input_embeddings().weight is first.get_output_embeddings().weight
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(1)
    second, _ = loading.model(planned)
    assert all(torch.equal(p, before[name]) for name, p in second.named_parameters())
    assert second.training
    assert loading.data(planned, tokenizer) is loading.data(planned, tokenizer)
    assert copied(second, torch.device("cpu")).config is not second.config
