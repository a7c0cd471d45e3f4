"""Measured steps on the CPU, peers from packages, the floor of arithmetic, and the committed study of cost."""

import importlib.util
import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from hydra import initialize_config_dir
from transformers import LlamaConfig, LlamaForCausalLM

from bcd import Adam, Cyclic, Expansion, Part, Sign, by_layer
from bcd.execution import Execution, compile_layers
from bcd.memory.activations import LivePeak, SavedTensors
from experiments import profile
from experiments.cost import case, show
from experiments.cost.arithmetic import computed, must_run, products, sustained_rate
from experiments.cost.graphs import fused_backend
from experiments.cost.measure import PHASES
from experiments.cost.random_weights import materialise
from experiments.errors import UserError
from experiments.methods import BlockMethod
from experiments.methods.peers.badam_package import BadamPackage
from experiments.methods.peers.documented import Documented
from experiments.methods.peers.galore import GaLoreMethod
from experiments.methods.peers.lomo import LomoMethod
from records import COMMITTED, load, load_study, read

ROOT = Path(__file__).resolve().parents[3]
WIDTH, MLP, LAYERS, VOCABULARY = 64, 160, 3, 320


def llama(dtype=torch.float32, **changes):
    sizes = {"vocab_size": VOCABULARY, "hidden_size": WIDTH, "intermediate_size": MLP, "num_hidden_layers": LAYERS}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": False}
    with torch.device("meta"):
        return LlamaForCausalLM(LlamaConfig(**{**sizes, **heads, **changes})).to(dtype)


# --- random weights ---


@pytest.mark.usefixtures("global_generator_untouched")
def test_random_weights_compute_what_a_loaded_model_would():
    model = materialise(llama(tie_word_embeddings=True), "cpu", seed=3)
    with torch.random.fork_rng():
        other = LlamaForCausalLM(model.config)
    other.load_state_dict(model.state_dict())
    tokens = torch.arange(9)[None]
    assert torch.equal(model(tokens).logits, other(tokens).logits), "the rotary frequencies are there too"
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert model.training
    again = materialise(llama(tie_word_embeddings=True), "cpu", seed=3)
    assert torch.equal(model.lm_head.weight, again.lm_head.weight)


# --- the floor ---

