"""The step in a training loop, and options that cannot be."""

import copy

import pytest
import torch
from torch import nn

from bcd import (
    SGD,
    Adam,
    Block,
    BlockCoordinateDescent,
    Cyclic,
    Momentum,
    Partition,
    RandomReshuffle,
    Sign,
    minimise,
)
from tests.bcd.conftest import bcd, loss_of, train, weights
from tests.conftest import RTOL


def test_closure_gives_the_same_steps_as_a_plain_loop(decoder):
    plain, closed = decoder(), decoder()
    train(plain, bcd(plain), 7)
    optimizer = bcd(closed)

    def closure():
        optimizer.zero_grad()
        loss = loss_of(closed)
        loss.backward()
        return loss.item()

    losses = [optimizer.step(closure) for _ in range(7)]
    assert losses[-1] < losses[0]
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), closed.parameters(), strict=True))


def test_learning_rate_of_each_block_and_schedulers(decoder):
    model = decoder()
    optimizer = bcd(model, rule=SGD(), lr=[0.1, 0.0, 0.1], inner_steps=1)
    before = weights(model)
    train(model, optimizer, 3)
    moved = {name.split(".")[1] for name, p in model.named_parameters() if not torch.equal(before[name], p)}
    assert moved == {"0", "2"}
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
    train(model, optimizer, 1)
    scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.0, 0.05]


def test_weight_decay_of_a_block_can_be_overridden(decoder):
    model = decoder()
    optimizer = bcd(model, rule=SGD(weight_decay=0.5), lr=0.1, inner_steps=1)
    optimizer.param_groups[0]["weight_decay"] = 0.0
    for p in optimizer.active_parameters:
        p.grad = torch.zeros_like(p)
    before = weights(model)
    optimizer.step()
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())
    for p in optimizer.active_parameters:
        p.grad = torch.zeros_like(p)
    optimizer.step()
    torch.testing.assert_close(model.layers[1].attention.weight, before["layers.1.attention.weight"] * 0.95)


@pytest.mark.parametrize("nonfinite", ["skip", "raise"])
def test_nonfinite_gradients(nonfinite, decoder):
    model = decoder()
    optimizer = bcd(model, inner_steps=3, nonfinite=nonfinite)
    train(model, optimizer, 1)
    before = weights(model)
    loss_of(model).backward()
    model.layers[0].attention.bias.grad[0] = float("nan")
    if nonfinite == "raise":
        with pytest.raises(FloatingPointError, match=r"layers.0.attention.bias in block 'layers.0' is not finite"):
            optimizer.step()
    else:
        optimizer.step()
        assert optimizer.skipped_steps == 1
        assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())
    assert optimizer.steps_in_visit == 1, "a skipped step is none of the visit's K"


def test_warm_up_after_a_switch(decoder):
    warm, plain = decoder(), decoder()
    train(warm, bcd(warm, rule=SGD(), lr=0.1, inner_steps=4, switch_warmup=2), 3)
    optimizer = bcd(plain, rule=SGD(), lr=0.1, inner_steps=4)
    for factor in (0.5, 1.0, 1.0):
        optimizer.param_groups[0]["lr"] = 0.1 * factor
        train(plain, optimizer, 1)
    assert all(torch.equal(a, b) for a, b in zip(warm.parameters(), plain.parameters(), strict=True))


def test_accumulated_gradients_count_as_one_step_and_do_not_leak(decoder):
    model = decoder()
    optimizer = bcd(model, inner_steps=2)
    for _ in range(4):
        for _ in range(3):
            (loss_of(model) / 3).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert optimizer.visits_started == 3
    loss_of(model).backward()
    assert {name.split(".")[1] for name, p in model.named_parameters() if p.grad is not None} == {"2"}


def test_gradients_from_before_are_cleared(decoder):
    model = decoder()
    loss_of(model).backward()
    bcd(model)
    assert all(p.grad is None for p in model.parameters())


