"""Wrappers around layers: their order is that of the priorities, whichever is installed or removed first."""

import itertools

import pytest
import torch
from torch._dynamo.utils import counters

from bcd import SGD, BlockCoordinateDescent, Descending, by_layer
from bcd.execution import compile_layers, compiled_layers, recompute_layers, recomputed_layers
from bcd.execution.layers import INNERMOST, layer_calls, wrap, wrappers_of

FREEZE = {"embedding": "freeze", "final_norm": "freeze", "head": "freeze"}
LAYERS = 4


@pytest.fixture(autouse=True)
def fresh_counters():
    torch.compiler.reset()
    counters.clear()
    yield
    torch.compiler.reset()


def bcd(model):
    return BlockCoordinateDescent(by_layer(model, **FREEZE), rule=SGD(), order=Descending(), inner_steps=2, lr=0.1)


class Before(torch.autograd.Function):
    """Its gradient is computed when backward is done with the layer behind it."""

    @staticmethod
    def forward(ctx, hidden, swapped, call):
        ctx.swapped, ctx.call = swapped, call
        return hidden.view_as(hidden)

    @staticmethod
    def backward(ctx, gradient):
        ctx.swapped.take_out(ctx.call)
        return gradient, None, None


class After(torch.autograd.Function):
    """Its gradient is computed before backward comes to the layer before it."""

    @staticmethod
    def forward(ctx, hidden, swapped, call):
        ctx.swapped, ctx.call = swapped, call
        return hidden.view_as(hidden)

    @staticmethod
    def backward(ctx, gradient):
        ctx.swapped.bring_in(ctx.call)
        return gradient, None, None


class Swapped:
    """Weights of frozen layers are there while the layer computes, forward and backward, and NaN in between.

    swaps: what happened, ("in" or "out", index of the layer).
    """

    name = "swapped"
    priority = 10
    in_evaluation = True

    def __init__(self):
        self.away = {}
        self.swaps = []

    def __call__(self, call, args, kwargs, rest):
        if call.trains:
            return rest(args, kwargs)
        self.bring_in(call)
        (hidden,) = args
        result = After.apply(rest((Before.apply(hidden, self, call),), kwargs), self, call)
        self.take_out(call)
        return result

    def bring_in(self, call):
        if weights := self.away.pop(call.index, None):
            self.swaps.append(("in", call.index))
            for parameter, weight in zip(call.layer.parameters(), weights, strict=True):
                parameter.data = weight

    def take_out(self, call):
        self.swaps.append(("out", call.index))
        self.away[call.index] = [parameter.data for parameter in call.layer.parameters()]
        for parameter in call.layer.parameters():
            parameter.data = torch.full_like(parameter, float("nan"))

    def visit(self, calls):
        """The layers that train are there, the others are away."""
        for call in calls:
            if call.trains:
                self.bring_in(call)
            elif call.index not in self.away:
                self.take_out(call)


def swap_layers(model, optimizer):
    """(undo, the wrapper)."""
    calls, swapped = layer_calls(model), Swapped()
    unwrap = wrap(model, calls, swapped)
    handle = optimizer.register_visit_hook(start=lambda _: swapped.visit(calls))
    swapped.visit(calls)

    def undo():
        handle.remove()
        unwrap()
        for call in calls:
            swapped.bring_in(call)

    return undo, swapped


ORDERS = list(itertools.permutations(["swapped", "recomputed", "compiled"]))
COMBINED = [(*pair, (0, 100_000)[i % 2]) for i, pair in enumerate(zip(ORDERS, ORDERS[2:] + ORDERS[:2], strict=True))]


@pytest.mark.slow
@pytest.mark.parametrize(("installed", "removed", "budget"), COMBINED)
def test_a_third_wrapper_is_installed_and_removed_in_any_order(installed, removed, budget, llama, tokens, train):
    usual, model = llama(), llama()
    optimizers = bcd(usual), bcd(model)
    backend = "aot_eager" if installed[0] == "swapped" else "eager"

    def install(name):
        if name == "compiled":
            return compile_layers(model, backend=backend)
        return recompute_layers(model, budget) if name == "recomputed" else swap_layers(model, optimizers[1])[0]

    def compare(steps):
        losses = [train(m, o, tokens, steps) for m, o in zip((usual, model), optimizers, strict=True)]
        assert losses[0] == losses[1]

    undo = {name: install(name) for name in installed}
    assert [wrapper.name for wrapper in wrappers_of(model)] == ["swapped", "recomputed", "compiled"]
    compare(8)
    assert set(wrappers_of(model)[0].away) == set(range(LAYERS)) - {3}, "the next block epoch has begun"
    assert counters["stats"]["unique_graphs"] == 3 + 2 * bool(budget), "those that there are without a third wrapper"
    assert len(compiled_layers(model).graphs) == 3 + 2 * bool(budget)
    assert counters["recompiles"] == {}
    for name in removed:
        undo[name]()
        assert name not in [wrapper.name for wrapper in wrappers_of(model)]
        compare(1)
    assert all(torch.equal(a, b) for a, b in zip(usual.parameters(), model.parameters(), strict=True))
    assert all("forward" not in vars(layer) for layer in model.model.layers)


