"""Which blocks a visit trains, and that nothing else moves."""

import torch

from bcd import (
    Adam,
    AdamW,
    BlockCoordinateDescent,
    Cyclic,
    Fixed,
    Greedy,
    RandomReshuffle,
    Uniform,
    by_layer,
    by_ratio,
)
from tests.bcd.conftest import FREEZE, bcd, loss_of, train, weights


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
        of_block = set(optimizer.partition.blocks[optimizer.active_blocks[0]].parameters)
        loss_of(model).backward()
        assert {name for name, p in model.named_parameters() if p.grad is not None} == of_block
        optimizer.step()
        moved = {name for name, p in model.named_parameters() if not torch.equal(before[name], p)}
        assert moved == of_block
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
    hidden = {}
    for i, layer in enumerate(model.layers):
        layer.register_forward_hook(lambda module, args, output, i=i: hidden.__setitem__(i, output.requires_grad))
    train(model, bcd(model, order=Fixed([0, 1]), inner_steps=1), 1)
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


def test_lisa_is_a_cell_of_partition_order_and_rule(decoder):
    model = decoder(layers=4)
    optimizer = BlockCoordinateDescent(
        by_layer(model, final_norm="freeze"),
        rule=AdamW(),
        order=Uniform(count=2, seed=0),
        inner_steps=2,
        lr=1e-2,
        always_active=["embedding", "head"],
    )
    for _ in range(3):
        before = weights(model)
        active = {optimizer.partition.blocks[i].name for i in optimizer.active_blocks}
        assert {"embedding", "head"} < active
        assert len(active) == 4
        train(model, optimizer, 2)
        moved = {name for name, p in model.named_parameters() if not torch.equal(before[name], p)}
        of_blocks = {n for block in optimizer.partition.blocks if block.name in active for n in block.parameters}
        assert moved == of_blocks
    assert optimizer.state[model.embed.weight]["step"] == 6, "the state of what is always active is never reset"


def test_greedy_takes_the_block_with_the_largest_gradient(decoder):
    model, probe = decoder(), decoder()
    optimizer = bcd(model, order=Greedy(), inner_steps=2)
    for visit in range(4):
        probe.load_state_dict(model.state_dict())
        probe.zero_grad()
        loss_of(probe).backward()
        norms = [sum(p.grad.square().sum() for p in layer.parameters()) for layer in probe.layers]
        before = weights(model)
        train(model, optimizer, 2)
        moved = {int(name.split(".")[1]) for name, p in model.named_parameters() if not torch.equal(before[name], p)}
        assert moved == {max(range(3), key=lambda i: norms[i])}
        assert optimizer.full_backwards == visit + 1


def test_rows_of_every_tensor_move_and_no_others(decoder):
    model = decoder()
    partition = by_ratio(model, 2, **FREEZE)
    optimizer = BlockCoordinateDescent(partition, rule=Adam(), order=Cyclic(), inner_steps=2, lr=1e-2)
    for block in partition.blocks:
        before = weights(model)
        loss_of(model).backward()
        optimizer.step()
        held = sum(t.numel() for v in optimizer.state.values() for rows in v.values() for t in rows.values())
        assert held == sum(2 * part.numel + 1 for part in block.parts)
        optimizer.zero_grad()
        train(model, optimizer, 1)
        for part in block.parts:
            moved = (part.parameter != before[part.name]).reshape(part.parameter.shape[0], -1).any(dim=1)
            assert moved.nonzero().flatten().tolist() == list(range(*part.rows))
