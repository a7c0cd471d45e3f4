import pytest
import torch
from torch import nn

from bcd import SGD, Adam, BlockCoordinateDescent, Cyclic, by_layer, single
from bcd.memory import Bytes, measured, predicted

TOKENS = torch.tensor([[1, 2, 3, 4]])


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


def test_state_of_badam_is_that_of_its_largest_block_not_of_the_model(decoder):
    model = decoder()
    blocks = [block.parts for block in by_layer(model).blocks]
    full = predicted(model.parameters(), [single(model).blocks[0].parts], 2, counts_steps=True)
    badam = predicted(model.parameters(), blocks, 2, counts_steps=True)
    assert full.state == 2 * full.weights + 4 * len(list(model.parameters()))
    assert badam.state == max(8 * sum(part.numel for part in block) + 4 * len(block) for block in blocks)
    assert badam.gradients == max(4 * sum(part.numel for part in block) for block in blocks)


def test_prediction_needs_no_memory_and_names_an_empty_request():
    with torch.device("meta"):
        model = nn.Linear(10**6, 10**6, bias=False, dtype=torch.bfloat16)
    visits = [single(model).blocks[0].parts]
    expected = Bytes(2 * 10**12, 2 * 10**12, 4 * 10**12 + 4)
    assert predicted(model.parameters(), visits, 2, counts_steps=True) == expected
    with pytest.raises(ValueError, match="visits is empty"):
        predicted(model.parameters(), [], 2, counts_steps=True)
