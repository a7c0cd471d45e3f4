"""Products of frozen weights in e4m3, against the same rounding done by hand in float64."""

import copy
import math

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from bcd import SGD, Adam, BlockCoordinateDescent, Descending, by_layer
from bcd.activations import SavedTensors
from bcd.execution import (
    Execution,
    compile_layers,
    compiled,
    compiled_layers,
    float8_linears,
    float8_products,
    recompute_layers,
)
from bcd.execution.float8 import LARGEST, float8_product, quantised

FREEZE = {"embedding": "freeze", "final_norm": "freeze", "head": "freeze"}
HALF_STEP = 2.0**-4  # of e4m3, relative
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def normal(*size, seed=0, dtype=torch.float32):
    return torch.randn(size, generator=torch.Generator().manual_seed(seed)).to(dtype)


def e4m3(x):
    """x rounded to e4m3 in float64: 3 bits behind the leading one, exponents from -6, ties to even."""
    exponent = torch.floor(torch.log2(x.abs().clamp_min(2.0**-20))).clamp_min(-6)
    step = torch.exp2(exponent - 3)
    return torch.round(x / step) * step


def rounded(matrix):
    """(A / s rounded to e4m3, s) in float64, from the definition; s is a float32 number."""
    scale = (matrix.float().abs().amax(-1, keepdim=True) / LARGEST).double()
    return e4m3((matrix.float() / scale.float()).double()), scale


def one_map(dtype=torch.float32, bias=True, inputs=32, outputs=48):
    layer = nn.Linear(inputs, outputs, bias=bias, dtype=dtype)
    with torch.no_grad():
        layer.weight.copy_(normal(outputs, inputs, seed=1))
        if bias:
            layer.bias.copy_(normal(outputs, seed=2))
    return nn.Sequential(layer).requires_grad_(False).train()


def test_a_row_keeps_its_largest_entry_and_every_other_within_half_a_step():
    matrix = normal(40, 300) * torch.logspace(-20, 20, 40)[:, None]
    numbers, scale = quantised(matrix)
    assert numbers.dtype is torch.float8_e4m3fn
    assert scale.shape == (40, 1)
    back = numbers.float() * scale
    assert torch.equal(numbers.float().abs().amax(-1), torch.full((40,), LARGEST))
    normal_numbers = numbers.float().abs() >= 2.0**-6
    error = (back - matrix).abs()
    assert (error <= (HALF_STEP + 1e-6) * matrix.abs())[normal_numbers].all()
    assert (error <= 2.0**-10 * scale * (1 + 1e-5))[~normal_numbers].all(), "below that, half of the smallest step"
    assert torch.equal(rounded(matrix)[0], numbers.double())


def test_rows_of_zeros_are_zero():
    numbers, scale = quantised(torch.zeros(2, 16))
    assert torch.equal(numbers.float() * scale, torch.zeros(2, 16))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("device", DEVICES)
def test_product_and_input_gradient_are_those_of_the_definition(device, bias):
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    model = one_map(dtype, bias).to(device)
    x = normal(3, 20, 32, seed=3, dtype=dtype).to(device).requires_grad_()
    upstream = normal(3, 20, 48, seed=4, dtype=dtype).to(device)
    undo = float8_products(model)
    y = model(x)
    y.backward(upstream)
    w, columns = rounded(model[0].weight)
    a, rows = rounded(x.detach().reshape(60, 32))
    expected = (a * rows) @ (w * columns).t() + (model[0].bias.double() if bias else 0.0)
    # Not the definition's scale before it is rounded to float32 once more: the product with it is rounded first.
    a, rows = rounded(upstream.reshape(60, 48).float() * columns.float().t())
    gradient = (a * rows) @ w
    epsilon = 2.0**-7 if device == "cuda" else 1e-6
    for found, true in ((y, expected), (x.grad, gradient)):
        error = (found.double().reshape(true.shape) - true).norm() / true.norm()
        assert error <= epsilon
    plain = nn.functional.linear(x, model[0].weight, model[0].bias)
    distance = ((y - plain).norm() / plain.norm()).item()
    assert 0.01 < distance < math.sqrt(2) * HALF_STEP, "e4m3, not the plain product"
    undo()
    assert type(model[0]) is nn.Linear
    assert torch.equal(model(x), plain)


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
    chosen, left = float8_linears(model)
    assert len(chosen) == 4 * 7
    assert left == []
    assert "lm_head" not in chosen
    assert type(model.lm_head) is nn.Linear


@pytest.mark.parametrize("recompute", [None, 0, 40_000])
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
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
    found = []
    for each in (usual, model):
        each.zero_grad()
        activate(each, 1)
        each(input_ids=tokens, labels=tokens).loss.backward()
        found.append(torch.cat([p.grad.flatten() for p in each.parameters() if p.grad is not None]))
    distance = ((found[0] - found[1]).norm() / found[0].norm()).item()
    assert 0.005 < distance < 0.3
    cosine = nn.functional.cosine_similarity(*found, dim=0).item()
    assert cosine > 0.96


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


@pytest.mark.gpu
@pytest.mark.parametrize("shape", [(2048, 512, 1024), (100, 64, 48)])
def test_the_kernel_multiplies_as_the_emulation(shape):
    tokens, outputs, inputs = shape
    (a, rows), (b, columns) = quantised(normal(tokens, inputs)), quantised(normal(outputs, inputs, seed=1))
    there = float8_product(a.cuda(), b.cuda(), rows.cuda(), columns.cuda(), torch.bfloat16).cpu().double()
    here = float8_product(a, b, rows, columns, torch.float32).double()
    assert (there - here).norm() <= 2.0**-8 * here.norm()


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


def test_cards_and_dtypes_that_cannot(weight_on_a_card):
    from bcd.execution.float8 import _require_device

    with pytest.raises(
        ValueError, match=r"not possible on a card, which has compute capability 8.0: torch's kernels need 8.9"
    ):
        _require_device(weight_on_a_card((8, 0)))
    with pytest.raises(ValueError, match=r"not possible with weights in torch.float32"):
        _require_device(weight_on_a_card((9, 0), torch.float32))
    _require_device(weight_on_a_card((9, 0)))