LAYER = WIDTH * WIDTH * 2 + WIDTH * (WIDTH // 2) * 2 + 3 * WIDTH * MLP
HEAD = WIDTH * VOCABULARY


@pytest.mark.parametrize("active", range(LAYERS))
def test_the_floor_of_one_active_layer_by_hand(active):
    model, tokens, sequence = llama(), 96, 48
    visit = [Part(n, p) for n, p in model.named_parameters() if f"layers.{active}." in n]
    attention = 2 * tokens * sequence * WIDTH
    above = LAYERS - active
    expected = 2 * tokens * (LAYERS * LAYER + HEAD) + LAYERS * attention
    expected += 2 * tokens * HEAD + above * (2 * tokens * LAYER + 2.5 * attention)
    expected += 2 * tokens * LAYER
    assert must_run(model, visit, tokens=tokens, sequence=sequence) == expected


def test_the_floor_of_full_training_is_three_forward_passes_of_products():
    model, tokens = llama(), 96
    visit = [Part(n, p) for n, p in model.named_parameters()]
    found = must_run(model, visit, tokens=tokens, sequence=48)
    attention = LAYERS * 2 * tokens * 48 * WIDTH
    assert found == 3 * 2 * tokens * (LAYERS * LAYER + HEAD) + 3.5 * attention
    tied = llama(tie_word_embeddings=True)
    visit = [Part(n, p) for n, p in tied.named_parameters()]
    assert must_run(tied, visit, tokens=tokens, sequence=48) == found, "a look-up multiplies nothing"


@pytest.mark.parametrize("reach", ["all", "above"])
def test_the_floor_of_an_expansion_counts_what_moves(reach):
    model = llama()
    frozen = {"embedding": "freeze", "final_norm": "freeze", "head": "freeze"}
    expansion = Expansion(Sign(), ratio=0.1, reach=reach, when="backward")
    options = {"order": Cyclic(), "rule": Adam(), "inner_steps": 1, "lr": 1e-3, "expansion": expansion}
    trainable = BlockMethod(partial(by_layer, **frozen), **options)(model)
    sizes = {"tokens": 96, "sequence": 48}
    floors = [must_run(model, computed(trainable, visit), **sizes) for visit in range(LAYERS)]
    attention = 2 * 96 * 48 * WIDTH
    forward = 2 * 96 * (LAYERS * LAYER + HEAD) + LAYERS * attention
    running = [LAYERS - (active if reach == "above" else 0) for active in range(LAYERS)]
    assert floors == [forward + 2 * 96 * HEAD + n * (4 * 96 * LAYER + 2.5 * attention) for n in running]


def test_the_rate_runs_every_product_of_the_model():
    shapes = products(llama())
    assert len(shapes) == 7 * LAYERS + 1
    assert sum(a * b for a, b in shapes) == LAYERS * LAYER + HEAD
    rate = sustained_rate(shapes, 64, torch.float32, "cpu", 0.05)
    assert 1e7 < rate < 1e14


# --- what a compiler writes ---


@pytest.mark.slow
@pytest.mark.parametrize(("recompute", "other"), [(None, "aot_eager_decomp_partition"), (0, None)])
def test_fused_graphs_save_what_others_save_and_write_no_more(recompute, other):
    """Beside the division of a graph that torch itself makes, and beside plain recomputation."""
    found, gradients = [], []
    for backend in (other, fused_backend()):
        torch.compiler.reset()
        model = materialise(llama(), "cpu", seed=0)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("layers.1." in name)
        Execution(loss="chunked", recompute=recompute)(model, None, check=False)
        if backend is not None:
            compile_layers(model, backend=backend)
        tokens = torch.arange(64).view(2, 32)
        for measured in (False, True):
            known = [*model.parameters(), *model.buffers(), tokens]
            with SavedTensors() as saved, LivePeak() as live:
                loss = model(input_ids=tokens, labels=tokens).loss
                held = saved.nbytes(known)
                loss.backward()
            if measured:  # the first pass compiles
                found.append((held, live.peak))
                gradients.append([p.grad for p in model.parameters() if p.grad is not None])
            else:
                model.zero_grad()
    (saved, unfused), (saved_too, fused) = found
    rotary = 2 * 4 * 32 * (WIDTH // 4)  # cosines and sines, which a graph takes for inputs of its own
    assert saved_too == saved + (rotary if recompute == 0 else 0)
    assert fused <= unfused
    assert fused < unfused or recompute is None, "kept activations outweigh what lives for a moment"
    torch.testing.assert_close(gradients[0], gradients[1])


# --- peers from packages ---


@pytest.mark.slow
def test_the_package_badam_holds_what_is_predicted_of_it():
    pytest.importorskip("badam")
    fake = BadamPackage(lr=1e-3)(llama(torch.bfloat16))
    model = materialise(llama(torch.bfloat16), "cpu", seed=0)
    real = BadamPackage(lr=1e-3)(model)
    for index in (2, 0):
        real.start_visit(index)
        trained = {name for name, p in model.named_parameters() if p.requires_grad}
        assert trained == {part.name for part in real.visits[index]}
        model(input_ids=torch.arange(8)[None], labels=torch.arange(8)[None]).loss.backward()
        gradients = real.footprint.held_now().gradients
        real.optimizer.step()  # it drops them
        assert replace(real.footprint.held_now(), gradients=gradients) == fake.footprint.held(index)


needs_galore = pytest.mark.skipif(not importlib.util.find_spec("galore_torch"), reason="galore-torch is not installed")
needs_lomo = pytest.mark.skipif(not importlib.util.find_spec("lomo_optim"), reason="lomo-optim is not installed")
GALORE = {"lr": 1e-3, "rank": 16, "update_proj_gap": 5, "scale": 0.25, "target_modules": ["self_attn", "mlp"]}


@needs_galore
def test_random_projections_have_the_sizes_of_computed_ones():
    held = []
    for svd in (False, True):
        model = materialise(llama(), "cpu", seed=0)
        trainable = GaLoreMethod(**GALORE, svd=svd)(model)
        before = model.model.layers[0].mlp.up_proj.weight.clone()
        model(input_ids=torch.arange(8)[None], labels=torch.arange(8)[None]).loss.backward()
        trainable.optimizer.step()
        assert not torch.equal(before, model.model.layers[0].mlp.up_proj.weight)
        held.append(trainable.footprint.held_now().state)
    assert held[0] == held[1] == GaLoreMethod(**GALORE, svd=False)(llama()).footprint.held(0).state


@needs_lomo
def test_lomo_leaves_no_gradient_and_moves_everything():
    model = materialise(llama(), "cpu", seed=0)
    trainable = LomoMethod("Lomo", lr=1e-1)(model)
    before = [p.clone() for p in model.parameters()]
    trainable.backward(model(input_ids=torch.arange(8)[None], labels=torch.arange(8)[None]).loss)
    trainable.optimizer.step()
    assert all(p.grad is None for p in model.parameters())
    moved = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert sum(moved) == len(moved)


def test_the_documented_step_is_turned_off_again():
    model = llama()
    off = Documented(checkpoint=True)(model)
    assert model.is_activation_checkpointing
    off()
    assert not model.is_activation_checkpointing


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LomoMethod("Lumo", lr=1.0), "optimizer='Lumo' is not one of Lomo, AdaLomo"),
        (lambda: GaLoreMethod(**GALORE | {"rank": 0}, svd=False), "rank=0"),
        (lambda: BadamPackage(lr=-1.0), "lr=-1.0"),
        (lambda: GaLoreMethod(**GALORE | {"target_modules": ["nothing"]}, svd=False)(llama()), "names no matrix"),
    ],
)
def test_impossible_values_of_peers_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# --- whole runs ---

