"""Models whose frozen weights multiply in e4m3, beside the models as they are."""

import copy

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from bcd import SGD, Adam, BlockCoordinateDescent, Descending, by_layer
from bcd.execution import (
    Execution,
    compile_layers,
    compiled,
    compiled_layers,
    float8_linears,
    float8_products,
    recompute_layers,
)
from bcd.memory.activations import SavedTensors
from tests.bcd.execution.conftest import normal, one_map

FREEZE = {"embedding": "freeze", "final_norm": "freeze", "head": "freeze"}


def test_a_map_that_trains_or_is_evaluated_is_plain():
    model, usual = one_map(), one_map()
    float8_products(model)
    x = normal(5, 32)
    assert not torch.equal(model(x), usual(x))
    assert torch.equal(model.eval()(x), usual.eval()(x))
    assert torch.equal(model.train().requires_grad_(True)(x), usual(x))


def test_what_changes_the_weights_changes_the_product():
    model = one_map(bias=False)
    float8_products(model)
    x = normal(5, 32)
    before = model(x)
    model[0].weight.data.mul_(2.0)  # behind torch's back, as a compiled update does it
    assert torch.equal(model(x), 2 * before)


def test_which_maps_are_chosen(llama):
    class Own(nn.Linear):
        pass

    model = nn.Sequential(nn.Linear(32, 16), nn.Linear(16, 24), Own(32, 32))
    undo = float8_products(model)
    assert float8_linears(model) == (["0"], ["1", "2"])
    undo()
    assert float8_linears(model) == ([], ["0", "1", "2"])
    model = llama()
    float8_products(model)
    chosen, others = float8_linears(model)
    assert len(chosen) == 4 * 7
    assert others == []
    assert "lm_head" not in chosen
    assert type(model.lm_head) is nn.Linear


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "recompute"), [("aot_eager", None), ("aot_eager", 0), ("aot_eager", 40_000), ("inductor", 0)]
)
def test_with_compiled_and_recomputed_layers_no_graph_at_a_switch(backend, recompute, llama, tokens, train):
    torch.compiler.reset()
    counters.clear()
    usual, model = llama(), llama()
    float8_products(usual)
    float8_products(model)
    compile_layers(model, backend=backend)
    recompute_layers(model, recompute)
    optimizers = [
        BlockCoordinateDescent(by_layer(m, **FREEZE), rule=SGD(), order=Descending(), inner_steps=2, lr=0.1)
        for m in (usual, model)
    ]
    seen = []
    for _ in range(8):
        if backend == "inductor":  # a fused kernel's own rounding may take a number to its other neighbour in e4m3
            model.load_state_dict(usual.state_dict())
        losses = []
        for m, optimizer in zip((usual, model), optimizers, strict=True):
            losses.append(train(m, optimizer, tokens, 2)[-1])
        assert losses[0] == losses[1] or backend == "inductor"
        assert losses[0] == pytest.approx(losses[1], rel=2e-3)
        seen.append(counters["stats"]["unique_graphs"])
    both = recompute not in (None, 0) and compiled.FUNCTIONS_ARE_RECOMPUTED  # else the kept graph serves twice
    assert seen == [2 + both, *[3 + 2 * both] * 7]
    assert len(compiled_layers(model).graphs) == seen[-1]
    assert counters["recompiles"] == {}
    torch.compiler.reset()


def test_only_frozen_layers_round(llama, tokens, activate):
    """With the top layer active its gradient differs by its input's rounding only; all maps trained, by nothing."""
    usual, model = llama(), llama()
    float8_products(model)
    for each in (usual, model):
        each(input_ids=tokens, labels=tokens).loss.backward()
    for a, b in zip(usual.parameters(), model.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)
    gradients = []
    for each in (usual, model):
        each.zero_grad()
        activate(each, 1)
        each(input_ids=tokens, labels=tokens).loss.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in each.parameters() if p.grad is not None]))
    distance = ((gradients[0] - gradients[1]).norm() / gradients[0].norm()).item()
    assert 0.005 < distance < 0.3
    cosine = nn.functional.cosine_similarity(*gradients, dim=0).item()
    assert cosine > 0.96


@pytest.mark.slow
def test_a_recomputed_layer_keeps_its_input_alone(llama, tokens, monkeypatch):
    """As without 8-bit products; inside the graph only where torch's compiler recomputes functions, else outside."""
    held, gradients = {}, {}
    runs = {"plain": (0, "plain", True), "kept": (None, "float8", True), "outside": (0, "float8", False)}
    runs["inside"] = (0, "float8", compiled.FUNCTIONS_ARE_RECOMPUTED)
    for name, (budget, products, inside) in runs.items():
        torch.compiler.reset()
        monkeypatch.setattr(compiled, "FUNCTIONS_ARE_RECOMPUTED", inside)
        model = llama(torch.bfloat16).requires_grad_(False)
        active = model.model.layers[1].requires_grad_(True)
        Execution(recompute=budget, compiled=True, backend="aot_eager", frozen_products=products)(model)
        with SavedTensors() as saved:
            loss = model(input_ids=tokens, labels=tokens).loss
            held[name] = saved.nbytes([*model.parameters(), *model.buffers()])
        loss.backward()
        gradients[name] = [p.grad for p in active.parameters()]
    assert max(held["inside"], held["outside"]) <= 1.02 * held["plain"] < 0.5 * held["kept"]
    for name in ("inside", "outside"):
        assert all(torch.equal(a, b) for a, b in zip(gradients[name], gradients["kept"], strict=True))


@pytest.mark.gpu
def test_on_the_gpu_all_options_train_as_the_emulation(llama, tokens, train):
    """The same small Llama with every option on the GPU in bfloat16, against e4m3 done by hand on the CPU."""
    losses = []
    for device in ("cpu", "cuda"):
        torch.compiler.reset()
        model = llama(torch.bfloat16).to(device)
        options = {"rule": Adam(), "order": Descending(), "inner_steps": 2, "lr": 1e-3, "master": "discard"}
        optimizer = BlockCoordinateDescent(by_layer(model, **FREEZE), **options)
        Execution("chunked", 16, recompute=40_000, compiled=device == "cuda", frozen_products="float8")(
            model, optimizer
        )
        losses.append(train(model, optimizer, tokens.to(device), 10))
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    assert losses[1][-1] < losses[1][0]


def test_a_copied_model_and_its_state_dict(llama, tokens):
    model = llama()
    names = list(model.state_dict())
    float8_products(model)
    assert list(model.state_dict()) == names
    copied = copy.deepcopy(model).requires_grad_(False)
    model.requires_grad_(False)
    assert torch.equal(copied(input_ids=tokens).logits, model(input_ids=tokens).logits)


def test_refusals(llama):
    with pytest.raises(ValueError, match="in its layers with both sides a multiple of 16"):
        float8_products(nn.Sequential(nn.Linear(8, 8)))
    model = llama()
    undo = float8_products(model)
    with pytest.raises(ValueError, match="float8 products already"):
        float8_products(model)
    undo()
    with pytest.raises(ValueError, match="frozen_products='fp8' is not one of plain, fused, float8"):
        Execution(frozen_products="fp8")
