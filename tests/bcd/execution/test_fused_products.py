"""Models whose gated MLPs have the activation inside their products, beside the models as they are."""

import copy
import itertools
import sys
import types

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import nn
from torch._dynamo.utils import counters
from transformers import LlamaForCausalLM

from bcd import SGD, BlockCoordinateDescent, Descending, by_layer
from bcd.execution import (
    Execution,
    compile_layers,
    compiled_layers,
    frozen_products,
    fused_products,
    recompute_layers,
)
from bcd.execution.frozen_products import FusedMLP
from bcd.memory.activations import SavedTensors
from tests.bcd.execution.conftest import ON_A_GPU_WITH_QUACK
from tests.cover import tiered

FREEZE = {"embedding": "freeze", "final_norm": "freeze", "head": "freeze"}
DEVICES = ["cpu", pytest.param("cuda", marks=ON_A_GPU_WITH_QUACK)]


def mlps(model):
    return [layer.mlp for layer in model.model.layers]


def is_together(mlp):
    gate, up = mlp.gate_proj.weight, mlp.up_proj.weight
    return up.data_ptr() == gate.data_ptr() + gate.nbytes


@pytest.fixture
def calls(monkeypatch):
    """The `keep` of every call of the first product from now on."""
    seen, original = [], frozen_products.gated_product

    def counted(x, gate, up, keep):
        seen.append(keep)
        return original(x, gate, up, keep)

    monkeypatch.setattr(frozen_products, "gated_product", counted)
    return seen


def test_where_the_products_are_used(llama, tokens, calls):
    usual, model = llama(), llama()
    fused_products(model)

    def compare(trained):
        """Logits and gradients with these parameters trained, and the calls that the fused model made."""
        calls.clear()
        for each in (usual, model):
            each.zero_grad()
            for name, parameter in each.named_parameters():
                parameter.requires_grad_(trained in name if trained else False)
            logits = each(tokens).logits
            if trained:
                logits.square().sum().backward()
        for (name, a), b in zip(usual.named_parameters(), model.parameters(), strict=True):
            assert (a.grad is None) == (b.grad is None) == (not trained or trained not in name), name
            assert a.grad is None or torch.allclose(a.grad, b.grad, rtol=1e-4, atol=1e-4 * a.grad.abs().max()), name
        return list(calls)

    assert compare("") == [False] * 4
    assert compare("layers.1.self_attn") == [False, True, True, True], "A, B are kept above what trains, and there"
    for name in ("gate_proj", "up_proj", "down_proj"):
        assert compare(f"layers.2.mlp.{name}") == [False, False, True], "not in the layer that trains"
    assert compare("layers.") == []
    for each in (usual, model):
        each.requires_grad_(False).eval()
    calls.clear()
    assert torch.equal(usual(tokens).logits, model(tokens).logits)
    assert calls == [], "not in evaluation"


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # peft asks for it
def test_adapters_and_autocast_are_not_passed_over(llama, tokens, calls):
    peft = pytest.importorskip("peft")
    model = llama().requires_grad_(False)
    fused_products(model)
    with torch.autocast("cpu", torch.bfloat16):
        model(tokens)
    assert calls == []
    adapted = peft.get_peft_model(model, peft.LoraConfig(target_modules=["up_proj"], r=2))
    adapted.train()(tokens).logits.sum().backward()
    assert calls == []
    assert all(p.grad is not None for name, p in adapted.named_parameters() if "lora_B" in name)


def test_parameters_stay_themselves_and_lie_together(llama, tokens, tmp_path):
    usual, model = llama(), llama()
    before = dict(model.named_parameters())
    undo = fused_products(model)
    assert all(is_together(mlp) and isinstance(mlp, FusedMLP) for mlp in mlps(model))
    assert all(before[name] is parameter for name, parameter in model.named_parameters())
    assert list(model.state_dict()) == list(usual.state_dict())
    model.save_pretrained(tmp_path / "transformers")
    saved = LlamaForCausalLM.from_pretrained(tmp_path / "transformers")
    torch.save(model.state_dict(), tmp_path / "torch")
    assert (tmp_path / "torch").stat().st_size < 1.2 * sum(p.nbytes for p in model.parameters())
    torch.save(model, tmp_path / "pickle")
    pickled = torch.load(tmp_path / "pickle", weights_only=False)
    assert type(mlps(pickled)[0]) is type(mlps(model)[0])
    Accelerator(cpu=True).save_model(model, tmp_path / "accelerate")
    assert set(load_file(tmp_path / "accelerate" / "model.safetensors")) == set(before)
    for each in (model, saved, pickled):
        for (name, a), b in zip(each.state_dict().items(), usual.state_dict().values(), strict=True):
            assert torch.equal(a, b), name
    undo()
    assert all(type(mlp).__name__ == "LlamaMLP" for mlp in mlps(model))
    assert torch.equal(model(tokens).logits, usual(tokens).logits)
    fused_products(model)  # again, with weights that lie together already
    assert all(is_together(mlp) for mlp in mlps(model))
    model.to(torch.bfloat16)
    assert all(is_together(mlp) for mlp in mlps(model)), "moved with the model"


