"""The predicted memory against live tensors, and the command that prints it."""

import contextlib
import itertools
from functools import partial
from pathlib import Path

import pytest
import torch
from hydra import initialize_config_dir
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import LlamaConfig, LlamaForCausalLM

from bcd import (
    Adam,
    BlockCoordinateDescent,
    Cyclic,
    Expansion,
    Factored,
    Fixed,
    RowNormalised,
    Sign,
    by_layer,
    by_matrix,
    by_ratio,
)
from bcd.execution import Execution
from bcd.integrations import checkpoint_active_layers
from bcd.memory import measured_held
from bcd.memory.activations import LivePeak
from experiments.cost import case, show
from experiments.cost.predict import activations, candidates, fake_parameters, predict, without_mask
from experiments.cost.show import fits
from experiments.errors import UserError
from experiments.methods import BlockMethod
from experiments.methods.fused_backward import AdaLOMOMethod, LOMOMethod
from experiments.profile import compose
from tests.commands import run_module
from tests.cover import crossed, tiered
from tests.experiments.conftest import KINDS

ROOT = Path(__file__).resolve().parent.parent.parent
METHODS = sorted(path.stem for path in (ROOT / "conf" / "method").glob("*.yaml"))
BATCH, SEQUENCE, LAYERS = 2, 48, 3


