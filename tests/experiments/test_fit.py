"""What fits a card: predictions against the measured runs, the printed command, and what is refused."""

import shlex

import pytest
import torch
from hydra import initialize_config_dir

from bcd.partitions import find_layers
from experiments import train
from experiments.cost.case import GB, skeleton
from experiments.cost.fitting import Fit, arithmetic, best, foretell, held, largest_batch, rate
from experiments.errors import UserError
from experiments.fit import Asked, composed, model_overrides, training
from records import COMMITTED, read
from tests.commands import run_module
from tests.conftest import ROOT

LLAMA = ("model=llama3_8b",)


@pytest.fixture
def conf():
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield


def small(layers):
    """Llama 3-8B with fewer layers, as `bcd fit` would see it."""
    return Asked((*LLAMA, f"layers={layers}", "model.architecture.vocab_size=1000"), 24, 1024)


@pytest.mark.integration
def test_the_largest_batch_is_about_that_of_predicting_each(conf):
    asked = small(1)
    of = {b: foretell(composed(asked, "badam_exact", b, "0"))[0].phases for b in (4, 8, 11)}
    two, card = {4: of[4], 8: of[8]}, of[11].peak / GB + 1.0
    assert largest_batch(two, card, 1.0) in (11, 12), "nearly a line"
    assert largest_batch(two, of[8].peak / GB + 1.0 + 1e-6, 1.0) == 8
    assert largest_batch(two, of[8].peak / GB + 1.0 - 1e-3, 1.0) == 7
    assert largest_batch(two, of[4].update / GB, 1.0) == 0


@pytest.mark.integration
def test_what_is_held_is_less_than_what_a_step_needs(conf):
    for method in ("lora", "adamw"):
        one = composed(small(1), method, 1, "0")
        assert held(one) < foretell(one)[0].phases.peak, method


@pytest.mark.integration
def test_layers_that_keep_nothing_run_once_more(conf):
    asked = small(4)
    chosen = composed(asked, "adamw", 1, "0")
    (_, layers) = find_layers(skeleton(chosen))
    layer = sum(p.numel() for p in layers[0].parameters() if p.ndim > 1)
    once = 2 * 1024 * (layer + 1024 * 4096)
    base = arithmetic(chosen, 4)
    assert arithmetic(chosen, 1) - base == pytest.approx(3 * once)
    visits = composed(asked, "badam_exact", 1, "0")
    # Visits of layers 3, 2, 1, 0 have 1, 2, 3 and 4 layers from theirs upwards.
    assert arithmetic(visits, 2) - arithmetic(visits, 4) == pytest.approx((1 + 2) / 4 * once)


def test_the_rate_is_that_of_the_nearest_measured_run():
    assert rate("badam_exact", 24).source == "NVIDIA H100 80GB HBM3, results/cost.jsonl badam-keep-2048"
    measured = read("cost", "badam-keep-2048", COMMITTED).measurements
    assert rate("badam_exact", 80).flops == pytest.approx(measured["flops"] / measured["seconds"]["step"], rel=0.01)
    assert rate("badam_exact", 141).source.startswith("NVIDIA H200, results/cost_h200.jsonl")
    assert "lora-options-without_tf32-8192" in rate("lora", 24).source
    assert rate("sgd", 24).source.endswith("(sgd was not measured)")
    assert Asked(LLAMA, 24, 1024, tflops=100).rate("lora").flops == 1e14


def test_a_model_is_a_name_a_folder_or_a_hub_name_that_conf_knows(checkpoint):
    assert model_overrides("llama3_8b") == LLAMA
    assert model_overrides("meta-llama/Meta-Llama-3-8B-Instruct") == LLAMA
    assert model_overrides("meta-llama/Meta-Llama-3-8B") == (*LLAMA, "model.path=meta-llama/Meta-Llama-3-8B")
    assert model_overrides(str(checkpoint)) == ("model=pretrained", f"model.path={checkpoint}")
    with pytest.raises(UserError, match=r"MODEL=a/b is no folder .* it has llama3_70b, llama3_8b, .*hf download a/b"):
        model_overrides("a/b")


