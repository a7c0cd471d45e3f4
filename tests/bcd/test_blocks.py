import pytest
import torch
from torch import nn

from bcd import Block, Partition, by_layer, by_module, single

FREEZE = {"embedding": "freeze", "final_norm": "freeze", "head": "freeze"}


def names(partition):
    return [block.name for block in partition.blocks]


def test_by_layer_trains_everything_by_default(decoder):
    partition = by_layer(decoder())
    assert names(partition) == ["embedding", "layers.0", "layers.1", "layers.2", "final_norm", "head"]
    assert not partition.frozen


def test_by_layer_frozen_as_published(decoder):
    partition = by_layer(decoder(), **FREEZE)
    assert names(partition) == ["layers.0", "layers.1", "layers.2"]
    assert sorted(partition.frozen) == ["embed.weight", "head.weight", "norm.bias", "norm.weight"]


def test_join_adds_to_the_neighbouring_layer(decoder):
    partition = by_layer(decoder(), embedding="join", final_norm="join", head="join")
    assert names(partition) == ["layers.0", "layers.1", "layers.2"]
    assert "embed.weight" in partition.blocks[0].parameters
    assert {"norm.weight", "norm.bias", "head.weight"} <= partition.blocks[-1].parameters.keys()


def test_layer_1_does_not_catch_layer_10(decoder):
    partition = by_layer(decoder(layers=12), **FREEZE)
    block = partition.blocks[1]
    assert block.name == "layers.1"
    assert all(name.startswith("layers.1.") for name in block.parameters)


def test_by_module_pairs_norms_with_their_module(decoder):
    partition = by_module(decoder(layers=1), **FREEZE)
    assert names(partition) == ["layers.0.attention", "layers.0.mlp"]
    assert "layers.0.input_norm.weight" in partition.blocks[0].parameters
    assert "layers.0.post_norm.weight" in partition.blocks[1].parameters


@pytest.mark.parametrize("make", [by_layer, by_module, single])
@pytest.mark.parametrize("tied", [False, True])
def test_partitions_cover_every_element_once(make, tied, decoder):
    model = decoder(tied=tied)
    partition = make(model)
    held = [p for block in partition.blocks for p in block.parameters.values()]
    assert sorted(map(id, held)) == sorted(map(id, model.parameters()))
    assert sum(block.numel for block in partition.blocks) == sum(p.numel() for p in model.parameters())


def test_tied_head_is_in_one_block_and_reported(decoder):
    partition = by_layer(decoder(tied=True))
    assert names(partition) == ["embedding", "layers.0", "layers.1", "layers.2", "final_norm"]
    assert partition.tied == {"head.weight": "embed.weight"}


@pytest.mark.parametrize("make", [by_layer, by_module, single])
def test_tied_head_cannot_be_treated_differently(make, decoder):
    with pytest.raises(ValueError, match=r"tied to embed.weight.*embedding='freeze' but head='train'"):
        make(decoder(tied=True), embedding="freeze", head="train")


def test_single_keeps_frozen_parts_out(decoder):
    partition = single(decoder(), **FREEZE)
    assert names(partition) == ["all"]
    assert "embed.weight" in partition.frozen
    assert "embed.weight" not in partition.blocks[0].parameters


def test_single_needs_no_layers():
    assert names(single(nn.Linear(2, 2))) == ["all"]


def test_sequential_layers_without_parameters_are_no_blocks():
    assert names(by_layer(nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2)))) == ["0", "2"]


def test_real_llama_partition():
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, tie_word_embeddings=False,
    )  # fmt: skip
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    assert names(by_layer(model)) == ["embedding", "model.layers.0", "model.layers.1", "final_norm", "head"]
    modules = by_module(model, **FREEZE)
    assert names(modules)[:2] == ["model.layers.0.self_attn", "model.layers.0.mlp"]
    assert "model.layers.0.input_layernorm.weight" in modules.blocks[0].parameters
    assert "model.layers.0.post_attention_layernorm.weight" in modules.blocks[1].parameters


def test_bad_partitions_are_refused(decoder):
    weight = nn.Parameter(nn.Linear(2, 2).weight.detach())
    with pytest.raises(ValueError, match="at least one block"):
        Partition((), {}, {})
    with pytest.raises(ValueError, match="block 'a' has no parameters"):
        Block("a", {})
    with pytest.raises(ValueError, match=r"disjoint.*block 'a' \(w\).*block 'b' \(v\)"):
        Partition((Block("a", {"w": weight}), Block("b", {"v": weight})), {}, {})
    with pytest.raises(ValueError, match="w is both frozen and in block 'a'"):
        Partition((Block("a", {"w": weight}),), {"w": weight}, {})
    with pytest.raises(ValueError, match=r"unique, got \['a', 'a'\]"):
        Partition((Block("a", {"w": weight}), Block("a", {"v": nn.Parameter(weight.detach().clone())})), {}, {})
    with pytest.raises(ValueError, match="embedding='keep' is not one of train, join, freeze"):
        by_layer(decoder(), embedding="keep")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="Linear has no ModuleList or Sequential"):
        by_layer(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="does not cover"):
        Partition((Block("a", {"w": weight}),), {}, {}).check_covers(decoder())