def llama(tied=False, dtype=torch.float32, vocabulary=320):
    """A small Llama with random weights; wide enough that no single tensor decides."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LlamaForCausalLM(config).to(dtype).train()


def meta_llama(*arguments, **options):
    with torch.device("meta"):
        return llama(*arguments, **options)


def activate(model, active):
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(active in name)


ACTIVE = ["layers.0.", f"layers.{LAYERS // 2}.", f"layers.{LAYERS - 1}.", "embed_tokens", "norm", "q_proj"]


@crossed(active=ACTIVE, tied=[False, True], recompute=[False, True], dtype=[torch.float32, torch.bfloat16])
def test_activations_are_those_of_the_real_model(active, tied, recompute, dtype):
    real, fake = llama(tied, dtype), meta_llama(tied, dtype)
    without_mask(fake)  # the real model finds out by itself that it needs none
    found = []
    for model, mode in ((real, contextlib.nullcontext()), (fake, FakeTensorMode())):
        if recompute:
            checkpoint_active_layers(model)
        with mode:
            if model is fake:
                fake_parameters(model)
            activate(model, active)
            found.append(activations(model, torch.zeros(BATCH, SEQUENCE, dtype=torch.long)))
    for predicted, measured in zip(found[1], found[0], strict=True):
        assert predicted == pytest.approx(measured, rel=0.05)


def test_only_layers_from_the_active_one_upwards_hold_a_graph():
    model = llama()
    tokens = torch.zeros(BATCH, SEQUENCE, dtype=torch.long)
    held = []
    for i in range(LAYERS):
        activate(model, f"layers.{i}.")
        held.append(activations(model, tokens)[0])
    steps = [a - b for a, b in itertools.pairwise(held)]
    assert len(set(steps)) == 1, "one frozen layer's graph each"
    assert steps[0] > 0.1 * held[0]
    checkpoint_active_layers(model)
    recomputed = []
    for i in range(LAYERS):
        activate(model, f"layers.{i}.")
        recomputed.append(activations(model, tokens)[0])
    hidden = 4 * BATCH * SEQUENCE * 64
    assert [a - b for a, b in itertools.pairwise(recomputed)] == [hidden] * (LAYERS - 1)


def method(partition, **options):
    given = {"rule": Adam(), "order": Cyclic(), "inner_steps": 3, "lr": 1e-3} | options
    return BlockMethod(partition=partition, **given)


class Checkpointed(Execution):
    """Checkpointing that leaves the layers below the active one alone."""

    def __call__(self, model, optimizer=None, *, check=True):
        checkpoint_active_layers(model)
        return lambda: None


def plain(recompute):
    return Checkpointed() if recompute else Execution()


FROZEN = {"embedding": "freeze", "final_norm": "freeze", "head": "freeze"}


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("master", ["off", "discard"])
@pytest.mark.parametrize(
    "partition",
    [
        pytest.param(by_layer, id="layer"),
        pytest.param(by_matrix, id="matrix", marks=pytest.mark.slow),
        pytest.param(partial(by_ratio, parts=3), id="ratio"),
    ],
)
def test_no_visit_of_a_real_run_needs_more_than_the_predicted_one(partition, master, recompute):
    """The whole step, in the categories and phases of the prediction, at every visit of one block epoch."""
    dtype = torch.bfloat16
    chosen = partial(partition, **FROZEN)
    options = {"master": master, "rule": Adam(foreach=False, fused=False)}
    sizes = {"batch": BATCH, "sequence": SEQUENCE}
    found = predict(meta_llama(dtype=dtype), method(chosen, **options), plain(recompute), **sizes)
    model = llama(dtype=dtype)
    trainable = method(chosen, **options)(model)
    optimizer = trainable.optimizer
    assert isinstance(optimizer, BlockCoordinateDescent)
    if recompute:
        checkpoint_active_layers(model)
    tokens = torch.zeros(BATCH, SEQUENCE, dtype=torch.long)
    backward, seen = [], []
    for _ in range(optimizer.num_blocks):
        for step in range(3):
            with LivePeak() as live:
                model(input_ids=tokens, labels=tokens, use_cache=False).loss.backward()
            if step == 1:  # neither the first step of a visit nor the one that switches
                now = measured_held(model.parameters(), optimizer)
                seen.append(now)
                backward.append(now.device - now.gradients + live.peak + found.scratch)
            optimizer.step()
            optimizer.zero_grad()
    assert max(backward) == pytest.approx(found.phases.backward, rel=0.01)
    assert seen[found.visit] == found.held


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", [LOMOMethod, AdaLOMOMethod])
def test_a_backward_that_moves_the_weights_takes_what_is_predicted(kind, dtype):
    """The vocabulary is so large that the update of the embedding needs more than the activations."""
    sizes = {"dtype": dtype, "vocabulary": 8000}
    found = predict(meta_llama(**sizes), kind(lr=1e-3), Execution(), batch=1, sequence=8)
    trainable = kind(lr=1e-3)(llama(**sizes))
    tokens = torch.zeros(1, 8, dtype=torch.long)
    with LivePeak() as live:
        trainable.backward(trainable.model(input_ids=tokens, labels=tokens, use_cache=False).loss)
        trainable.clipped(float("inf"))
        trainable.optimizer.step()
    assert found.phases.backward - found.held.device == pytest.approx(live.peak, rel=1e-3)


EXPANSIONS = {
    "factored in backward": Expansion(Factored(), ratio=0.1, when="backward"),
    "sign above, in backward": Expansion(Sign(), ratio=0.1, when="backward", reach="above"),
    "row-normalised": Expansion(RowNormalised(), ratio=0.1),
    "none": None,
}


def test_an_expansion_takes_what_is_predicted():
    """So few tokens that gradients are most of it."""
    chosen, sizes, peaks = partial(by_layer, **FROZEN), {"batch": 1, "sequence": 2}, {}
    for name, expansion in EXPANSIONS.items():
        found = predict(meta_llama(), method(chosen, expansion=expansion), plain(False), **sizes)
        model = llama()
        trainable = method(chosen, expansion=expansion, order=Fixed([1, 0]), inner_steps=2)(model)
        tokens = torch.zeros(1, 2, dtype=torch.long)
        for _ in range(4):
            with LivePeak() as live:
                model(input_ids=tokens, labels=tokens, use_cache=False).loss.backward()
            now = measured_held(model.parameters(), trainable.optimizer)
            trainable.optimizer.step()
            trainable.optimizer.zero_grad()
        assert found.visit == 0
        assert now == found.held
        assert now.device - now.gradients + live.peak == pytest.approx(found.phases.backward, rel=2e-3)
        peaks[name] = live.peak
    assert peaks["none"] <= peaks["sign above, in backward"] <= peaks["factored in backward"] < peaks["row-normalised"]


def test_sliced_gradients_take_what_is_predicted():
    chosen, sizes, peaks = partial(by_ratio, parts=4, **FROZEN), {"batch": 1, "sequence": 2}, []
    for gradients in ("whole", "sliced"):
        execution = Execution(row_gradients=gradients)
        found = predict(meta_llama(), method(chosen), execution, **sizes)
        model = llama()
        trainable = method(chosen, order=Fixed([0]))(model)
        execution(model, trainable.optimizer)
        tokens = torch.zeros(1, 2, dtype=torch.long)
        for _ in range(2):
            with LivePeak() as live:
                model(input_ids=tokens, labels=tokens, use_cache=False).loss.backward()
            now = measured_held(model.parameters(), trainable.optimizer)
            trainable.optimizer.step()
            trainable.optimizer.zero_grad()
        assert now == found.held
        assert now.device - now.gradients + live.peak == pytest.approx(found.phases.backward, rel=2e-3)
        peaks.append(now.gradients)
    assert peaks[1] < 0.3 * peaks[0]


def test_candidates_are_few_and_hold_the_lowest_layer():
    trainable = method(partial(by_layer, **FROZEN))(meta_llama())
    assert candidates(trainable) == [0]
    trainable = method(partial(by_matrix, **FROZEN))(meta_llama())
    assert candidates(trainable) == list(range(7)), "each matrix of the first layer"
    trainable = method(by_layer)(meta_llama())
    assert candidates(trainable) == [0, 1], "the embedding is the lowest, a layer has more weights"
    trainable = method(partial(by_ratio, parts=4))(meta_llama())
    assert len(candidates(trainable)) == 1


def test_an_order_that_asks_for_all_gradients_is_charged_for_them():
    from bcd import Greedy

    chosen = partial(by_layer, **FROZEN)
    sizes = {"batch": BATCH, "sequence": SEQUENCE}
    greedy = predict(meta_llama(), method(chosen, order=Greedy()), plain(False), **sizes)
    fixed = predict(meta_llama(), method(chosen, order=Fixed([0])), plain(False), **sizes)
    assert greedy.held.gradients == LAYERS * fixed.held.gradients
    assert greedy.phases.peak > fixed.phases.peak


TINY = ["model=smollm2_135m", "tokens=64", "sequence=32"]


def composed(*overrides):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose([*TINY, *overrides])


@pytest.mark.usefixtures("global_generator_untouched")
@pytest.mark.parametrize("name", tiered(METHODS, quick=KINDS))
def test_every_method_is_predicted(name):
    chosen = composed(f"method={name}", "model.architecture.num_hidden_layers=3")
    found = case.predicted(chosen)
    assert found.held.weights >= 2 * (49152 * 576 + 3 * 3_540_096 + 576)
    assert found.phases.peak > found.held.weights + found.held.state
    text = show.prediction(found, chosen)
    assert text.startswith(f"{name}: smollm2_135m, 0.03")
    assert f"{found.phases.peak / 1e9:.3f}" in text


@pytest.mark.integration
def test_llama_3_8b_by_hand():
    overrides = ["model=llama3_8b", "method=badam", "method.master=discard", "tokens=2048", "sequence=1024"]
    found = case.predicted(composed(*overrides))
    layer = 4096 * (4096 + 1024) * 2 + 3 * 4096 * 14336 + 2 * 4096
    assert found.weights_count == 2 * 128256 * 4096 + 32 * layer + 4096 == 8_030_261_248
    assert found.held.weights == 2 * found.weights_count
    assert found.held.master == found.held.gradients == 2 * layer
    assert found.held.state == 8 * layer + 4 * 9
    assert found.loss == pytest.approx(4 * 2048 * 128256, rel=1e-3), "the logarithms of the probabilities, float32"
    inputs = 32 * 2 * 2048 * 4096
    assert inputs < found.activations < 1.2 * inputs
    assert not fits(found.phases.peak, 16, 1.0)
    assert fits(found.phases.peak, 24, 1.0)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("device=tpu", "device='tpu' is not one of fake, cpu, cuda"),
        ("device=cuda", "device=cuda, but torch sees no CUDA device"),
        ("weights=some", "weights='some' is not one of random, real"),
        ("tokens=100", "tokens=100 is not possible: it must be a multiple of sequence=32"),
        ("tokens=0", "tokens=0 is not possible"),
        ("sequence=1", "sequence=1 is not possible"),
        ("dtype=int8", "dtype='int8' is not one of float32, float64, bfloat16"),
        ("execution.checkpoint=7", "execution.checkpoint=7 is not possible"),
        ("reserve=-1", "reserve=-1 is not possible"),
        ("cards=[x]", r"cards=\['x'\] is not possible"),
        ("steps=0", "steps=0 is not possible: it must be a whole number of at least 1"),
        ("layers=0", "layers=0 is not possible"),
        ("micro_batches=0", "micro_batches=0 is not possible"),
        ("micro_batches=3", "micro_batches=3 is not possible: it must divide 2 sequences"),
        ("visits=0", "visits=0 is not possible"),
        ("visits=[-1]", r"visits=\[-1\] is not possible"),
        ("cap_gb=-2", "cap_gb=-2 is not possible: give a positive number or null"),
        ("tf32=1", "tf32=1 is not possible: give true or false"),
        ("max_grad_norm=0", "max_grad_norm=0 is not possible"),
        ("method.inner_steps=0", "inner_steps=0 is not possible"),
        ("outside_layers.embedding=train", "the head is tied to model.embed_tokens.weight"),
    ],
)
def test_impossible_values_are_refused(override, message):
    with pytest.raises(ValueError, match=message):
        case.predicted(composed(override))


def test_a_checkpoint_of_the_hub_with_another_architecture_is_refused(checkpoint, monkeypatch):
    from experiments.models import Pretrained

    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: checkpoint)
    right = {"hidden_size": 32, "num_hidden_layers": 2}
    Pretrained("someone/tiny", right).load(torch.float32)
    with pytest.raises(UserError, match=r"model.architecture.hidden_size=64, but someone/tiny has 32"):
        Pretrained("someone/tiny", right | {"hidden_size": 64}).load(torch.float32)


def test_fewer_layers_of_a_local_folder_are_those_of_the_stated_architecture(checkpoint):
    chosen = composed("model=llama3_8b", f"model.path={checkpoint}", "layers=3")
    assert case.skeleton(chosen).config.num_hidden_layers == 3
    whole = composed("model=llama3_8b", f"model.path={checkpoint}")
    assert case.skeleton(whole).config.num_hidden_layers == 2


@pytest.mark.integration
def test_the_command_says_which_cards_hold_llama_3_8b():
    given = ["device=fake", "model=llama3_8b", "method=badam", "tokens=2048", "sequence=1024"]
    done = run_module("experiments.profile", *given)
    assert done.returncode == 0, done.stderr
    assert "8.030 billion weights in bfloat16, 2 x 1024 tokens, peer/documented" in done.stdout
    assert "16 no, 24 yes" in done.stdout


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["method=adamm"], "error: method=adamm is not one of adalomo, adamw"),
        (["model=/models/llama=3"], "error: model=/models/llama=3 is not one of llama3_70b, "),
        (["model.path=/models/llama=3"], "error: model.path=/models/llama=3: quote the value, once more"),
        (["--cfg", "job"], "error: job is no option=value"),
        (["tokens=2047"], "error: tokens=2047 is not possible: it must be a multiple of sequence=1024"),
        (["device=tpu"], "error: device='tpu' is not one of"),
        (["sweep=nothing"], "error: sweep=nothing is not one of cost, frontier"),
        (["only=badam"], "error: only=badam chooses runs of a sweep"),
        (["method.depth=3"], "error: there is no option 'method.depth' here"),
        (["execution.embedding=host"], "has those of a step"),
    ],
)
def test_the_command_stops_with_one_message(overrides, message):
    done = run_module("experiments.profile", *overrides)
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
