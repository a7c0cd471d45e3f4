"""The second workload: no language model, through the same loop, records and studies, with every method."""

from pathlib import Path

import pytest
import torch
from hydra import initialize_config_dir

from experiments import configuration
from experiments.errors import UserError
from experiments.studies import study
from experiments.training import course, planning
from experiments.training.run import Run
from experiments.training.running import execute
from experiments.workloads.images import Accuracy, Digits, Images, RandomVisionTransformer
from tests.cover import tiered
from tests.experiments.conftest import KINDS, METHODS

ROOT = Path(__file__).resolve().parents[3]
VARIANTS = sorted(f"variant/{path.stem}" for path in (ROOT / "conf" / "method" / "variant").glob("*.yaml"))
SMALL = {"image_size": 8, "patch_size": 4, "hidden_size": 8, "intermediate_size": 16}
SMALL |= {"num_hidden_layers": 5, "num_attention_heads": 2, "num_labels": 10}


@pytest.fixture
def digits(tmp_path):
    """digits(*overrides): a plan of the workload on the CPU; records and checkpoints go to the test's folder."""
    places = [f"records_dir={tmp_path}", f"checkpoint.folder={tmp_path}/checkpoints", "device=cpu"]

    def make(*overrides):
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            return planning.plan(*study.compose(["workload=digits", *places, *overrides]))

    return make


TINY = [f"model.architecture={{{','.join(f'{k}:{v}' for k, v in SMALL.items())}}}", "steps=4", "batch_size=8"]


@pytest.mark.parametrize("method", tiered([*METHODS, *VARIANTS], KINDS))
def test_every_method_trains_it(digits, method):
    moves_inside = method.removeprefix("variant/").removesuffix("_exact") in (
        "lomo",
        "sign",
        "row_normalised",
        "factored",
    )
    clipping = "max_grad_norm=null" if moves_inside else "max_grad_norm=1.0"
    few = ["partition.parts=4"] if method in ("variant/rows16", "variant/rows30") else []  # a tensor has 16 rows
    plan = digits(f"method={method}", clipping, *few, *TINY)
    record = execute(Run(plan))
    assert record.status == "finished", record.error
    assert record.measurements["before"]["items"] == record.measurements["after"]["items"] == 300
    predicted, measured = record.measurements["predicted_bytes"], record.measurements["measured_bytes"]
    # Predicted is the peak over all visits on the device; measured counts what is kept on the host too.
    on_host = "host" in (plan.config.method.get("state"), plan.config.method.get("master"))
    compared = ["weights", "gradients"] if on_host else list(predicted)
    assert all(measured[what] <= predicted[what] for what in compared)
    assert record.measurements["after"]["heldout_loss"] != record.measurements["before"]["heldout_loss"]


@pytest.mark.integration
def test_a_run_ends_at_its_target_and_says_when(digits):
    target = "target={metric: accuracy, at_least: 0.5}"
    given = ("method=adamw", "method.lr=3e-3", "schedule=constant", "steps=300", "batch_size=64", "evaluate_every=5")
    record = execute(Run(digits(*given, target)))
    assert record.status == "finished", record.error
    reached, steps = record.measurements["target"], len(record.measurements["steps"]["loss"])
    assert reached["reached"]
    assert reached["step"] == steps < 300
    assert 0 < reached["seconds"] < record.measurements["seconds"]
    curve = record.measurements["curve"]
    assert [point["step"] for point in curve] == list(range(0, steps + 1, 5))
    assert [point["images"] for point in curve] == [64 * point["step"] for point in curve]
    assert all(point["accuracy"] < 0.5 for point in curve[:-1])
    assert curve[-1]["accuracy"] == record.measurements["after"]["accuracy"] >= 0.5


def test_a_budget_ends_a_run_unreached(digits):
    target = "target={metric: accuracy, at_least: 2.0, budget: 0.0}"
    record = execute(Run(digits("method=sgd", target, "evaluate_every=2", *TINY)))
    assert record.measurements["target"]["reached"] is False
    assert "loss" not in record.measurements["steps"], "no step fits the budget"


def test_a_budget_is_of_the_seconds_of_training_steps(digits, monkeypatch):
    monkeypatch.setattr(course, "seconds", lambda training: float(training.steps))
    target = "target={metric: accuracy, at_least: 2.0, budget: 3.0}"
    record = execute(Run(digits("method=sgd", target, "evaluate_every=2", "steps=6")))
    assert len(record.measurements["steps"]["loss"]) == 3
    assert not record.measurements["target"]["reached"]