SMALL = ["model=smollm2_135m", "model.architecture.num_hidden_layers=2", "model.architecture.vocab_size=512"]
QUICK = [*SMALL, "tokens=64", "sequence=16", "device=cpu", "steps=3", "visits=2", "rate_seconds=0.05", "dtype=float32"]


def run(tmp_path, *overrides):
    succeeded = profile.run([*QUICK, f"records_dir={tmp_path}", *overrides])
    return succeeded, {path.stem: load(path) for path in sorted((tmp_path / "profile").glob("*.json"))}


@pytest.mark.slow
@pytest.mark.usefixtures("global_generator_untouched")
def test_methods_and_executions_are_measured_one_after_another(tmp_path, capsys):
    given = ["method=badam_exact,peer/lora", "execution=plain,peer/documented", "micro_batches=2"]
    succeeded, found = run(tmp_path, *given)
    assert succeeded
    assert len(found) == 4
    record = found["badam_exact-smollm2_135m-plain-64"]
    measured = record.measurements
    assert [visit["index"] for visit in measured["visits"]] == [1, 0]
    for visit in measured["visits"]:
        assert visit["steps"] == 3
        assert all(visit["seconds"][phase] > 0 for phase in PHASES)
        assert math.isfinite(visit["value"])
        assert visit["held"]["gradients"] > 0
    assert measured["visits"][1]["flops"] > measured["visits"][0]["flops"]
    assert measured["predicted"]["held"]["weights"] == measured["visits"][0]["held"]["weights"]
    assert measured["predicted"]["held"]["state"] == measured["visits"][0]["held"]["state"]
    assert measured["tokens_per_second"] == pytest.approx(64 / measured["seconds"]["step"])
    assert record.config["choices"]["method"] == "badam_exact"
    lora = found["peer_lora-smollm2_135m-peer_documented-64"].measurements
    assert len(lora["visits"]) == 1, "all adapters are one visit"
    text = capsys.readouterr().out
    assert show.measurement(record) in text
    assert "run" in show.comparison(list(found.values()))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["peer/lisa", "peer/badam"])
def test_other_peers_are_measured(method, tmp_path):
    pytest.importorskip("badam")
    untied = "model.architecture.tie_word_embeddings=false"
    succeeded, found = run(tmp_path, f"method={method}", untied, "predict=false", "dtype=bfloat16")
    assert succeeded
    (record,) = found.values()
    assert record.measurements["visits"][0]["held"]["master"] > 0


