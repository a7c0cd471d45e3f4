"""Settings in which block coordinate descent is a method that is known."""

import torch

from bcd import (
    SGD,
    Adam,
    AdamW,
    BlockCoordinateDescent,
    Cyclic,
    Fixed,
    Momentum,
    Sign,
    by_layer,
    by_ratio,
    minimise,
    single,
)
from tests.bcd.conftest import loss_of, train, weights
from tests.conftest import RTOL
from tests.cover import crossed

RULES = {
    "adam": (Adam, torch.optim.Adam, {"eps": 1e-6, "betas": (0.8, 0.95)}),
    "adamw": (AdamW, torch.optim.AdamW, {}),
    "sgd": (SGD, torch.optim.SGD, {}),
    "heavy ball": (Momentum, torch.optim.SGD, {"momentum": 0.9}),
    "nesterov": (Momentum, torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
}


@crossed(pair=RULES, kernel=[{"foreach": True}, {"foreach": False}, {"fused": True}], decay=[0.0, 0.1])
def test_one_block_is_the_full_optimizer_bitwise(pair, kernel, decay, decoder):
    rule, full, options = pair
    ours, theirs = decoder(), decoder()
    settings = {**options, **kernel, "weight_decay": decay}
    optimizer = BlockCoordinateDescent(single(ours), rule=rule(**settings), order=Cyclic(), inner_steps=100, lr=1e-2)
    train(ours, optimizer, 20)
    train(theirs, full(theirs.parameters(), lr=1e-2, **settings), 20)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_sign_moves_every_weight_with_a_gradient_by_lr(decoder):
    model = decoder()
    optimizer = BlockCoordinateDescent(single(model), rule=Sign(), order=Cyclic(), inner_steps=9, lr=0.25)
    before = weights(model)
    loss_of(model).backward()
    signs = {name: p.grad.sign() for name, p in model.named_parameters()}
    optimizer.step()
    assert all(torch.equal(p, before[name] - 0.25 * signs[name]) for name, p in model.named_parameters())


def test_always_active_everything_but_one_block_trains_all_in_one_visit(decoder):
    ours, theirs = decoder(), decoder()
    partition = by_layer(ours)
    others = [block.name for block in partition.blocks[1:]]
    optimizer = BlockCoordinateDescent(
        partition, rule=Adam(), order=Cyclic(), inner_steps=100, lr=1e-2, always_active=others
    )
    train(ours, optimizer, 10)
    train(theirs, torch.optim.Adam(theirs.parameters(), lr=1e-2), 10)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_always_active_everything_but_two_is_full_training_without_the_block_that_is_never_drawn(decoder):
    ours, theirs = decoder(), decoder()
    partition = by_layer(ours)
    others = [block.name for block in partition.blocks if block.name not in ("layers.0", "layers.2")]
    optimizer = BlockCoordinateDescent(
        partition, rule=Adam(), order=Fixed([1]), inner_steps=100, lr=1e-2, always_active=others
    )
    train(ours, optimizer, 10)
    theirs.layers[0].requires_grad_(False)
    train(theirs, torch.optim.Adam([p for p in theirs.parameters() if p.requires_grad], lr=1e-2), 10)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))
    start = decoder().layers[0].state_dict()
    assert all(torch.equal(value, start[name]) for name, value in ours.layers[0].state_dict().items())


def test_rows_of_one_part_are_the_full_optimizer_bitwise(decoder):
    ours, theirs = decoder(), decoder()
    optimizer = BlockCoordinateDescent(by_ratio(ours, 1), rule=Adam(), order=Cyclic(), inner_steps=100, lr=1e-2)
    train(ours, optimizer, 10)
    train(theirs, torch.optim.Adam(theirs.parameters(), lr=1e-2), 10)
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