def test_a_trial_weighs_what_a_layer_keeps_wherever_its_weights_come_from(llama, tokens):
    usual, model = llama(), llama()
    _, swapped = swap_layers(model, bcd(model))
    for each in (usual, model):
        recompute_layers(each, 200_000)
        each.requires_grad_(False)
        each.model.layers[1].requires_grad_(True)
    swapped.visit(layer_calls(model))
    for each in (usual, model):
        each(input_ids=tokens, labels=tokens).loss.backward()
    assert 0 < len(recomputed_layers(model).kept) < LAYERS - 1
    assert recomputed_layers(model).kept == recomputed_layers(usual).kept
    assert recomputed_layers(model).cost == recomputed_layers(usual).cost


@pytest.mark.parametrize("compiled", [False, True])
def test_backward_brings_the_weights_of_a_recomputed_layer_once_and_in_evaluation_they_are_there(
    compiled, llama, tokens
):
    usual, model = llama(), llama()
    _, swapped = swap_layers(model, bcd(model))
    for each in (usual, model):
        each.requires_grad_(False)
        each.model.layers[1].requires_grad_(True)
    swapped.visit(layer_calls(model))
    recompute_layers(model)
    if compiled:
        compile_layers(model, backend="aot_eager")
    swapped.swaps.clear()
    model(input_ids=tokens, labels=tokens).loss.backward()
    forward = [(way, index) for index in (0, 2, 3) for way in ("in", "out")]
    assert swapped.swaps == [*forward, ("in", 3), ("out", 3), ("in", 2), ("out", 2)]
    usual(input_ids=tokens, labels=tokens).loss.backward()
    for a, b in zip(usual.model.layers[1].parameters(), model.model.layers[1].parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)
    assert torch.equal(usual.eval()(tokens).logits, model.eval()(tokens).logits)


class Noted:
    """Notes its name at every call, before and after the rest."""

    in_evaluation = False

    def __init__(self, name, priority, seen):
        self.name, self.priority, self.seen = name, priority, seen

    def __call__(self, call, args, kwargs, rest):
        self.seen.append(f"{self.name} {call.index}")
        result = rest(args, kwargs)
        self.seen.append(f"/{self.name} {call.index}")
        return result


def test_wrappers_are_called_from_the_lowest_priority_inwards(llama, tokens):
    model, seen = llama(num_hidden_layers=1), []
    calls = layer_calls(model)
    undo = [wrap(model, calls, Noted(name, priority, seen)) for name, priority in (("b", 20), ("c", 99), ("a", 0))]
    model(tokens)
    assert seen == ["a 0", "b 0", "c 0", "/c 0", "/b 0", "/a 0"]
    seen.clear()
    model.eval()(tokens)
    assert seen == [], "in evaluation only what says so"
    undo[0]()
    undo[0]()  # once more does no harm
    model.train()(tokens)
    assert seen == ["a 0", "c 0", "/c 0", "/a 0"]


@pytest.mark.integration
def test_what_is_inside_a_recomputation_is_called_again_by_it(llama, tokens, activate):
    usual, model, seen = llama(), llama(), []
    for each in (usual, model):
        activate(each, 2)
    compile_layers(model, backend="aot_eager")
    recompute_layers(model)
    wrap(model, layer_calls(model), Noted("inside", 60, seen))
    for each in (usual, model):
        each(input_ids=tokens, labels=tokens).loss.backward()
    for a, b in zip(usual.model.layers[2].parameters(), model.model.layers[2].parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)
    assert [name for name in seen if not name.startswith("/")] == [f"inside {i}" for i in (0, 1, 2, 3, 3, 2)]


def test_refusals(llama):
    model = llama()
    calls = layer_calls(model)
    for priority in (-1, INNERMOST + 1):
        with pytest.raises(ValueError, match=f"priority={priority} is not possible: give one from 0 to 100"):
            wrap(model, calls, Noted("note", priority, []))
    assert all("forward" not in vars(layer) for layer in model.model.layers)
    recompute_layers(model)
    with pytest.raises(ValueError, match="the layers of LlamaForCausalLM are recomputed already; undo that first"):
        wrap(model, layer_calls(model), Noted("recomputed", 51, []))
    with pytest.raises(ValueError, match="priority=50 is not possible: recomputed has it"):
        wrap(model, layer_calls(model), Noted("note", 50, []))
