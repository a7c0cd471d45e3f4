"""What is kept of a block: its state, and the exact master of its weights."""

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
    Sign,
    precision,
    single,
)
from tests.bcd.conftest import bcd, loss_of, round_half_up, train


@pytest.mark.parametrize("lifetime", ["reset", "host", "device"])
def test_lifetime_of_state(lifetime, decoder):
    model = decoder()
    optimizer = bcd(model, inner_steps=2, state=lifetime)
    train(model, optimizer, 6)  # a whole block epoch
    weight = model.layers[0].attention.weight
    loss_of(model).backward()
    optimizer.step()
    assert optimizer.state[weight]["step"] == (1 if lifetime == "reset" else 3)
    assert len(optimizer.state) == (10 if lifetime == "reset" else 30)


def test_kept_state_with_one_block_visited_again_is_full_adam(decoder):
    ours, theirs = decoder(), decoder()
    optimizer = BlockCoordinateDescent(single(ours), rule=Adam(), order=Cyclic(), inner_steps=3, lr=1e-2, state="host")
    train(ours, optimizer, 10)
    train(theirs, torch.optim.Adam(theirs.parameters(), lr=1e-2), 10)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


@pytest.mark.parametrize("rule", [Adam(), SGD(), Momentum()])
@pytest.mark.parametrize("master", ["discard", "host"])
def test_master_is_a_float32_master_with_the_same_rounding(master, rule, decoder):
    model, plain = decoder().bfloat16(), decoder().bfloat16()
    optimizer = bcd(model, rule=rule, inner_steps=3, lr=1e-3, master=master)
    full: dict[str, torch.Tensor] = {}  # the plain float32 masters
    states: dict[str, dict] = {}
    for step in range(18):
        if step % 3 == 0:
            layer = f"layers.{step // 3 % 3}."
            states = {}
            for name, p in plain.named_parameters():
                if name.startswith(layer) and (master == "discard" or name not in full):
                    full[name] = p.detach().float()
        plain.zero_grad()
        loss_of(plain).backward()
        with torch.no_grad():
            for name, p in plain.named_parameters():
                if name.startswith(layer):
                    (state,) = [states.setdefault(name, rule.init([full[name]])[0])]
                    rule.update([full[name]], [p.grad.float()], [state], 1e-3, rule.hyperparameters())
                    p.copy_(round_half_up(full[name]))
        train(model, optimizer, 1)
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), plain.parameters(), strict=True)), step
    remainders = [v["remainder"] for v in optimizer.state.values() if "remainder" in v]
    assert len(remainders) == (30 if master == "host" else 0)
    assert all(r.dtype == torch.int16 for r in remainders)


def test_bytes_with_a_master_are_twelve_a_weight(decoder):
    model = decoder().bfloat16()
    optimizer = bcd(model, inner_steps=3, master="discard")
    loss_of(model).backward()
    optimizer.step()
    numel = optimizer.partition.blocks[0].numel
    state = sum(t.numel() * t.element_size() for v in optimizer.state.values() for t in v.values())
    assert state == numel * (4 + 4 + 2) + 4 * 10  # m, v, remainder, and a step counter a tensor; weights are 2 more
    train(model, optimizer, 2)
    assert not optimizer.state, "freed at the switch"


def test_small_steps_are_lost_without_a_master_and_kept_with_one():
    def unchanged(**options):
        weight = (torch.randn(20_000, generator=torch.Generator().manual_seed(0)) * 0.02).bfloat16()
        parameter = nn.Parameter(weight)
        optimizer = BlockCoordinateDescent(
            Partition((Block("w", {"w": parameter}),), {}, {}),
            rule=Sign(), order=Cyclic(), inner_steps=100, lr=1e-6, track_unchanged=True, **options,
        )  # fmt: skip
        for _ in range(100):
            parameter.grad = torch.ones_like(parameter)
            optimizer.step()
        return optimizer.unchanged["w"]

    # A step of 1e-6 is below half the spacing of bfloat16 numbers around 0.02, so the sum of 100 steps never arrives.
    assert unchanged() > 0.9
    assert unchanged(master="discard") < 0.2


def test_a_master_works_in_chunks(decoder, monkeypatch):
    whole, pieces = decoder().bfloat16(), decoder().bfloat16()
    train(whole, bcd(whole, master="host"), 7)
    monkeypatch.setitem(precision.CHUNK, "cpu", 20)
    train(pieces, bcd(pieces, master="host"), 7)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), pieces.parameters(), strict=True))
