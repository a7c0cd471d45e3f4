"""Bytes of one step beside what is held: buffers, temporary bytes and phases."""

import pytest
import torch

from bcd import SGD, BlockCoordinateDescent, Cyclic, Part, precision
from bcd.memory import Held, Phases, phases, scratch_bytes, update_bytes
from bcd.memory.activations import LivePeak
from tests.bcd.memory.conftest import PARTITIONS, backward, split_parts


def test_bytes_of_the_update(monkeypatch):
    shapes = {"a": 6, "b": 3, "c": 4}
    parts = [Part(name, torch.empty(n, dtype=torch.bfloat16)) for name, n in shapes.items()]
    assert update_bytes([parts], state_tensors=2, fused=True) == 0
    assert update_bytes([parts], state_tensors=1, fused=False) == 0
    assert update_bytes([parts], state_tensors=2, fused=False) == 2 * 13
    assert update_bytes([parts], state_tensors=2, fused=False, master="discard") == 4 * 13
    assert update_bytes([parts], state_tensors=2, fused=False, master="discard", compiled=True) == 0
    assert scratch_bytes(parts, master="host", compiled=False) == 8 * 13
    monkeypatch.setattr(precision, "CHUNK", {"cpu": 9, "cuda": 9})  # a and b together, then c
    assert update_bytes([parts], state_tensors=2, fused=False, master="host") == 4 * 9
    assert update_bytes([[part] for part in parts], state_tensors=2, fused=False, master="host") == 4 * 6
    assert scratch_bytes(parts, master="host", compiled=False) == 8 * 9
    assert scratch_bytes(parts, master="host", compiled=True) == 0
    assert scratch_bytes(parts, master="off", compiled=False) == 0
    full = [Part("x", torch.empty(5))]
    assert update_bytes([full], state_tensors=2, fused=False, master="host") == 4 * 5
    assert scratch_bytes(full, master="host", compiled=False) == 0, "float32 weights need no master"


@pytest.mark.parametrize("make", PARTITIONS.values(), ids=PARTITIONS)
def test_scratch_is_what_the_optimizer_allocates_in_its_first_step(make, decoder):
    model = decoder().to(torch.bfloat16)
    optimizer = BlockCoordinateDescent(
        make(model), rule=SGD(), order=Cyclic(), inner_steps=2, lr=1e-3, master="discard"
    )
    backward(model)
    active, _ = split_parts(optimizer)
    allocated = sum(2 * part.numel for part in active)  # the remainders
    with LivePeak() as live:
        optimizer.step()
        assert live.live == allocated + scratch_bytes(active, master="discard", compiled=False)


def test_the_peak_of_a_step_is_that_of_its_worst_phase():
    visit = Held(weights=100, master=1, gradients=10, state=20, host=1000)
    step = phases(visit, saved=30, live_peak=45, update=7)
    assert step == Phases(forward=151, backward=166, update=138)
    assert step.peak == 166
    assert phases(visit, saved=30, live_peak=45, update=7, scratch=5) == Phases(156, 171, 143)