@pytest.mark.slow
def test_a_run_without_memory_is_recorded_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    measured = case.measured

    def tight(chosen):
        if chosen.choices["method"] == "adamw":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has ...")
        return measured(chosen)

    monkeypatch.setattr(case, "measured", tight)
    succeeded, found = run(tmp_path, "method=adamw,sgd", "predict=false")
    assert not succeeded
    failed = found["adamw-smollm2_135m-peer_documented-64"]
    assert failed.status == "failed"
    assert failed.error == "out of memory: CUDA out of memory. Tried to allocate 2.00 GiB."
    assert "FAILED, out of memory" in capsys.readouterr().out
    assert found["sgd-smollm2_135m-peer_documented-64"].status == "finished"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["visits=[7]"], r"visits=\[7\] is not possible: there are 2 visits"),
        (
            ["execution=small", "max_grad_norm=1.0"],
            "max_grad_norm=1.0 is not possible with execution.step_in_backward",
        ),
        (["execution=small", "micro_batches=2"], "micro_batches=2 is not possible with execution.step_in_backward"),
        (["cap_gb=24"], "cap_gb=24 is not possible with device=cpu"),
        (["model=pretrained", "model.path=x", "layers=2"], "states no architecture"),
    ],
)
def test_what_cannot_be_measured_is_refused(overrides, message, tmp_path):
    given = [item for item in QUICK if not (item.startswith("model") and "model=pretrained" in overrides)]
    with pytest.raises(UserError, match=message):
        profile.run([*given, f"records_dir={tmp_path}", *overrides])
    assert not list(tmp_path.iterdir())


def test_a_list_with_an_impossible_value_runs_nothing(monkeypatch):
    monkeypatch.setattr(case, "predicted", lambda chosen: pytest.fail("a run before the check"))
    for override, message in (
        ("execution.recompute=0,-5", "recompute=-5 is not possible"),
        ("method.inner_steps=5,0", "inner_steps=0 is not possible"),
    ):
        with pytest.raises(ValueError, match=message):
            profile.run(["execution=cheap", "method=badam", override, "device=fake"])


def test_lists_make_runs_and_a_sweep_is_a_list_of_its_own():
    lists = profile.runs(["method=badam,lora", "tokens=64,128", "model.path=x"])
    assert [overrides[:2] for _, overrides in lists] == [
        ["method=badam", "tokens=64"],
        ["method=badam", "tokens=128"],
        ["method=lora", "tokens=64"],
        ["method=lora", "tokens=128"],
    ]
    assert all("weights=real" in overrides for _, overrides in lists)
    names = [name for name, _ in profile.runs(["sweep=cost", "only=lora-doc,keep", "device=fake"])]
    assert {"badam-keep-8192", "lora-documented-8192"} <= set(names)
    assert all("lora-doc" in name or "keep" in name for name in names)


def test_visits_are_evenly_spaced_from_the_top():
    assert case.spread(5, 32) == [31, 23, 15, 7, 0]
    assert case.spread(5, 3) == [2, 1, 0]
    assert case.spread(1, 32) == [31]
    assert case.spread([4, 0], 32) == [4, 0]


# --- the committed study ---


def test_every_committed_peak_is_predicted_within_five_percent():
    predicted = {record.name: record for record in load_study("cost_predicted", kind="profile", folder=COMMITTED)}
    measured = load_study("cost", kind="profile", folder=COMMITTED)
    assert len(measured) >= 20
    errors = {}
    for record in measured:
        phases = predicted[record.name.replace("-without_tf32", "").replace("_again", "")].measurements["predicted"][
            "phases"
        ]
        errors[record.name] = max(phases.values()) / record.measurements["peak"] - 1
    assert max(map(abs, errors.values())) <= 0.05, errors


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["reference-documented-2048", pytest.param("badam-keep-2048", marks=pytest.mark.slow)]
)
def test_a_committed_prediction_is_what_the_code_predicts(name):
    ((_, overrides),) = profile.runs(["sweep=cost", f"only={name}", "device=fake"])
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        found = case.predicted(profile.compose(overrides, name))
    committed = read("cost_predicted", name, COMMITTED).measurements["predicted"]
    assert found.phases.peak == pytest.approx(max(committed["phases"].values()), rel=1e-3)
    assert found.held.weights == committed["held"]["weights"]
