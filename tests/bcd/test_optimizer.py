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
    Partition,
    RandomReshuffle,
    by_layer,
    minimise,
    single,
)
from bcd.reference import block_adam, block_sgd
from tests.conftest import RTOL

FREEZE = {"embedding": "freeze", "final_norm": "freeze", "head": "freeze"}
TOKENS = torch.tensor([[1, 2, 3, 4], [4, 3, 2, 0]])


def loss_of(model):
    return nn.functional.cross_entropy(model(TOKENS).flatten(0, 1), TOKENS.flatten())


def train(model, optimizer, steps):
    for _ in range(steps):
        loss_of(model).backward()
        optimizer.step()
        optimizer.zero_grad()


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def bcd(model, **options):
    settings = {"rule": Adam(), "order": Cyclic(), "inner_steps": 2, "lr": 1e-2} | options
    return BlockCoordinateDescent(by_layer(model, **FREEZE), **settings)


# --- reductions ---


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("foreach", [True, False])
@pytest.mark.parametrize(
    ("rule", "full"),
    [(Adam, torch.optim.Adam), (SGD, torch.optim.SGD)],
)
def test_one_block_is_the_full_optimizer_bitwise(rule, full, foreach, decay, decoder):
    ours, theirs = decoder(), decoder()
    optimizer = BlockCoordinateDescent(
        single(ours),
        rule=rule(weight_decay=decay, foreach=foreach),
        order=Cyclic(),
        inner_steps=100,
        lr=1e-2,
    )
    train(ours, optimizer, 20)
    train(theirs, full(theirs.parameters(), lr=1e-2, weight_decay=decay, foreach=foreach), 20)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_fused_adam_is_torchs_fused_adam_bitwise(decoder):
    ours, theirs = decoder(), decoder()
    partition = single(ours)
    optimizer = BlockCoordinateDescent(partition, rule=Adam(fused=True), order=Cyclic(), inner_steps=100, lr=1e-2)
    train(ours, optimizer, 5)
    train(theirs, torch.optim.Adam(theirs.parameters(), lr=1e-2, fused=True), 5)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_cyclic_sgd_with_exact_steps_is_block_gauss_seidel():
    # With scalar blocks and step 1 / A_ii, one step minimises over the block: Gauss-Seidel for A x = b.
    A = torch.tensor([[4.0, 1.0, 0.5], [1.0, 3.0, 0.25], [0.5, 0.25, 2.0]], dtype=torch.float64)
    b = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    steps = minimise(
        lambda x: torch.cat(list(x)) @ A @ torch.cat(list(x)) / 2 - b @ torch.cat(list(x)),
        [torch.zeros(1, dtype=torch.float64)] * 3,
        rule=SGD(),
        order=Cyclic(),
        inner_steps=1,
        lr=(1 / A.diagonal()).tolist(),
        visits=30,
    )
    x = torch.zeros(3, dtype=torch.float64)
    for t, step in enumerate(steps):
        i = t % 3
        x[i] = (b[i] - A[i] @ x + A[i, i] * x[i]) / A[i, i]
        torch.testing.assert_close(torch.cat(step.after), x, rtol=RTOL["float64 against the reference"], atol=1e-15)
    torch.testing.assert_close(A @ x, b, rtol=1e-9, atol=1e-12)


# --- against the reference ---


@pytest.mark.parametrize("order", [Cyclic, RandomReshuffle])
@pytest.mark.parametrize("inner_steps", [1, 2, 5])
@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("rule", [Adam, SGD])
def test_trajectory_equals_the_reference(rule, decay, inner_steps, order):
    generator = torch.Generator().manual_seed(1)
    A = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    A = A @ A.T / 6 + torch.eye(6, dtype=torch.float64)
    start = list(torch.randn(6, generator=generator, dtype=torch.float64).split([1, 2, 3]))

    def f(x):
        y = torch.cat(list(x))
        return y @ A @ y / 2 + torch.cos(y).sum()

    def gradient(i, x):
        y = torch.tensor([number for block in x for number in block], dtype=torch.float64)
        return (A @ y - torch.sin(y)).split([1, 2, 3])[i].tolist()

    steps = minimise(
        f, start, rule=rule(weight_decay=decay), order=order(), inner_steps=inner_steps, lr=0.05, visits=9
    )
    transcribed = {Adam: block_adam, SGD: block_sgd}[rule](
        gradient,
        [block.tolist() for block in start],
        [step.block for step in steps if step.k == 1],
        inner_steps=inner_steps,
        lr=0.05,
        weight_decay=decay,
    )
    assert len(transcribed) == len(steps) == 9 * inner_steps
    for step, iterate in zip(steps, transcribed, strict=True):
        flat = torch.tensor([number for block in iterate for number in block], dtype=torch.float64)
        torch.testing.assert_close(torch.cat(step.after), flat, rtol=RTOL["float64 against the reference"], atol=1e-14)


def test_the_reference_is_exact_in_fractions():
    from fractions import Fraction

    third = Fraction(1, 3)
    iterates = block_sgd(
        lambda i, x: [x[0][0] + x[1][0]], [[Fraction(1)], [Fraction(2)]], [0, 1], inner_steps=1, lr=third
    )
    assert iterates == [[[Fraction(0)], [Fraction(2)]], [[Fraction(0)], [Fraction(4, 3)]]]


