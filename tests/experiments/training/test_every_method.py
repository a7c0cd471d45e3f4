"""Every method: its record, its seed, its resumption and its export, of one run each."""

import shutil
from pathlib import Path

import pytest
import torch

from experiments import configuration
from experiments.interruption import Interrupted
from experiments.training.run import Run
from experiments.training.running import execute
from records import load
from tests.cover import tiered
from tests.experiments.conftest import KINDS, METHODS, measured, terminate

AVERAGES = [f"variant/badam_average_{what}" for what in ("steps", "visits")]
STATEFUL = [*METHODS, *AVERAGES, "variant/hift"]
EACH = [
    pytest.param(method, dtype, marks=() if method in kinds else pytest.mark.slow)
    for dtype, kinds in (("float32", KINDS), ("bfloat16", ["badam"]))
    for method in STATEFUL
]


def weights(record):
    return {path.name: path.read_bytes() for path in Path(record.measurements["export"]).glob("*.safetensors")}


@pytest.mark.parametrize(("method", "dtype"), EACH)
def test_it_trains_and_leaves_a_record(method, dtype, trained):
    plan, record = trained(method, f"dtype={dtype}")
    numbers = record.measurements
    assert len(numbers["steps"]["loss"]) == 6
    assert numbers["before"]["items"] == numbers["after"]["items"] == 4
    assert numbers["after"]["heldout_loss"] != numbers["before"]["heldout_loss"]
    if plan.config.method.get("state") != "host":  # measured counts what is kept on the host too
        assert numbers["measured_bytes"] == numbers["predicted_bytes"]
    assert load(Run(plan, "trained").path) == record
    assert record.config["choices"]["method"] == method
    assert record.provenance["versions"]["torch"].startswith("2.")


@pytest.mark.parametrize("method", tiered(METHODS, ["badam", "lora"]))
def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(method, trained, tiny):
    _, first = trained(method, "dtype=float32")
    again, other = (execute(Run(tiny(f"method={method}", f"seed={seed}"))) for seed in (0, 1))
    assert measured(first) == measured(again)
    assert measured(first) != measured(other)


@pytest.mark.usefixtures("global_generator_untouched")
@pytest.mark.parametrize("method", tiered(STATEFUL, [*KINDS, AVERAGES[0]]))
def test_a_preempted_run_goes_on_to_the_same_bits(method, trained, at_step, tmp_path):
    plan, whole = trained(method, "dtype=float32")
    cut = Run(plan, f"cut-{tmp_path.name}")
    at_step(3, terminate)
    with pytest.raises(Interrupted) as stopped:
        execute(cut)
    assert stopped.value.code == 75
    record = load(cut.path)
    assert record.status == "interrupted"
    assert len(record.measurements["steps"]["loss"]) == 3
    assert cut.finished is None
    resumed = execute(cut)
    assert resumed.provenance["resumed_after_step"] == 3
    assert measured(resumed) == measured(whole)
    assert weights(resumed) == weights(whole)
    assert not list(cut.checkpoints.folder.rglob("*.pt")), "a finished run keeps no checkpoint"
    shutil.rmtree(resumed.measurements["export"])


@pytest.mark.parametrize(("method", "dtype"), EACH)
def test_an_export_evaluates_to_the_recorded_loss(method, dtype, trained):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    plan, record = trained(method, f"dtype={dtype}")
    folder = record.measurements["export"]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    dataset = plan.workload.data.load(tokenizer)
    metrics = configuration.build(plan.config.evaluation)(model, tokenizer, dataset.heldout, "again")
    merged = "lora" in method  # merging rounds W + BA once more
    tolerance = 0 if not merged else 1e-5 if dtype == "float32" else 2e-2
    assert metrics["heldout_loss"] == pytest.approx(record.measurements["after"]["heldout_loss"], rel=tolerance, abs=0)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight, "the head stays tied"
