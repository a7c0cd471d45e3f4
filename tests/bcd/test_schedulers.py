"""Learning-rate schedulers: what a scheduler shows is what the step uses, read back from the change of the weights."""

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, OneCycleLR, ReduceLROnPlateau
from transformers import get_cosine_schedule_with_warmup

from bcd import SGD, Adam, BlockCoordinateDescent, RandomReshuffle, by_layer

FREEZE = {"embedding": "freeze", "final_norm": "freeze", "head": "freeze"}
STEPS = 9
SCHEDULERS = {
    "lambda, one function a block": lambda o: LambdaLR(o, [lambda t, b=b: (t + 1) / (b + 2) for b in range(3)]),
    "one cycle": lambda o: OneCycleLR(o, max_lr=[0.1, 0.2, 0.3], total_steps=STEPS + 1, cycle_momentum=False),
    "cosine": lambda o: CosineAnnealingLR(o, T_max=STEPS),
    "plateau": lambda o: ReduceLROnPlateau(o, factor=0.5, patience=0),
    "transformers' cosine with warm-up": lambda o: get_cosine_schedule_with_warmup(o, 2, STEPS),
}


def made(decoder, **options):
    model = decoder().double()  # (before - after) / g recovers the step size to 1e-9 in float64
    settings = {"rule": SGD(), "order": RandomReshuffle(seed=0), "inner_steps": 2, "lr": [0.1, 0.2, 0.4]} | options
    return model, BlockCoordinateDescent(by_layer(model, **FREEZE), **settings)


def step_size(model, optimizer):
    """Take a step with gradient one everywhere; SGD's rule x <- x - lr g then gives lr away, weight by weight."""
    before = [p.detach().clone() for p in optimizer.active_parameters]
    moved = optimizer.active_parameters
    for parameter in moved:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    sizes = torch.cat([(old - new.detach()).flatten() for old, new in zip(before, moved, strict=True)])
    torch.testing.assert_close(sizes, sizes[:1].expand_as(sizes), rtol=1e-9, atol=1e-12)
    return sizes[0].item()


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_shown_lr_of_the_active_block_is_the_used_one(name, decoder):
    model, optimizer = made(decoder)
    scheduler = SCHEDULERS[name](optimizer)
    seen = set()
    for t in range(STEPS):
        (active,) = optimizer.active_blocks
        shown = scheduler.get_last_lr()
        assert shown == [group["lr"] for group in optimizer.param_groups]
        assert step_size(model, optimizer) == pytest.approx(shown[active], rel=1e-9, abs=1e-12)
        assert optimizer.used_lr == {optimizer.partition.blocks[active].name: shown[active]}
        seen.add(shown[active])
        scheduler.step(*([1.0 + t] if name == "plateau" else []))  # a loss that grows
    assert len(seen) >= 5, "the schedule moved"


def test_warm_up_after_a_switch_multiplies_the_shown_lr(decoder):
    model, optimizer = made(decoder, inner_steps=4, switch_warmup=3)
    scheduler = LambdaLR(optimizer, lambda t: 1 / (t + 1))
    for t in range(8):
        (active,) = optimizer.active_blocks
        shown = scheduler.get_last_lr()[active]
        expected = shown * min(1.0, (t % 4 + 1) / 3)
        assert step_size(model, optimizer) == pytest.approx(expected, rel=1e-9)
        assert optimizer.used_lr == {optimizer.partition.blocks[active].name: pytest.approx(expected, rel=1e-15)}
        scheduler.step()


def test_each_block_uses_its_own_hyperparameters(decoder):
    hyperparameters = [
        {"lr": 1e-2, "betas": (0.9, 0.999), "weight_decay": 0.0, "eps": 1e-8},
        {"lr": 2e-2, "betas": (0.5, 0.9), "weight_decay": 0.1, "eps": 1e-4},
        {"lr": 5e-3, "betas": (0.0, 0.99), "weight_decay": 0.3, "eps": 1e-6},
    ]
    (model, optimizer), (other, _) = made(decoder, rule=Adam(), inner_steps=3), made(decoder)
    for group, values in zip(optimizer.param_groups, hyperparameters, strict=True):
        group.update(values)
    generator = torch.Generator().manual_seed(0)
    for _ in range(6):
        (active,) = optimizer.active_blocks
        layer = other.layers[active]
        plain = torch.optim.Adam(layer.parameters(), **hyperparameters[active])
        for _ in range(3):
            for ours, theirs in zip(optimizer.active_parameters, layer.parameters(), strict=True):
                ours.grad = torch.randn(ours.shape, generator=generator, dtype=ours.dtype)
                theirs.grad = ours.grad.clone()
            optimizer.step()
            plain.step()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
