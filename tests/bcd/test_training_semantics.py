"""What a training loop may do around a step: scale the loss, clip, accumulate, pass a closure."""

import pytest
import torch
from torch import nn

from bcd import SGD, Adam, BlockCoordinateDescent, Cyclic, by_layer, single
from tests.conftest import RTOL

FREEZE = {"embedding": "freeze", "final_norm": "freeze", "head": "freeze"}
TOKENS = torch.tensor([[1, 2, 3, 4], [4, 3, 2, 0]])


def loss_of(model, rows=slice(None)):
    return nn.functional.cross_entropy(model(TOKENS[rows]).flatten(0, 1), TOKENS[rows].flatten())


def bcd(model, **options):
    settings = {"rule": Adam(), "order": Cyclic(), "inner_steps": 2, "lr": 1e-2} | options
    return BlockCoordinateDescent(by_layer(model, **FREEZE), **settings)


def scaled_step(model, optimizer, scaler):
    with torch.autocast("cpu", dtype=torch.float16):
        loss = loss_of(model)
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()


def test_grad_scaler_under_float16_autocast_is_that_of_the_full_optimizer(decoder):
    ours, theirs = decoder(), decoder()
    optimizer = BlockCoordinateDescent(single(ours), rule=Adam(), order=Cyclic(), inner_steps=100, lr=1e-2)
    plain = torch.optim.Adam(theirs.parameters(), lr=1e-2)
    scalers = [torch.amp.GradScaler("cpu", init_scale=2.0**40, growth_interval=4) for _ in range(2)]
    for _ in range(40):
        scaled_step(ours, optimizer, scalers[0])
        scaled_step(theirs, plain, scalers[1])
    assert scalers[0].get_scale() == scalers[1].get_scale() < 2.0**40, "it overflowed and went down"
    assert 0 < optimizer.steps_in_visit < 40
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_an_overflow_is_no_step_of_the_visit(decoder):
    model = decoder()
    optimizer = bcd(model, inner_steps=1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**60)
    before = [p.detach().clone() for p in model.parameters()]
    scaled_step(model, optimizer, scaler)
    assert scaler.get_scale() == 2.0**59
    assert (optimizer.visits_started, optimizer.active_blocks, len(optimizer.state)) == (1, (0,), 0)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_float16_weights_are_refused(decoder):
    with pytest.raises(ValueError, match=r"layers.0.attention.weight is float16, in which updates .* underflow"):
        bcd(decoder().half())
    model = decoder()
    model.embed.half()  # frozen weights may have any dtype
    bcd(model)


def test_clipping_the_active_parameters_is_clipping_the_model(decoder):
    model = decoder()
    optimizer = bcd(model, rule=SGD(), lr=1.0)
    for _ in range(4):
        before = [p.detach().clone() for p in optimizer.active_parameters]
        moved = optimizer.active_parameters
        loss_of(model).backward()
        whole = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).norm()
        norm = nn.utils.clip_grad_norm_(moved, 0.01)
        torch.testing.assert_close(norm, whole, rtol=RTOL["same mathematics in float32"], atol=0)
        assert norm > 0.01
        optimizer.step()
        optimizer.zero_grad()
        change = torch.cat([(a - b).flatten() for a, b in zip(before, moved, strict=True)]).norm().item()
        # A difference of weights of size 1 in float32 has an absolute error of 1e-7, here of a norm of 1e-2.
        assert change == pytest.approx(0.01, rel=1e-4)


def test_partial_gradients_end_with_the_visit(decoder):
    accumulated, plain = decoder(), decoder()
    optimizer, other = bcd(accumulated, inner_steps=1), bcd(plain, inner_steps=1)
    for _ in range(5):
        for rows in (slice(0, 1), slice(1, 2)):
            (loss_of(accumulated, rows) / 2).backward()
        optimizer.step()  # nobody clears the gradients: the switch does
        assert all(p.grad is None for p in accumulated.parameters())
        loss_of(plain).backward()
        other.step()
        other.zero_grad()
    for a, b in zip(accumulated.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=RTOL["same mathematics in float32"], atol=1e-5)


def test_a_closure_may_return_the_loss_tensor_and_runs_once_a_step(decoder):
    model = decoder()
    optimizer = bcd(model)
    calls = 0

    def closure():
        nonlocal calls
        calls += 1
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()
        return loss

    with torch.no_grad():  # as torch.optim.LBFGS, the step turns gradients on for its closure
        losses = [optimizer.step(closure) for _ in range(7)]
    assert calls == 7
    assert all(isinstance(loss, torch.Tensor) and loss.ndim == 0 for loss in losses)
    assert losses[-1] < losses[0]
    assert optimizer.visits_started == 4
