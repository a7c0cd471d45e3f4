"""An embedding table in host memory."""

import pytest
import torch
from torch import nn

from bcd import SGD, Adam, BlockCoordinateDescent, Descending, by_layer
from bcd.execution import Execution, host_embedding
from bcd.memory import held, measured, measured_held

FREEZE = {"embedding": "freeze", "final_norm": "freeze", "head": "freeze"}
TABLE = 96 * 32


def optimizer_of(model, **changes):
    return BlockCoordinateDescent(
        by_layer(model, **(FREEZE | changes)), rule=SGD(), order=Descending(), inner_steps=2, lr=0.1
    )


def test_on_a_cpu_nothing_changes(llama):
    model = llama()
    weight = model.get_input_embeddings().weight
    before = weight.data_ptr()
    host_embedding(model, optimizer_of(model))()
    assert weight.data_ptr() == before
    assert measured([weight], optimizer_of(model)).weights == 4 * TABLE


def test_categories_of_memory_know_it(llama):
    model = llama(torch.bfloat16).to("meta")
    optimizer = optimizer_of(model)
    parameters = list(model.parameters())
    total = sum(p.numel() for p in parameters)
    undo = host_embedding(model, optimizer)
    active = optimizer.partition.blocks[3].parts
    visit = held(parameters, active, state_tensors=0, counts_steps=False)
    assert (visit.weights, visit.host) == (2 * (total - TABLE), 2 * TABLE)
    assert measured_held(parameters, optimizer).weights == 2 * (total - TABLE)
    assert measured_held(parameters, optimizer).host == 2 * TABLE
    assert measured(parameters, optimizer).weights == 2 * (total - TABLE)
    undo()
    assert held(parameters, active, state_tensors=0, counts_steps=False).weights == 2 * total


def test_refusals(llama):
    with pytest.raises(TypeError, match="Linear has no get_input_embeddings"):
        host_embedding(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="the embedding is trained"):
        host_embedding(llama())
    model = llama()
    optimizer = optimizer_of(model, embedding="train")
    assert not model.get_input_embeddings().weight.requires_grad, "in the first visit it is frozen"
    with pytest.raises(ValueError, match=r'the embedding is trained.*embedding="device"'):
        host_embedding(model, optimizer)
    with pytest.raises(ValueError, match=r"its head's matrix too \(tied\)"):
        host_embedding(llama(tied=True).requires_grad_(False))
    model = llama().requires_grad_(False).to("meta")
    host_embedding(model)
    with pytest.raises(ValueError, match="on the host already"):
        Execution(embedding="host")(model)
    with pytest.raises(ValueError, match="embedding='cpu' is not one of device, host"):
        Execution(embedding="cpu")


@pytest.mark.gpu
def test_on_the_gpu_training_is_bitwise_the_same(llama, tokens, train):
    ids, losses, held_by = tokens.cuda(), {}, {}
    for place in ("device", "host"):
        model = llama(torch.bfloat16).cuda()
        options = {"rule": Adam(), "order": Descending(), "inner_steps": 2, "lr": 1e-3, "master": "discard"}
        optimizer = BlockCoordinateDescent(by_layer(model, **FREEZE), **options)
        Execution("chunked", 16, embedding=place)(model, optimizer)
        losses[place] = train(model, optimizer, ids, 6)
        held_by[place] = measured_held(model.parameters(), optimizer)
    assert losses["host"] == losses["device"]
    assert held_by["host"].host == 2 * TABLE == held_by["device"].weights - held_by["host"].weights


@pytest.mark.gpu
def test_on_the_gpu_the_table_leaves_and_comes_back(llama):
    model = llama(torch.bfloat16, vocab_size=2**16).requires_grad_(False).cuda()
    weight = model.get_input_embeddings().weight
    values, before = weight.clone(), torch.cuda.memory_allocated()
    undo = host_embedding(model)
    assert torch.cuda.memory_allocated() == before - weight.nbytes
    assert weight.is_cuda
    assert torch.equal(weight, values)
    assert torch.equal(weight.cpu(), values.cpu())
    model.load_state_dict({"model.embed_tokens.weight": 2 * values}, strict=False)
    assert torch.equal(weight, 2 * values)
    undo()
    assert torch.cuda.memory_allocated() == before
    assert torch.equal(weight, 2 * values)
