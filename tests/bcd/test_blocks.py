import pytest
import torch
from torch import nn

from bcd import Block, Partition, by_groups, by_layer, by_matrix, by_module, by_ratio, by_regex, single

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


def test_single_needs_parameters():
    with pytest.raises(ValueError, match="a partition needs at least one block; everything is frozen or nothing"):
        single(nn.Tanh())


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


def test_by_matrix_gives_vectors_to_the_first_matrix_of_the_layer(decoder):
    partition = by_matrix(decoder(layers=1), **FREEZE)
    assert names(partition) == ["layers.0.attention.weight", "layers.0.mlp.0.weight", "layers.0.mlp.2.weight"]
    assert [sum(p.ndim > 1 for p in block.parameters.values()) for block in partition.blocks] == [1, 1, 1]
    assert "layers.0.input_norm.weight" in partition.blocks[0].parameters


def test_by_groups_joins_neighbours(decoder):
    partition = by_groups(decoder(layers=5), 2, **FREEZE)
    assert names(partition) == ["layers.0..1", "layers.2..3", "layers.4"]
    assert partition.blocks[0].numel == 2 * partition.blocks[2].numel
    with pytest.raises(ValueError, match="size=0"):
        by_groups(decoder(), 0)


@pytest.mark.parametrize("parts", [1, 2, 3, 4])
def test_by_ratio_covers_every_row_once(parts, decoder):
    model = decoder()
    partition = by_ratio(model, parts)
    count = {name: 0 for name, _ in model.named_parameters()}
    for block in partition.blocks:
        for part in block.parts:
            count[part.name] += part.numel
    assert count == {name: p.numel() for name, p in model.named_parameters()}
    assert len(partition) == parts


def test_by_regex_takes_the_first_match_and_lists_the_rest(decoder):
    partition = by_regex(decoder(), [r"layers\.0\..*", r"layers\..*"], rest="freeze")
    assert [block.numel for block in partition.blocks][1] == 2 * partition.blocks[0].numel
    assert sorted(partition.frozen) == ["embed.weight", "head.weight", "norm.bias", "norm.weight"]
    assert names(by_regex(decoder(), ["embed.*"], rest="train")) == ["embed.*", "rest"]
    with pytest.raises(ValueError, match=r"'nothing' matches no parameter that is left; there are embed\.weight"):
        by_regex(decoder(), ["nothing"], rest="freeze")
    with pytest.raises(ValueError, match="is no regular expression"):
        by_regex(decoder(), ["("], rest="freeze")
    with pytest.raises(ValueError, match="rest='keep'"):
        by_regex(decoder(), ["embed.*"], rest="keep")  # pyright: ignore[reportArgumentType]


def test_rows_must_cover_a_tensor_and_not_overlap():
    weight = nn.Parameter(torch.zeros(4, 2))

    def block(name, *rows):
        return Block(name, {"w": weight}, {"w": rows})

    Partition((block("a", 0, 1), block("b", 1, 4)), {}, {})
    with pytest.raises(ValueError, match="the rows 1:2 of the tensor in"):
        Partition((block("a", 0, 1), block("b", 2, 4)), {}, {})
    with pytest.raises(ValueError, match="the rows 3:4 of the tensor in"):
        Partition((block("a", 0, 1), block("b", 1, 3)), {}, {})
    with pytest.raises(ValueError, match="blocks must be disjoint"):
        Partition((block("a", 0, 2), block("b", 1, 4)), {}, {})
    with pytest.raises(ValueError, match="the rows 2:9 of w, which has 4 rows"):
        block("a", 2, 9)


def test_a_head_tied_without_huggingface_methods_is_found_too():
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(5, 4)
            self.blocks = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
            self.lm_head = nn.Linear(4, 5, bias=False)
            self.lm_head.weight = self.embed.weight

    with pytest.raises(ValueError, match=r"tied to embed.weight"):
        by_layer(Plain(), embedding="freeze", head="train")


SMALL = {"vocab_size": 16, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
CONFIGS = {
    "OPTConfig": {**SMALL, "ffn_dim": 16, "word_embed_proj_dim": 4},
    "GPT2Config": {"vocab_size": 16, "n_embd": 8, "n_layer": 2, "n_head": 2},
    "BloomConfig": {"vocab_size": 16, "hidden_size": 8, "n_layer": 2, "n_head": 2},
    "Qwen2Config": {**SMALL, "num_key_value_heads": 1},
    "Gemma2Config": {**SMALL, "num_key_value_heads": 1, "head_dim": 4},
    "GPTNeoXConfig": {**SMALL, "tie_word_embeddings": False},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_parts_outside_the_layers_of_real_models(name):
    import transformers

    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(getattr(transformers, name)(**CONFIGS[name]))
    partition = by_layer(model)
    blocks = {block.name: set(block.parameters) for block in partition.blocks}
    assert len([name for name in blocks if name[-1].isdigit()]) == 2
    # Every model has one final norm; OPT registers it before its layers.
    assert {n.rpartition(".")[2] for n in blocks["final_norm"]} <= {"weight", "bias"}
    assert len({n.rpartition(".")[0] for n in blocks["final_norm"]}) == 1
    assert any("emb" in n or "wte" in n for n in blocks["embedding"])
    assert not any("final" in n or "ln_f" in n for n in blocks["embedding"])
    for tensor in ("project_out", "embed_out"):
        assert not any(tensor in n for n in blocks["embedding"])
    assert len(by_module(model, **FREEZE)) >= 4


def test_a_second_list_of_layers_is_refused_by_name():
    from transformers import T5Config, T5ForConditionalGeneration

    with torch.device("meta"):
        config = T5Config(vocab_size=16, d_model=8, d_kv=4, d_ff=16, num_layers=2, num_heads=2)
        model = T5ForConditionalGeneration(config)
    with pytest.raises(ValueError, match=r"a second list of layers beside .*by_regex"):
        by_layer(model)
