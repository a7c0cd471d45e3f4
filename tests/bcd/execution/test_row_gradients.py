"""Weight gradients of the active rows alone: the bits of whole ones, less arithmetic and memory, clear refusals."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from bcd import (
    SGD,
    Adam,
    BlockCoordinateDescent,
    Cyclic,
    Expansion,
    Greedy,
    RandomReshuffle,
    Sign,
    SlidingWindow,
    by_layer,
    by_ratio,
)
from bcd.execution import Execution, recompute_layers, sliced_bytes, sliced_gradients
from bcd.execution.row_gradients import SlicedLinear
from bcd.memory import measured_held
from bcd.memory.activations import LivePeak
from tests.cover import crossed, tiered

FREEZE = {"embedding": "freeze", "final_norm": "freeze", "head": "freeze"}


def bcd(model, parts=3, partition=None, **options):
    settings = {"rule": Adam(), "order": RandomReshuffle(seed=1), "inner_steps": 2, "lr": 1e-2} | options
    return BlockCoordinateDescent(partition or by_ratio(model, parts, **FREEZE), **settings)


def backward(model, tokens):
    model(input_ids=tokens, labels=tokens).loss.backward()


def train(model, optimizer, tokens, steps):
    for _ in range(steps):
        backward(model, tokens)
        optimizer.step()
        model.zero_grad()  # as transformers.Trainer does


def equal(one, two):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


CASES = {
    "adam": {},
    "sgd": {"rule": SGD()},
    "more parts than the keys have rows": {"rule": Sign(), "parts": 24},
    "kept state and master": {"master": "host", "state": "host"},
}


@crossed(case=list(CASES), dtype=[torch.float32, torch.bfloat16], recompute=[None, 0], tied=[False, True])
def test_bitwise_whole_gradients(case, dtype, recompute, tied, llama, tokens):
    usual, model = llama(dtype, tied), llama(dtype, tied)
    one, two = (bcd(each, **copy.deepcopy(CASES[case])) for each in (usual, model))
    if recompute is not None:
        recompute_layers(model, recompute)
    sliced_gradients(model, two)
    for _ in range(7):
        train(usual, one, tokens, 1)
        train(model, two, tokens, 1)
        assert equal(usual, model)
    assert one.visits_started == two.visits_started == 4


def test_unequal_parts_differ_by_the_rounding_of_products(llama, tokens):
    usual, model = llama(), llama()
    one, two = bcd(usual, parts=5, rule=SGD()), bcd(model, parts=5, rule=SGD())
    sliced_gradients(model, two)
    train(usual, one, tokens, 10)
    train(model, two, tokens, 10)
    for a, b in zip(usual.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_the_gradient_is_that_of_the_active_rows(llama, tokens):
    usual, model = llama(), llama()
    optimizers = [bcd(each, order=Cyclic()) for each in (usual, model)]
    sliced_gradients(model, optimizers[1])
    for active in range(3):
        for each in (usual, model):
            backward(each, tokens)
        parts = zip(*(o.partition.blocks[active].parts for o in optimizers), strict=True)
        matrices = 0
        for whole, part in parts:
            gradient = part.parameter.grad
            assert torch.equal(part.of(gradient), whole.of(whole.parameter.grad))
            assert gradient.is_sparse == (gradient.ndim == 2)
            if gradient.is_sparse:
                assert gradient.indices().squeeze(0).tolist() == list(range(*part.rows))
                matrices += 1
        assert matrices == 7 * 4
        expected = sliced_bytes(model, optimizers[1].partition.blocks[active].parts)
        assert measured_held(model.parameters(), optimizers[1]).gradients == expected
        for optimizer in optimizers:
            assert optimizer.partition.blocks[active].gradient_norm() > 0
            optimizer.step()
            optimizer.step()
            optimizer.zero_grad()


def test_a_step_computes_and_holds_less():
    model = nn.Sequential(*(nn.Linear(64, 64, bias=False) for _ in range(8)))
    x = torch.ones(32, 64, requires_grad=True)
    flops, peaks = [], []
    for sliced in (False, True):
        optimizer = bcd(model, partition=by_ratio(model, 8), rule=SGD())
        undo = sliced_gradients(model, optimizer) if sliced else None
        with FlopCounterMode(display=False) as counter, LivePeak() as live:
            model(x).sum().backward()
        flops.append(counter.get_total_flops())
        peaks.append(live.peak)
        optimizer.zero_grad()
        if undo is not None:
            undo()
    product = 2 * 32 * 64 * 64 * 8
    assert flops == [3 * product, 2 * product + product // 8]
    assert peaks[1] < peaks[0] / 2


@pytest.mark.parametrize("halves", [2, 3])
def test_accumulated_gradients_are_sums(halves, llama, tokens):
    usual, model = llama(), llama()
    one, two = bcd(usual), bcd(model)
    sliced_gradients(model, two)
    for each, optimizer in ((usual, one), (model, two)):
        for _ in range(3):
            for part in tokens.split([1] * halves + [3 - halves] * (halves < 3)):
                backward(each, part)
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)  # which leaves a sparse tensor without entries
    for a, b in zip(usual.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_a_weight_that_something_else_uses_has_both_gradients(llama):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.map = nn.Linear(6, 6, bias=False)

        def forward(self, x):
            return self.map(x) + nn.functional.linear(x.square(), self.map.weight)

    with torch.random.fork_rng():
        torch.manual_seed(0)
        usual = nn.Sequential(Twice(), nn.Tanh(), Twice())
    model = copy.deepcopy(usual)
    optimizers = [bcd(each, partition=by_ratio(each, 3)) for each in (usual, model)]
    sliced_gradients(model, optimizers[1])
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    for _ in range(5):
        for each, optimizer in zip((usual, model), optimizers, strict=True):
            each(x).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    for a, b in zip(usual.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(a, b)


COMPILED = [("aot_eager", None), ("aot_eager", "bfloat16"), ("inductor", "bfloat16")]


@pytest.mark.integration
@pytest.mark.parametrize(("backend", "autocast"), tiered(COMPILED, COMPILED[1:2]))
def test_with_compiled_layers(backend, autocast, llama, tokens):
    models = [llama(num_hidden_layers=2) for _ in range(2)]
    for model, gradients in zip(models, ("whole", "sliced"), strict=True):
        optimizer = bcd(model, parts=5, rule=SGD())
        execution = Execution(compiled=True, backend=backend, row_gradients=gradients, autocast=autocast)
        undo = execution(model, optimizer)
        for _ in range(10):
            with execution.autocasting(torch.device("cpu")):
                loss = model(input_ids=tokens, labels=tokens).loss
            loss.backward()
            assert model.model.layers[1].mlp.up_proj.weight.grad.is_sparse == (gradients == "sliced")
            optimizer.step()
            optimizer.zero_grad()
        undo()
    for a, b, start in zip(
        *(model.parameters() for model in models), llama(num_hidden_layers=2).parameters(), strict=True
    ):
        assert (a - b).norm() <= (0.05 if autocast else 1e-4) * (a - start).norm()


def test_resumes_exactly_and_undoes(llama, tokens):
    usual, first, second = llama(), llama(), llama()
    train(usual, bcd(usual), tokens, 7)
    optimizer = bcd(first)
    undo = sliced_gradients(first, optimizer)
    train(first, optimizer, tokens, 3)
    resumed = bcd(second, order=RandomReshuffle(seed=5))
    sliced_gradients(second, resumed)
    second.load_state_dict(first.state_dict())
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(second, resumed, tokens, 4)
    assert equal(usual, second)
    undo()
    assert not any(isinstance(module, SlicedLinear) for module in first.modules())
    backward(first, tokens)
    assert not any(p.grad.is_sparse for p in first.parameters() if p.grad is not None)
    optimizer.step()
    optimizer.zero_grad()
    train(first, optimizer, tokens, 3)
    assert equal(usual, first)


def test_a_copy_has_whole_gradients(llama, tokens):
    model = llama()
    optimizer = bcd(model)
    sliced_gradients(model, optimizer)
    train(model, optimizer, tokens, 1)
    twin, again = copy.deepcopy((model, optimizer))
    train(model, optimizer, tokens, 3)
    train(twin, again, tokens, 3)
    assert equal(model, twin)


def test_clipping_is_the_optimizers(llama, tokens):
    usual, model = llama(), llama()
    one, two = bcd(usual), bcd(model)
    sliced_gradients(model, two)
    for each in (usual, model):
        backward(each, tokens)
    norms = [optimizer.clip_grad_norm_(1e-3) for optimizer in (one, two)]
    assert norms[0] == norms[1] > 1e-3
    for optimizer in (one, two):
        optimizer.step()
    assert equal(usual, model)
    backward(model, tokens)
    with pytest.raises(NotImplementedError):
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    with pytest.raises(ValueError, match=r"max_norm=-1.0 is not possible"):
        two.clip_grad_norm_(-1.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m: bcd(m, partition=by_layer(m, **FREEZE)), "LlamaForCausalLM has no torch.nn.Linear of whose weight"),
        (lambda m: bcd(m, order=SlidingWindow(2)), "the order draws several blocks a visit"),
        (lambda m: bcd(m, order=Greedy()), "the order asks for the gradients of all blocks"),
        (lambda m: bcd(m, always_active=["part 0 of 3"]), r"always_active=\['part 0 of 3'\] trains several"),
        (lambda m: bcd(m, expansion=Expansion(Sign())), "an expansion moves the other rows too"),
        (lambda m: torch.optim.SGD(m.parameters()), "optimizer=SGD is not possible: only BlockCoordinateDescent"),
    ],
)
def test_what_needs_other_gradients_is_refused(make, message, llama):
    model = llama()
    with pytest.raises(ValueError, match=message):
        Execution(row_gradients="sliced")(model, make(model))
    assert not any(isinstance(module, SlicedLinear) for module in model.modules())


def test_impossible_combinations_are_refused(llama):
    with pytest.raises(ValueError, match=r"row_gradients='sliced' with step_in_backward=True is not possible"):
        Execution(row_gradients="sliced", step_in_backward=True)
    with pytest.raises(ValueError, match="row_gradients='some' is not one of whole, sliced"):
        Execution(row_gradients="some")
    model = llama()
    sliced_gradients(model, bcd(model))
    with pytest.raises(ValueError, match="LlamaForCausalLM has sliced gradients already; undo that first"):
        sliced_gradients(model, bcd(model))


def test_nothing_is_kept_of_a_model_that_is_gone(llama, tokens):
    import gc
    import weakref

    model = llama()
    optimizer = bcd(model)
    sliced_gradients(model, optimizer)
    train(model, optimizer, tokens, 1)
    gone = weakref.ref(model.model.layers[0].mlp.up_proj.weight)
    del model, optimizer
    gc.collect()
    assert gone() is None