@pytest.mark.parametrize(
    ("batch", "whole", "parts"), [(None, 8, 4), (6, 6, 3), (1, 1, 1)], ids=["eight", "asked", "one"]
)
def test_a_batch_is_cut_into_what_fits(batch, whole, parts):
    size = 1 if batch == 1 else 2
    found = Fit("badam_exact", "cheap", size, 1024, 0, 14, 17, 1.0)
    words = shlex.split(training(Asked(LLAMA, 24, 1024, batch), found))
    assert f"batch_size={whole}" in words
    assert f"accumulation={parts}" in words
    assert "data=alpaca" in words


def test_words_of_training_take_the_place_of_what_would_be_printed():
    found = Fit("variant/above_sign_twin", "cheap", 2, 1024, 0, 14, 17, 1.0)
    words = shlex.split(training(Asked(LLAMA, 24, 1024), found, ["data=gsm8k", "dtype=float32", "steps=5"]))
    assert words[-3:] == ["data=gsm8k", "dtype=float32", "steps=5"]
    assert sum(word.startswith(("data=", "dtype=")) for word in words) == 2
    assert "method.master=discard" in words


def test_the_fastest_of_those_that_fit_is_best():
    slow, fast = (Fit(name, "cheap", 2, 8, 0, 2, 0, s) for name, s in (("slow", 2.0), ("fast", 1.0)))
    none = Fit("none", "cheap", 0, 8, 0, 0, 0, 0.0)
    assert best([slow, none, fast]) is fast
    assert best([none]) is None


@pytest.mark.integration
def test_the_printed_command_trains(checkpoint, tmp_path, command):
    below = [f"records_dir={tmp_path}/records", f"checkpoint.folder={tmp_path}/checkpoints"]
    few = ["data=reasoning_gym", "data.train_size=16", "data.heldout_size=4", "steps=2", "device=cpu"]
    words = [*few, "execution.backend=eager", *below]
    only = ["--methods", "badam_exact"]
    done = run_module(
        "experiments.fit", str(checkpoint), "--card", "2", "--length", "256", "--batch", "4", *only, *words
    )
    assert done.returncode == 0, done.stderr
    head, *_ = done.stdout.splitlines()
    assert head.startswith(f"model=pretrained model.path={checkpoint} in bfloat16 on a card of 2 GB")
    line = done.stdout.rstrip().splitlines()[-1]
    program, *typed = shlex.split(line)
    assert (program, typed[:2]) == ("python", ["-m", "experiments.train"])
    before = torch.get_float32_matmul_precision()
    trained = command(train.main, *typed[2:])
    assert trained.returncode == 0, trained.stderr
    assert "held-out loss" in trained.stdout
    assert torch.get_float32_matmul_precision() == before


@pytest.mark.integration
def test_a_card_that_is_too_small_ends_with_1_and_says_what_is_needed(checkpoint):
    done = run_module("experiments.fit", str(checkpoint), "--card", "0.9", "--length", "64", "--methods", "adamw")
    assert done.returncode == 1
    assert done.stdout.rstrip().splitlines()[-1] == "nothing fits; adamw needs least: --card 2"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a/b", "--card", "24"], "MODEL=a/b is no folder"),
        (["vision_transformer", "--card", "24"], "MODEL=vision_transformer is no folder"),
        (["pretrained", "--card", "24"], "MODEL=pretrained is no folder"),
        (["llama3_8b", "--card", "0"], "card=0.0 is not possible"),
        (["llama3_8b", "--card", "24", "--length", "1"], "length=1 is not possible"),
        (["llama3_8b", "--card", "24", "--tflops", "-5"], "tflops=-5.0 is not possible"),
        (["llama3_8b", "--card", "24", "--batch", "0"], "batch=0 is not possible"),
        (["llama3_8b", "--card", "24", "--methods", "badm"], "--methods badm is not one of adalomo"),
        (["llama3_8b", "--card", "24", "steps"], "steps is no option=value"),
    ],
)
def test_bad_input_is_one_line(arguments, message):
    done = run_module("experiments.fit", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
