"""What is outside the layers of decoders: by the order of use where kinds and names cannot tell."""

import copy
import warnings

import peft
import pytest
import torch
import transformers as hf
from torch import nn

from bcd import Adam, BlockCoordinateDescent, Cyclic, Fixed, by_layer, by_matrix, by_ratio, by_regex, single
from bcd.memory.activations import SavedTensors
from bcd.outside import find_layers

FREEZE = {"embedding": "freeze", "final_norm": "freeze", "head": "freeze"}
SMALL = {
    "vocab_size": 48, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
ENCODER = {name: value for name, value in SMALL.items() if name != "num_key_value_heads"}


def made(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make()


MODELS = {
    "LFM2": lambda: hf.Lfm2ForCausalLM(hf.Lfm2Config(**SMALL, layer_types=["conv", "full_attention"] * 2)),
    "Gemma 4": lambda: hf.Gemma4ForCausalLM(
        hf.Gemma4TextConfig(**SMALL, head_dim=8, hidden_size_per_layer_input=8, vocab_size_per_layer_input=48)
    ),
    "Gemma 3n": lambda: hf.Gemma3nForCausalLM(
        hf.Gemma3nTextConfig(
            **SMALL, head_dim=8, hidden_size_per_layer_input=8, vocab_size_per_layer_input=48, laurel_rank=4,
            layer_types=["sliding_attention", "full_attention"] * 2, num_kv_shared_layers=0,
            activation_sparsity_pattern=[0.0] * 4,
        )
    ),
    "CamemBERT": lambda: hf.CamembertForCausalLM(hf.CamembertConfig(**ENCODER, is_decoder=True)),
    "Bloom": lambda: hf.BloomForCausalLM(hf.BloomConfig(vocab_size=48, hidden_size=32, n_layer=4, n_head=4)),
}  # fmt: skip
# part of a name -> its place; every other parameter outside the layers has a name with "emb" and is embedding, or is a
# tied head
PLACES = {
    "LFM2": {"model.embedding_norm": "final_norm"},
    "Gemma 4": {
        "per_layer_model_projection": "embedding", "per_layer_projection_norm": "embedding",
        "model.norm.": "final_norm",
    },
    "Gemma 3n": {
        "per_layer_model_projection": "embedding", "per_layer_projection_norm": "embedding",
        "model.norm.": "final_norm",
        "altup_projections": "embedding", "altup_unembed_projections": "head",
    },
    "CamemBERT": {"lm_head.decoder.weight": "embedding", "lm_head": "head"},  # its tied table is named so first
    "Bloom": {"word_embeddings_layernorm": "embedding", "ln_f": "final_norm"},
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_parts_outside_the_layers_are_where_they_are_used(name):
    model = made(MODELS[name]).train()
    before = {n: dict(vars(m)) for n, m in model.named_modules()}
    random = torch.random.get_rng_state()
    partition = by_layer(model)
    assert torch.equal(torch.random.get_rng_state(), random)
    assert {n: dict(vars(m)) for n, m in model.named_modules()} == before, "the trial changes nothing"
    assert all(type(t) in (torch.Tensor, nn.Parameter) for t in model.state_dict(keep_vars=True).values())
    place = {n: block.name for block in partition.blocks for n in block.parameters}
    layers, _ = find_layers(model)
    for n in place:
        if n.startswith(f"{layers}."):
            assert n.startswith(f"{place[n]}.")
            continue
        wanted = [where for part, where in PLACES[name].items() if part in n] or ["embedding"]
        assert place[n] == wanted[0], n
    for part in PLACES[name]:
        assert any(part in n for n in place)
    assert model.training
    ids = torch.tensor([[1, 2, 3, 4]])
    model(input_ids=ids, labels=ids).loss.backward()


@pytest.mark.integration
def test_backward_of_the_last_blocks_stops_above_the_layers():
    for name in ("LFM2", "Gemma 4", "Gemma 3n", "CamemBERT"):
        model = made(MODELS[name]).train()
        blocks = [block.name for block in by_layer(model).blocks]
        for part in {"final_norm", "head"} & set(blocks):
            BlockCoordinateDescent(
                by_layer(model), rule=Adam(), order=Fixed([blocks.index(part)]), inner_steps=1, lr=0.1
            )
            ids = torch.tensor([[1, 2, 3, 4]])
            with SavedTensors() as saved:
                loss = model(input_ids=ids, labels=ids).loss
                kept = saved.storages()
            inside = {p.untyped_storage()._cdata for layer in find_layers(model)[1] for p in layer.parameters()}
            assert kept
            assert not inside & kept.keys(), (name, part)
            loss.backward()


def test_layers_that_share_weights_give_them_to_the_first():
    config = hf.Zamba2Config(
        **SMALL, layers_block_type=["mamba", "hybrid", "mamba", "hybrid"], mamba_d_state=4, mamba_headdim=8,
        mamba_ngroups=1, n_mamba_heads=8, num_mem_blocks=1, use_shared_attention_adapter=False, chunk_size=4,
    )  # fmt: skip
    model = made(lambda: hf.Zamba2ForCausalLM(config))
    for partition in (by_layer(model), by_matrix(model)):
        held = [id(p) for block in partition.blocks for p in block.parameters.values()]
        assert sorted(held) == sorted(map(id, model.parameters()))
    shared = [second for second in partition.tied if second.startswith("model.layers.3.")]
    assert shared
    blocks = {block.name: block.parameters for block in by_layer(model).blocks}
    assert all(partition.tied[second] in blocks["model.layers.1"] for second in shared)
    assert blocks["model.layers.3"]


class Shares(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)) for _ in range(3))
        self.layers[2] = self.layers[0]
        self.layers[1][1].weight = self.layers[0][1].weight


def test_a_layer_without_weights_of_its_own_is_no_block():
    partition = by_layer(Shares())
    assert [block.name for block in partition.blocks] == ["layers.0", "layers.1"]
    assert list(partition.blocks[1].parameters) == ["layers.1.0.weight", "layers.1.0.bias", "layers.1.1.bias"]


def test_a_parametrized_head_is_a_head(decoder):
    model = decoder()
    torch.nn.utils.parametrizations.weight_norm(model.head)
    blocks = {block.name: list(block.parameters) for block in by_layer(model).blocks}
    assert blocks["head"] == [f"head.parametrizations.weight.original{i}" for i in (0, 1)]
    assert list(blocks) == ["embedding", "layers.0", "layers.1", "layers.2", "final_norm", "head"]
    model = decoder()
    torch.nn.utils.parametrizations.weight_norm(model.layers[1].attention)
    assert [block.name for block in by_layer(model, **FREEZE).blocks] == ["layers.0", "layers.1", "layers.2"]


def test_a_list_of_tables_or_projections_is_none_of_layers(decoder):
    model = decoder()
    model.tables = nn.ModuleList(nn.Embedding(1000, 4) for _ in range(2))
    assert find_layers(model)[0] == "layers"
    partition = by_layer(model)
    assert {"tables.0.weight", "tables.1.weight"} <= partition.blocks[0].parameters.keys()


def test_a_model_that_cannot_be_tried_says_what_follows_names():
    class Fails(hf.LlamaForCausalLM):
        def __init__(self, config):
            super().__init__(config)
            self.projection = nn.Linear(32, 32)

        def forward(self, input_ids=None, **options):
            raise RuntimeError("needs a picture\nand more")

    model = made(lambda: Fails(hf.LlamaConfig(**SMALL))).train()
    with pytest.warns(UserWarning, match=r"could not be tried on four tokens \(RuntimeError: needs a picture\), so"):
        partition = by_layer(model)
    assert model.training
    assert "projection.weight" in partition.blocks[-1].parameters


def test_hooks_see_nothing_of_the_trial_and_offloaded_models_follow_names_aloud():
    model = made(MODELS["LFM2"])
    seen = []
    model.model.register_forward_pre_hook(lambda *_: seen.append("before"))
    model.model.layers[0].register_forward_hook(lambda *_: seen.append("after"))
    assert "model.embedding_norm.weight" in by_layer(model).blocks[-1].parameters
    assert seen == []
    ids = torch.tensor([[1, 2, 3, 4]])
    model(input_ids=ids)
    assert seen == ["before", "after"]
    model.model.layers[0]._hf_hook = object()  # as accelerate marks what it moves between devices
    with pytest.warns(UserWarning, match="could not be tried on four tokens .*several places"):
        by_layer(model)


def llama():
    return made(lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**SMALL)))


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_what_is_below_an_adapter_is_said_or_stays_frozen():
    model = peft.get_peft_model(
        llama(), peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    )
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    with pytest.warns(UserWarning, match="37 parameters are in blocks although they do not require a gradient"):
        by_layer(model, **{**FREEZE, "final_norm": "train"})
    for make in (by_layer, by_matrix, single, lambda m, **options: by_ratio(m, 2, **options)):
        partition = make(model, only_trainable=True)
        assert {name for block in partition.blocks for name in block.parameters} == trainable
        assert sum(block.numel for block in partition.blocks) == 896
    weights = copy.deepcopy(model.state_dict())
    optimizer = BlockCoordinateDescent(
        by_layer(model, only_trainable=True), rule=Adam(), order=Cyclic(), inner_steps=1, lr=0.1
    )
    ids = torch.tensor([[1, 2, 3, 4]])
    for _ in range(8):
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, weights[name])}
    assert moved == trainable
    again = by_layer(model, only_trainable=True)
    assert {n for b in again.blocks for n in b.parameters} == trainable, "what visits froze does not count"