def test_without_a_target_the_record_has_none(digits):
    assert "target" not in execute(Run(digits("method=sgd", *TINY))).measurements


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["target={metric: accuracy, at_least: 1}"], "is looked for every evaluate_every=STEPS"),
        (["execution.loss=chunked"], "execution.loss=chunked is not possible: it is of language models; give plain"),
        (["data.heldout_size=0"], "data.heldout_size=0 is not possible"),
        (["data.heldout_size=1600"], "leave none of 1797 images"),
        (["evaluation.batch_size=0"], "evaluation.batch_size=0 is not possible"),
        (["model.architecture.patch_size=3"], "patch_size=3 is not possible: it must divide 8"),
        (["batch_size=2000"], "batch_size=2000 exceeds data.train_size=1197"),
    ],
)
def test_what_is_not_possible_is_told_before_anything_is_computed(digits, overrides, message):
    with pytest.raises(ValueError, match=message):
        _ = digits("method=badam", *overrides).expected


def test_the_parts_are_disjoint_and_the_same_for_every_run():
    data = Digits(heldout_size=300, test_size=300, test=False, split_seed=0)
    parts = data.load(None)
    sizes = [len(part.labels) for part in (parts.train, parts.heldout, parts.test)]
    assert sizes == [1197, 300, 300]
    assert data.fingerprint() == Digits(300, 300, False, 0).fingerprint()
    assert data.fingerprint() != Digits(300, 300, False, 1).fingerprint()
    every = torch.cat([part.pixels.flatten(1) for part in (parts.train, parts.heldout, parts.test)])
    shipped = torch.cat([part.pixels.flatten(1) for part in vars(Digits(1, 1, False, 3).load(None)).values()])
    assert torch.equal(torch.unique(every, dim=0), torch.unique(shipped, dim=0))
    assert len(every) == len(shipped) == 1797


def test_batches_go_through_every_image_once_an_epoch_and_skip_exactly(digits):
    plan = digits("method=sgd", "batch_size=100")
    task = plan.workload.task(None, plan.workload.data.load(None), plan.setting)
    stream = task.batches(0)
    first = [next(stream) for _ in range(11)]
    seen = {tuple(image.flatten().tolist()) for batch in first for image in batch.pixels}
    assert len(seen) == 1100
    later = next(task.batches(5))
    assert torch.equal(later.pixels, first[5].pixels)
    assert not torch.equal(first[0].pixels, next(task.batches(11)).pixels)


def test_metrics_are_those_of_the_definition():
    model, _ = RandomVisionTransformer(SMALL, seed=0).load(torch.float64)
    images = Digits(300, 300, False, 0).load(None).heldout
    metrics = Accuracy(batch_size=77)(model, images)
    with torch.no_grad():
        logits = model(images.pixels)
    expected = torch.nn.functional.cross_entropy(logits, images.labels).item()
    assert metrics["heldout_loss"] == pytest.approx(expected, rel=1e-12)
    assert metrics["accuracy"] == (logits.argmax(1) == images.labels).double().mean().item()


def test_accumulated_gradients_are_those_of_the_whole_batch(digits):
    records = [execute(Run(digits("method=sgd", "dtype=float64", f"accumulation={n}", *TINY))) for n in (1, 4)]
    whole, cut = (record.measurements["steps"]["loss"] for record in records)
    assert cut == pytest.approx(whole, rel=1e-5)
    with pytest.raises(ValueError, match="8 images cannot be divided into 3 parts"):
        Images(torch.zeros(8, 2, 2), torch.zeros(8)).parts(3)


def test_the_test_part_is_read_once_and_an_export_evaluates_to_the_record(digits, tmp_path):
    from safetensors.torch import load_file

    plan = digits("method=badam", "data.test=true", f"export={tmp_path}/models", *TINY)
    record = execute(Run(plan))
    assert record.measurements["test"]["items"] == 300
    assert record.provenance["test_rows"]
    model = configuration.build(plan.config.model).load(torch.float32)[0]
    model.load_state_dict(load_file(Path(record.measurements["export"]) / "model.safetensors"))
    metrics = Accuracy(batch_size=300)(model, plan.workload.data.load(None).heldout)
    assert metrics == record.measurements["after"]


def test_a_tuning_seed_never_sees_the_test_part(digits):
    with pytest.raises(UserError, match=r"data\.test=true"):
        digits("method=badam", "data.test=true", "seed=1000")