# --- visits ---


def test_every_visit_lasts_k_steps_the_first_included(decoder):
    model = decoder()
    optimizer = bcd(model, inner_steps=3)
    active = []
    for _ in range(12):
        active.append(optimizer.active_blocks[0])
        train(model, optimizer, 1)
    assert active == [0, 0, 0, 1, 1, 1, 2, 2, 2, 0, 0, 0]


def test_only_the_active_block_moves_and_only_it_holds_gradients_and_state(decoder):
    model = decoder()
    optimizer = bcd(model, inner_steps=2, order=RandomReshuffle(seed=1))
    for _ in range(8):
        before = weights(model)
        own = set(optimizer.partition.blocks[optimizer.active_blocks[0]].parameters)
        loss_of(model).backward()
        assert {name for name, p in model.named_parameters() if p.grad is not None} == own
        optimizer.step()
        moved = {name for name, p in model.named_parameters() if not torch.equal(before[name], p)}
        assert moved == own
        optimizer.zero_grad()
        assert {id(p) for p in optimizer.state} <= {id(p) for p in optimizer.active_parameters}


def test_a_switch_drops_gradients_and_state(decoder):
    model = decoder()
    optimizer = bcd(model, inner_steps=2)
    loss_of(model).backward()
    optimizer.step()
    assert len(optimizer.state) == len(optimizer.partition.blocks[0].parameters)
    loss_of(model).backward()  # accumulates on top of the gradients that were not cleared
    optimizer.step()
    assert not optimizer.state
    assert all(p.grad is None for p in model.parameters())


def test_autograd_stops_at_the_active_block(decoder):
    model = decoder()
    bcd(model, order=Cyclic())
    hidden = {}
    for i, layer in enumerate(model.layers):
        layer.register_forward_hook(lambda module, args, output, i=i: hidden.__setitem__(i, output.requires_grad))
    optimizer = bcd(model)
    optimizer._end_visit()
    optimizer._start_visit((1,))
    loss_of(model)
    assert hidden == {0: False, 1: True, 2: True}


def test_an_order_may_draw_several_blocks(decoder):
    class Pairs(Cyclic):
        def next_visit(self, num_blocks):
            (i,) = super().next_visit(num_blocks)
            return (i, (i + 1) % num_blocks)

    model = decoder()
    optimizer = bcd(model, order=Pairs(), inner_steps=1)
    before = weights(model)
    train(model, optimizer, 1)
    moved = {name.split(".")[1] for name, p in model.named_parameters() if not torch.equal(before[name], p)}
    assert moved == {"0", "1"}
    assert optimizer.active_blocks == (1, 2)


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


# --- resume ---


@pytest.mark.parametrize("order", [Cyclic, RandomReshuffle])
@pytest.mark.parametrize("rule", [Adam(), SGD()])
@pytest.mark.parametrize("saved_at", [0, 1, 3, 6, 7])
def test_resume_is_bitwise(saved_at, rule, order, decoder, tmp_path):
    model = decoder()
    optimizer = bcd(model, rule=rule, order=order(), inner_steps=3)
    train(model, optimizer, saved_at)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "checkpoint.pt")
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    train(model, optimizer, 11)
    other = decoder()
    resumed = bcd(other, rule=rule, order=order(), inner_steps=3)
    train(other, resumed, 2)  # whatever it did before is replaced
    other.load_state_dict(saved["model"])
    resumed.load_state_dict(saved["optimizer"])
    train(other, resumed, 11)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert resumed.active_blocks == optimizer.active_blocks
    assert resumed.visits_started == optimizer.visits_started


def test_foreign_states_are_refused_and_nothing_changes(decoder):
    optimizer = bcd(decoder())
    before = copy.deepcopy(optimizer.state_dict())
    other = BlockCoordinateDescent(by_layer(decoder()), rule=Adam(), order=Cyclic(), inner_steps=2, lr=0.1)
    with pytest.raises(
        ValueError, match=r"another partition: it has the blocks \['embedding', 'final_norm', 'head'\]"
    ):
        optimizer.load_state_dict(other.state_dict())
    with pytest.raises(ValueError, match="inner_steps=5, here it is 2"):
        optimizer.load_state_dict(bcd(decoder(), inner_steps=5).state_dict())
    with pytest.raises(ValueError, match="not saved by BlockCoordinateDescent"):
        optimizer.load_state_dict(torch.optim.SGD(decoder().parameters(), lr=0.1).state_dict())
    assert optimizer.state_dict()["visit"] == before["visit"]


# --- refusals ---


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
    ],
)
def test_impossible_learning_rates(options, message, decoder):
    with pytest.raises(ValueError, match=message):
        bcd(decoder(), **options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Adam(betas=(1.0, 0.999)), "beta1=1.0 is not possible: it must be at least 0 and below 1"),
        (lambda: Adam(betas=(0.9, -0.1)), "beta2=-0.1 is not possible"),
        (lambda: Adam(eps=-1.0), "eps=-1.0 is not possible"),
        (lambda: Adam(weight_decay=-1.0), "weight_decay=-1.0 is not possible"),
        (lambda: SGD(weight_decay=float("nan")), "weight_decay=nan is not possible"),
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