def test_a_second_partition_of_a_model_says_nothing(decoder):
    model = decoder()
    BlockCoordinateDescent(by_layer(model, **FREEZE), rule=Adam(), order=Cyclic(), inner_steps=1, lr=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(by_layer(model)) == len(by_layer(model, only_trainable=True)) == 6


def test_whole_numbers_stay_frozen_and_are_said(decoder):
    model = decoder()
    whole = nn.Parameter(torch.ones(4, 4, dtype=torch.int8), requires_grad=False)
    model.layers[1].attention.weight = whole
    for make in (by_layer, by_matrix, single):
        with pytest.warns(UserWarning, match=r"1 parameters stay frozen .* \(layers.1.attention.weight the first\)"):
            partition = make(model)
        assert partition.frozen["layers.1.attention.weight"] is whole
        make(model, only_trainable=True)
    assert by_regex(model, ["head.weight"], rest="train").frozen == {"layers.1.attention.weight": whole}


def test_only_trainable_needs_something_to_train(decoder):
    model = decoder().requires_grad_(False)
    with pytest.raises(ValueError, match="only_trainable=True is not possible: no parameter requires a gradient"):
        by_layer(model, only_trainable=True)
    with pytest.raises(ValueError, match="only_trainable='yes' is not one of True, False"):
        by_layer(model, only_trainable="yes")
