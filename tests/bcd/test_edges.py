"""Weights, gradients and numbers of unusual kinds: each is used rightly or refused in one line."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from bcd import (
    SGD,
    Adam,
    Block,
    BlockCoordinateDescent,
    Cyclic,
    Fixed,
    Greedy,
    Momentum,
    Partition,
    RandomReshuffle,
    RowNormalised,
    Sign,
    SlidingWindow,
    Uniform,
    Weighted,
    by_layer,
    by_ratio,
)
from bcd.update import Update


def net(layers=3):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(*[nn.Sequential(nn.Linear(3, 3), nn.Tanh()) for _ in range(layers)])


def bcd(partition, **options):
    settings = {"rule": Adam(), "order": Cyclic(), "inner_steps": 2, "lr": 0.1} | options
    return BlockCoordinateDescent(partition, **settings)


def train(model, optimizer, steps):
    for _ in range(steps):
        model(torch.ones(2, 3)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def blocks(**parameters):
    return Partition(tuple(Block(name, {name: p}) for name, p in parameters.items()), {}, {})


def test_a_shorter_visit_set_in_its_middle_ends_with_the_next_step():
    model = net()
    optimizer = bcd(by_layer(model), inner_steps=10)
    train(model, optimizer, 5)
    optimizer.inner_steps = 3
    train(model, optimizer, 1)
    assert (optimizer.visits_started, optimizer.steps_in_visit) == (2, 0)
    train(model, optimizer, 4)
    assert (optimizer.visits_started, optimizer.steps_in_visit) == (3, 1)
    for value in (0, 2.5, True, None):
        with pytest.raises(ValueError, match=f"inner_steps={value!r} is not possible: a visit lasts a whole number"):
            optimizer.inner_steps = value
    assert copy.deepcopy(optimizer).inner_steps == optimizer.inner_steps == 3


def test_the_norm_of_a_complex_gradient_counts_both_parts():
    weight = nn.Parameter(torch.zeros(2, dtype=torch.complex64))
    weight.grad = torch.tensor([5j, 12 + 0j])
    assert Block("a", {"w": weight}).gradient_norm() == 13.0
    small, large = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1, dtype=torch.complex64))
    optimizer = bcd(blocks(small=small, large=large), order=Greedy(), rule=SGD())
    (small.sum() + (large * 5j).real.sum()).backward()
    optimizer.step()
    assert optimizer.active_blocks == (1,)


@pytest.mark.parametrize("rule", [Adam(), SGD(), Momentum(), Sign()], ids=lambda rule: type(rule).__name__)
def test_complex_weights_move(rule):
    weight = nn.Parameter(torch.zeros(1, dtype=torch.complex64))
    optimizer = bcd(blocks(weight=weight), rule=rule)
    (weight * (3 - 4j)).real.sum().backward()
    gradient = weight.grad.clone()
    optimizer.step()
    assert weight.item().real * gradient.item().real < 0
    assert weight.item().imag * gradient.item().imag < 0
    if isinstance(rule, Sign):
        assert weight.item() == pytest.approx(-0.1 * gradient.item() / 5)
    again = bcd(blocks(weight=weight), rule=rule, compiled=True)
    (weight * 1j).real.sum().backward()
    with pytest.raises(ValueError, match="compiled=True is not possible with complex weights"):
        again.step()


@pytest.mark.slow
@pytest.mark.parametrize("master", ["off", "discard"])
def test_a_compiled_update_of_weights_that_are_not_contiguous(master):
    dtype = torch.bfloat16 if master != "off" else torch.float32

    def weights():
        generator = torch.Generator().manual_seed(0)
        transposed = nn.Parameter(torch.randn(3, 4, generator=generator).T.to(dtype))
        picture = torch.randn(2, 3, 4, 5, generator=generator).to(dtype)
        last = nn.Parameter(picture.to(memory_format=torch.channels_last))
        assert not transposed.is_contiguous()
        assert not last.is_contiguous()
        return transposed, last

    results = []
    for compiled in (False, True):
        a, b = weights()
        optimizer = bcd(Partition((Block("both", {"a": a, "b": b}),), {}, {}), master=master, compiled=compiled)
        for _ in range(3):
            (a.float().square().sum() + b.float().square().sum()).backward()
            optimizer.step()
            optimizer.zero_grad()
        assert a.stride() == weights()[0].stride()
        results.append((a.detach().clone(), b.detach().clone()))
    for plain, compiled, start in zip(*results, weights(), strict=True):
        torch.testing.assert_close(compiled, plain, rtol=1e-5 if master == "off" else 2e-2, atol=1e-6)
        assert not torch.equal(compiled, start)


def table(**options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Embedding(4, 3, sparse=True)
    return model, bcd(blocks(weight=model.weight), **options)


@pytest.mark.parametrize("rule", [SGD(), Momentum(), Sign()], ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("nonfinite", ["ignore", "skip", "raise"])
def test_sparse_gradients_of_rules_that_can_use_them(rule, nonfinite):
    results = []
    for sparse in (False, True):
        model, optimizer = table(rule=rule, nonfinite=nonfinite)
        model.sparse = sparse
        for _ in range(3):
            model(torch.tensor([1, 1, 2])).square().sum().backward()
            norm = optimizer.partition.blocks[0].gradient_norm()
            optimizer.step()
            optimizer.zero_grad()
        results.append((model.weight.detach().clone(), norm))
    torch.testing.assert_close(results[0][0], results[1][0])
    assert results[0][1] == pytest.approx(results[1][1])


@pytest.mark.parametrize(
    "options", [{"rule": Adam()}, {"rule": SGD(), "compiled": True}, {"rule": RowNormalised()}], ids=str
)
def test_sparse_gradients_without_arithmetic_are_refused(options):
    model, optimizer = table(**options)
    model(torch.tensor([1])).sum().backward()
    with pytest.raises(ValueError, match=r"the gradient of weight is sparse, which .* make the table without sparse"):
        optimizer.step()


def test_a_sparse_gradient_that_is_not_finite():
    model, optimizer = table(rule=SGD(), nonfinite="skip")
    (model(torch.tensor([1])) * float("inf")).sum().backward()
    optimizer.step()
    assert optimizer.skipped_steps == 1


def test_the_state_is_whole_for_torchs_hooks_and_they_may_change_it():
    model = net()
    optimizer = bcd(by_layer(model))
    train(model, optimizer, 3)
    seen = []
    optimizer.register_state_dict_pre_hook(lambda _: seen.append("pre save"))

    def saved(_, state):
        seen.append(("save", sorted(state), state["visit"]["visits_started"]))
        return {**state, "note": 7}

    optimizer.register_state_dict_post_hook(saved)
    state = optimizer.state_dict()
    assert state["note"] == 7
    other = net()
    other.load_state_dict(model.state_dict())
    resumed = bcd(by_layer(other))

    def before(_, state):
        seen.append(("load", sorted(state), len(state["state"])))
        groups = [{**group, "lr": 0.5} for group in state["param_groups"]]
        return {**state, "param_groups": groups}

    resumed.register_load_state_dict_pre_hook(before)
    resumed.register_load_state_dict_post_hook(lambda o: seen.append(("loaded", o.visits_started, len(o.state))))
    resumed.load_state_dict(state)
    assert seen == [
        "pre save",
        ("save", ["param_groups", "state", "visit"], 2),
        ("load", ["note", "param_groups", "state", "visit"], 2),
        ("loaded", 2, 2),
    ]
    assert resumed.param_groups[0]["lr"] == 0.5
    resumed.load_state_dict(state)
    assert len(seen) == 6, "the hooks are still there"


def test_an_empty_block_can_be_tracked_and_an_empty_tensor_is_in_a_ratio():
    empty, full = nn.Parameter(torch.zeros(0, 3)), nn.Parameter(torch.ones(4, 3))
    optimizer = bcd(blocks(empty=empty, full=full), track_unchanged=True, inner_steps=1)
    for _ in range(2):
        (empty.sum() + full.sum()).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert optimizer.unchanged == {"empty": 1.0, "full": 0.0}
    model = nn.Module()
    model.empty, model.full = empty, full
    partition = by_ratio(model, 2)
    partition.check_covers(model)
    assert "empty" in partition.blocks[-1].parameters


def test_numbers_of_numpy(tmp_path):
    model, usual = net(), net()
    partition = by_layer(model)
    optimizer = bcd(
        partition, lr=np.float32(0.25), inner_steps=np.int64(3), switch_warmup=np.int32(2),
        rule=Adam(betas=(np.float32(0.5), np.float64(0.75)), weight_decay=np.float32(0.5)),
    )  # fmt: skip
    same = bcd(
        by_layer(usual), lr=0.25, inner_steps=3, switch_warmup=2, rule=Adam(betas=(0.5, 0.75), weight_decay=0.5)
    )
    for each, its in ((model, optimizer), (usual, same)):
        train(each, its, 8)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), usual.parameters(), strict=True))
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    torch.load(tmp_path / "state.pt", weights_only=True)
    assert bcd(partition, lr=np.array([0.1, 0.2, 0.3])).param_groups[1]["lr"] == 0.2
    two = np.int64(2)
    for order in (
        Uniform(two, seed=np.int64(0)), RandomReshuffle(np.int32(1)), SlidingWindow(two, two), Greedy(two),
        Fixed([two, [np.int64(0)]]), Weighted(list(np.float32([1, 2, 3])), two),
    ):  # fmt: skip
        torch.save(order.state_dict(), tmp_path / "order.pt")
        torch.load(tmp_path / "order.pt", weights_only=True)
    for bad in (np.float32("nan"), np.bool_(True)):
        with pytest.raises(ValueError, match=r"lr=.* is not possible: it must be a number"):
            bcd(partition, lr=bad)
    with pytest.raises(ValueError, match=r"inner_steps=.* is not possible: a visit lasts a whole number"):
        bcd(partition, inner_steps=np.float64(2))


class Wrapped(nn.Module):
    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        return self.module(x)


WRAPPERS = {
    "DistributedDataParallel": Wrapped,
    "torch.compile": lambda model: torch.compile(model, backend="eager"),
    "both": lambda model: torch.compile(Wrapped(model), backend="eager"),
    "torch.compile of a layer": lambda model: nn.Sequential(
        *[torch.compile(layer, backend="eager") for layer in model]
    ),
}


@pytest.mark.integration
@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("saved_wrapped", [False, True])
def test_a_state_continues_whatever_wraps_the_model(wrapper, saved_wrapped):
    plain, wrapped = net(), WRAPPERS[wrapper](net())
    first, second = (wrapped, plain) if saved_wrapped else (plain, wrapped)
    options = {"always_active": lambda model: [by_layer(model).blocks[2].name], "order": RandomReshuffle(seed=3)}

    def made(model):
        return bcd(by_layer(model), always_active=options["always_active"](model), order=RandomReshuffle(seed=3))

    one = made(first)
    train(first, one, 3)
    two = made(second)
    with torch.no_grad():
        for a, b in zip(second.parameters(), first.parameters(), strict=True):
            a.copy_(b)
    two.load_state_dict(one.state_dict())
    train(first, one, 4)
    train(second, two, 4)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_block_that_spans_devices(dtype):
    """The device "meta" stands for a second GPU: kernels of tensors of two devices raise there too."""
    here = torch.ones(4, 3, dtype=dtype)
    there = torch.ones(5, 3, dtype=dtype, device="meta")
    states = [{}, {}]
    update = Update(Adam(), None)
    both = [here, there]
    for _ in range(2):
        update.step(
            both, [torch.ones_like(w) for w in both], states, 0.1, Adam().hyperparameters(), master=True, active=both
        )
    alone, state = torch.ones(4, 3, dtype=dtype), [{}]
    update = Update(Adam(), None)
    for _ in range(2):
        update.step(
            [alone], [torch.ones_like(alone)], state, 0.1, Adam().hyperparameters(), master=True, active=[alone]
        )
    assert torch.equal(here, alone)
    assert states[1]["exp_avg"].device.type == "meta"
    assert here[0, 0] < 0.9
