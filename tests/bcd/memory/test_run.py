"""Peaks of a run on the live tensors, against what shapes say."""

import pytest
import torch
from torch import nn

from bcd import SGD, Adam, BlockCoordinateDescent, Cyclic, by_layer, single
from bcd.memory import STEP_BYTES, Bytes, measured, nbytes

TOKENS = torch.tensor([[1, 2, 3, 4]])


def predicted(parameters, visits, state_tensors, *, counts_steps):
    """Peak bytes over the visits, each the parts that are active together, from shapes alone.

    weights   = sum of all parameters
    gradients = max over visits of the parameters with an active part: autograd fills whole tensors
    state     = max over visits of state_tensors x active parts (+ 4 bytes a part for a step counter)
    """
    states = [
        sum(state_tensors * part.numel * part.parameter.element_size() + STEP_BYTES * counts_steps for part in active)
        for active in visits
    ]
    gradients = [nbytes(part.parameter for part in active) for active in visits]
    return Bytes(nbytes(parameters), max(gradients), max(states))


@pytest.mark.parametrize("rule", [Adam(), SGD()])
@pytest.mark.parametrize("make", [by_layer, single])
def test_predicted_bytes_are_the_measured_peak(make, rule, decoder):
    model = decoder()
    partition = make(model)
    optimizer = BlockCoordinateDescent(partition, rule=rule, order=Cyclic(), inner_steps=2, lr=0.1)
    peak = Bytes(0, 0, 0)
    for _ in range(2 * len(partition)):
        nn.functional.cross_entropy(model(TOKENS).flatten(0, 1), TOKENS.flatten()).backward()
        peak = peak.peak(measured(model.parameters(), optimizer))
        optimizer.step()
        peak = peak.peak(measured(model.parameters(), optimizer))
        optimizer.zero_grad()
    visits = [block.parts for block in partition.blocks]
    expected = predicted(model.parameters(), visits, rule.state_tensors, counts_steps=rule.counts_steps)
    assert peak == expected