def test_a_copy_with_its_model_goes_on_alike(decoder):
    model = decoder()
    optimizer = bcd(model, order=RandomReshuffle(seed=1), inner_steps=3)
    train(model, optimizer, 4)
    other, copied = copy.deepcopy((model, optimizer))
    train(model, optimizer, 7)
    train(other, copied, 7)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_grad_scaler_with_float32_weights(decoder):
    scaled, plain = decoder(), decoder()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    optimizer = bcd(scaled)
    for _ in range(5):
        scaler.scale(loss_of(scaled)).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    train(plain, bcd(plain), 5)
    for a, b in zip(scaled.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=RTOL["same mathematics in float32"], atol=1e-7)


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "5"])
def test_impossible_inner_steps(value, decoder):
    with pytest.raises(ValueError, match=rf"inner_steps={value!r} is not possible"):
        bcd(decoder(), inner_steps=value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -0.1}, "lr=-0.1 is not possible"),
        ({"lr": float("nan")}, "lr=nan is not possible"),
        ({"lr": float("inf")}, "lr=inf is not possible"),
        ({"lr": [0.1, 0.2]}, "got 2 learning rates for 3 blocks"),
        ({"lr": "fast"}, "lr='fast' is not possible: give one number, or a list with one a block"),
        ({"state": "disk"}, "state='disk' is not one of reset, host, device"),
        ({"master": "yes"}, "master='yes' is not one of off, discard, host"),
        ({"nonfinite": "hope"}, "nonfinite='hope' is not one of ignore, skip, raise"),
        ({"switch_warmup": -1}, "switch_warmup=-1 is not possible"),
        ({"always_active": ["layer.0"]}, r"always_active=\['layer.0'\] names no block; there are layers.0, layers.1"),
        ({"always_active": ["layers.0", "layers.1", "layers.2"]}, "the order has none to draw"),
    ],
)
def test_impossible_options(options, message, decoder):
    with pytest.raises(ValueError, match=message):
        bcd(decoder(), **options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Adam(betas=(1.0, 0.999)), "beta1=1.0 is not possible: it must be a number, at least 0 and below 1"),
        (lambda: Adam(betas=(0.9, -0.1)), "beta2=-0.1 is not possible"),
        (lambda: Adam(eps=-1.0), "eps=-1.0 is not possible"),
        (lambda: Adam(weight_decay=-1.0), "weight_decay=-1.0 is not possible"),
        (lambda: SGD(weight_decay=float("nan")), "weight_decay=nan is not possible"),
        (lambda: SGD(weight_decay="much"), "weight_decay='much' is not possible: it must be a number"),
        (lambda: Momentum(momentum=1.0), "momentum=1.0 is not possible"),
        (lambda: Momentum(momentum=0.0, nesterov=True), "nesterov=True needs a positive momentum"),
        (lambda: Sign(weight_decay=-1.0), "weight_decay=-1.0 is not possible"),
    ],
)
def test_impossible_hyperparameters(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_orders_must_give_possible_visits(decoder):
    class Bad(Cyclic):
        def next_visit(self, num_blocks):
            return (num_blocks,)

    with pytest.raises(ValueError, match=r"the order gave the visit \(3,\)"):
        bcd(decoder(), order=Bad())


def test_groups_cannot_be_added(decoder):
    with pytest.raises(ValueError, match="build a new Partition"):
        bcd(decoder()).add_param_group({"params": [nn.Parameter(torch.zeros(1))]})


def test_minimise_refuses_what_a_trajectory_cannot_show():
    class Both(Cyclic):
        def next_visit(self, num_blocks):
            return (0, 1)

    start = [torch.zeros(1), torch.zeros(1)]
    options = {"rule": SGD(), "inner_steps": 1, "lr": 0.1}
    with pytest.raises(ValueError, match="one block a visit"):
        minimise(lambda x: x[0].sum(), start, order=Both(), visits=1, **options)
    with pytest.raises(ValueError, match="visits=0"):
        minimise(lambda x: x[0].sum(), start, order=Cyclic(), visits=0, **options)


def test_a_partition_by_hand(decoder):
    model = nn.Linear(2, 2)
    partition = Partition((Block("weight", {"weight": model.weight}),), {"bias": model.bias}, {})
    partition.check_covers(model)
    BlockCoordinateDescent(partition, rule=SGD(), order=Cyclic(), inner_steps=1, lr=0.1)
    assert not model.bias.requires_grad
