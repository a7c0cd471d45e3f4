"""Bytes held during a visit: predicted, against the live tensors, in every category."""

import pytest
import torch

from bcd import (
    SGD,
    Adam,
    AdamW,
    BlockCoordinateDescent,
    Cyclic,
    Factored,
    Momentum,
    Orthogonalised,
    Part,
    RowNormalised,
    Sign,
    SlidingWindow,
    by_layer,
    single,
)
from bcd.memory import Held, held, measured_held
from tests.bcd.memory.conftest import PARTITIONS, backward, split_parts
from tests.cover import crossed


def check_every_visit(model, optimizer):
    """After one block epoch, in the middle of each visit: what is held is what `held` says."""
    rule = optimizer.rule
    for step in range(2 * 2 * optimizer.num_blocks):
        backward(model)
        active, visited = split_parts(optimizer)
        optimizer.step()
        if step >= 2 * optimizer.num_blocks and step % 2 == 0:
            predicted = held(
                model.parameters(),
                active,
                visited,
                state_tensors=rule.state_tensors,
                counts_steps=rule.counts_steps,
                state_shapes=getattr(rule, "state_shapes", None),
                state=optimizer.state_lifetime,
                master=optimizer.master,
            )
            assert measured_held(model.parameters(), optimizer) == predicted
        optimizer.zero_grad()


@crossed(
    make=PARTITIONS,
    state=["reset", "host", "device"],
    master=["off", "discard", "host"],
    dtype=[torch.float32, torch.bfloat16],
)
def test_every_lifetime_holds_what_is_predicted(make, state, master, dtype, decoder):
    model = decoder().to(dtype)
    optimizer = BlockCoordinateDescent(
        make(model), rule=Adam(), order=Cyclic(), inner_steps=2, lr=1e-3, state=state, master=master
    )
    check_every_visit(model, optimizer)


@pytest.mark.parametrize("rule", [SGD(), Momentum(), Sign(), AdamW(), RowNormalised(), Factored(), Orthogonalised()])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_every_rule_holds_what_is_predicted(rule, dtype, decoder):
    model = decoder().to(dtype)
    optimizer = BlockCoordinateDescent(
        by_layer(model), rule=rule, order=Cyclic(), inner_steps=2, lr=1e-3, state="host", master="host"
    )
    check_every_visit(model, optimizer)


def test_a_factored_second_moment_is_a_row_and_a_column_a_matrix():
    parts = [Part("w", torch.empty(576, 1536, dtype=torch.bfloat16)), Part("norm", torch.empty(576))]
    rule = Factored()
    numbers = (576 + 1536) + 576  # the vector is not factored
    for master in ("off", "host"):
        visit = held([], parts, state_tensors=0, counts_steps=True, state_shapes=rule.state_shapes, master=master)
        assert visit.state == 4 * numbers + 2 * 4
    assert visit.state < 0.01 * visit.gradients


@pytest.mark.parametrize("state", ["reset", "host", "device"])
def test_blocks_that_are_always_active_are_held_at_every_visit(state, decoder):
    model = decoder().to(torch.bfloat16)
    optimizer = BlockCoordinateDescent(
        by_layer(model),
        rule=Adam(),
        order=SlidingWindow(width=2),
        inner_steps=2,
        lr=1e-3,
        always_active=["embedding", "head"],
        state=state,
        master="host",
    )
    check_every_visit(model, optimizer)


def test_state_of_badam_is_that_of_its_largest_block_not_of_the_model(decoder):
    model = decoder()
    full = held(model.parameters(), single(model).blocks[0].parts, state_tensors=2, counts_steps=True)
    assert full.state == 2 * full.weights + 4 * len(list(model.parameters()))
    for block in by_layer(model).blocks:
        visit = held(model.parameters(), block.parts, state_tensors=2, counts_steps=True)
        assert visit.state == 8 * block.numel + 4 * len(block.parts)
        assert visit.gradients == 4 * block.numel


def test_prediction_needs_no_memory():
    with torch.device("meta"):
        model = torch.nn.Linear(10**6, 10**6, bias=False, dtype=torch.bfloat16)
    visit = held(model.parameters(), single(model).blocks[0].parts, state_tensors=2, counts_steps=True)
    assert visit == Held(weights=2 * 10**12, master=0, gradients=2 * 10**12, state=4 * 10**12 + 4, host=0)


def test_bytes_of_a_visit_by_hand(decoder):
    model = decoder().to(torch.bfloat16)
    blocks = by_layer(model).blocks
    layer = next(block for block in blocks if block.name == "layers.0").parts
    others = [part for block in blocks if block.name != "layers.0" for part in block.parts]
    n, rest = sum(part.numel for part in layer), sum(part.numel for part in others)
    visit = held(model.parameters(), layer, others, state_tensors=2, counts_steps=True, state="host", master="host")
    assert visit == Held(
        weights=2 * (n + rest),
        master=2 * n,
        gradients=2 * n,
        state=8 * n + 4 * len(layer),
        host=(8 + 2) * rest + 4 * len(others),
    )
    assert visit.device == 2 * rest + (2 + 2 + 2 + 8) * n + 4 * len(layer)