def test_a_copied_model_computes_the_same_and_follows_its_own_weights(llama, tokens):
    model = llama().requires_grad_(False)
    fused_products(model)
    copied = copy.deepcopy(model)
    assert not is_together(mlps(copied)[0])
    before = copied(tokens).logits
    assert torch.equal(before, model(tokens).logits)
    for each in (copied, model):
        mlps(each)[1].up_proj.weight.data.mul_(3.0)
    assert torch.equal(copied(tokens).logits, model(tokens).logits)
    assert not torch.equal(copied(tokens).logits, before)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("backend", "recompute"),
    tiered([*itertools.product(["aot_eager", "inductor"], [None, 0, 40_000])], quick=[("aot_eager", 0)]),
)
@pytest.mark.parametrize("device", DEVICES)
def test_training_is_the_same_and_a_switch_adds_no_graph(device, backend, recompute, llama, tokens, train):
    torch.compiler.reset()
    counters.clear()
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    usual, model = (llama(dtype).to(device) for _ in range(2))
    fused_products(model)
    compile_layers(model, backend=backend)
    recompute_layers(model, recompute)
    optimizers = [
        BlockCoordinateDescent(by_layer(each, **FREEZE), rule=SGD(), order=Descending(), inner_steps=2, lr=0.1)
        for each in (usual, model)
    ]
    ids, seen = tokens.to(device), []
    for _ in range(8):
        losses = []
        for each, optimizer in zip((usual, model), optimizers, strict=True):
            losses.append(train(each, optimizer, ids, 2)[-1])
        assert losses[0] == pytest.approx(losses[1], rel=1e-2 if device == "cuda" else 1e-5)
        seen.append(counters["stats"]["unique_graphs"])
    both = recompute not in (None, 0)
    assert seen[0] == 2 + both
    if device == "cpu":
        assert seen[1:] == [3 + 2 * both] * 7
    assert seen[3:] == [3 + 2 * both] * 5, "after four visits every kind of layer has been met"
    assert len(compiled_layers(model).graphs) == seen[-1]
    assert counters["recompiles"] == {}
    torch.compiler.reset()


@pytest.mark.slow
def test_what_a_layer_keeps(llama, tokens, activate):
    """A, B and not H, compiled or not; if it is recomputed its input alone, as without the kernels."""
    held = {}
    for compiled, products, budget in itertools.product((False, True), ("plain", "fused"), (None, 0)):
        torch.compiler.reset()
        model = llama(torch.bfloat16)
        activate(model, 1)
        Execution(recompute=budget, compiled=compiled, backend="aot_eager", frozen_products=products)(model)
        with SavedTensors() as saved:
            loss = model(input_ids=tokens, labels=tokens).loss
            held[compiled, products, budget] = saved.nbytes([*model.parameters(), *model.buffers()])
        loss.backward()
    for compiled in (False, True):
        assert held[compiled, "fused", 0] <= 1.02 * held[compiled, "plain", 0] < 0.5 * held[compiled, "plain", None]
    assert held[True, "fused", None] <= 1.02 * held[True, "plain", None]
    without_h = 2 * tokens.numel() * 64 * 2  # in bfloat16, of the two layers above the active one
    assert held[False, "fused", None] <= held[False, "plain", None] - without_h


def test_mlps_that_compute_something_else_are_refused(llama):
    refused = "has no MLP in its layers that computes"
    with pytest.raises(ValueError, match=refused):
        fused_products(nn.Sequential(nn.Linear(16, 16)))
    small_gelu = {"hidden_act": "gelu", "initializer_range": 0.002}
    for changes in ({"hidden_act": "gelu"}, small_gelu, {"mlp_bias": True}, {"intermediate_size": 72}):
        with pytest.raises(ValueError, match=refused):
            fused_products(llama(**changes))
    model = llama()
    multiplied = type(mlps(model)[0])
    own = type("Multiplied", (multiplied,), {"forward": lambda self, x: 1.1 * multiplied.forward(self, x)})
    for mlp in mlps(model):
        mlp.__class__ = own
    with pytest.raises(ValueError, match=refused):
        fused_products(model)
    undo = fused_products(model := llama())
    with pytest.raises(ValueError, match="fused products already"):
        fused_products(model)
    undo()
    with pytest.raises(ValueError, match="frozen_products='fused' is not possible with autocast='bfloat16'"):
        Execution(frozen_products="fused", autocast="bfloat16")


def test_cards_dtypes_and_installations_that_cannot(llama, monkeypatch, weight_on_a_card):
    def prepare(weight):
        gate = types.SimpleNamespace(weight=weight)
        frozen_products._move_together(types.SimpleNamespace(gate_proj=gate, up_proj=mlp.up_proj))

    mlp = mlps(llama())[0]
    with pytest.raises(
        ValueError, match=r"not possible on a card, which has compute capability 8.0: quack's kernels are tuned"
    ):
        prepare(weight_on_a_card((8, 0)))
    with pytest.raises(ValueError, match=r"fused products are not possible with weights in torch.float32"):
        prepare(weight_on_a_card((9, 0), torch.float32))
    monkeypatch.setitem(sys.modules, "quack.gemm_interface", None)
    with pytest.raises(ImportError, match="pip install quack-kernels"):
        prepare(weight_on_a_card((9, 0)))
