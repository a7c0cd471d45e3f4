"""Against PyPI badam 1.4, the published implementation: the same trajectory where it means to do the same, and each of
its defects beside what this package does."""

import types

import pytest
import torch
from badam import BlockOptimizer
from transformers import LlamaConfig, LlamaForCausalLM

from bcd import Adam, AdamW, BlockCoordinateDescent, Cyclic, RandomReshuffle, by_layer, by_regex
from tests.conftest import RTOL

pytestmark = pytest.mark.filterwarnings("ignore:BAdam expect model to be loaded in fp16/bf16 precision:UserWarning")
FREEZE = {"embedding": "freeze", "final_norm": "freeze", "head": "freeze"}
TOKENS = torch.tensor([[1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1]])


def llama(layers=3, tied=False):
    config = LlamaConfig(
        vocab_size=16,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=tied,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LlamaForCausalLM(config)


def published(model, inner_steps=3, base=None, **options):
    settings = {"switch_mode": "ascending", "switch_block_every": inner_steps, "verbose": 0} | options
    base = base or torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    return BlockOptimizer(base_optimizer=base, named_parameters_list=list(model.named_parameters()), **settings)


def ours(model, inner_steps=3, **options):
    settings = {"rule": Adam(), "order": Cyclic(), "lr": 1e-2} | options
    return BlockCoordinateDescent(by_layer(model, **FREEZE), inner_steps=inner_steps, **settings)


def moved_by_each_step(model, optimizer, steps):
    """For each step the names of the parameters that it changed."""
    moved = []
    for _ in range(steps):
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        model(input_ids=TOKENS, labels=TOKENS).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        moved.append({name for name, p in model.named_parameters() if not torch.equal(before[name], p)})
    return moved


def layer_of_each_step(model, optimizer, steps):
    moved = moved_by_each_step(model, optimizer, steps)
    (layers,) = zip(*({int(name.split(".")[2]) for name in names} for names in moved), strict=True)
    return list(layers)


@pytest.mark.slow
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_the_same_trajectory_once_two_defects_are_neutralised(decay):
    theirs, mine = llama(), llama()
    # Decay: given to the base optimizer's class defaults, which badam uses instead of the groups' own value.
    # Only layers without norms could decay alike (badam means to spare norms but does not, and neither do we here).
    base = torch.optim.AdamW(theirs.parameters(), lr=1e-2, weight_decay=decay)
    reference = published(theirs, base=base)
    reference.global_step = -1  # the first visit then lasts K steps, as all later ones do
    optimizer = ours(mine, rule=AdamW(weight_decay=decay))
    for _ in range(12):
        moved_by_each_step(theirs, reference, 1)
        moved_by_each_step(mine, optimizer, 1)
        for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=RTOL["same mathematics in float32"], atol=1e-7)


@pytest.mark.slow
def test_badam_gives_the_first_block_one_step_less():
    model = llama()
    assert layer_of_each_step(model, published(model), 6) == [0, 0, 1, 1, 1, 2]
    model = llama()
    assert layer_of_each_step(model, ours(model), 6) == [0, 0, 0, 1, 1, 1]


def test_badam_overwrites_the_users_weight_decay():
    model = llama()
    base = torch.optim.AdamW([{"params": list(model.parameters()), "weight_decay": 0.0}], lr=1e-2)
    reference = published(model, base=base)
    used = {group["weight_decay"] for group in reference.base_optimizer.param_groups}
    assert used == {0.01}, "AdamW's class default, not the user's 0"
    optimizer = ours(llama(), rule=AdamW(weight_decay=0.0))
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0}


def test_badam_decays_norms_that_it_means_to_spare():
    model = llama()
    base = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    reference = published(model, base=base)
    norms = {1}  # norm weights are the only vectors of a Llama layer
    groups = reference.base_optimizer.param_groups
    decayed = {p.ndim for group in groups if group["weight_decay"] > 0 for p in group["params"]}
    assert norms < decayed
    # Here a decay belongs to the block's group, norms included, and the user can set it for each block.
    optimizer = ours(llama(), rule=AdamW(weight_decay=0.1))
    optimizer.param_groups[0]["weight_decay"] = 0.0
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.0, 0.1, 0.1]


def test_badam_takes_layer_10_for_layer_1():
    model = llama(layers=11)
    reference = published(model, block_prefix_list=[["model.layers.1"]], switch_mode="fixed", start_block=0)
    (moved,) = moved_by_each_step(model, reference, 1)
    assert {name.split(".")[2] for name in moved} == {"1", "10"}
    model = llama(layers=11)
    (moved,) = moved_by_each_step(model, ours(model, order=OneBlock(1)), 1)
    assert {name.split(".")[2] for name in moved} == {"1"}
    with pytest.raises(ValueError, match="matches no parameter"):
        by_regex(model, ["model.layers.1"], rest="freeze")  # a pattern must match the whole name


class OneBlock(Cyclic):
    """The same block for ever."""

    def __init__(self, index):
        super().__init__()
        self.index = index

    def next_visit(self, num_blocks):
        return (self.index,)


@pytest.mark.slow
def test_badam_draws_its_order_from_the_global_generator():
    def orders(make):
        found = []
        for seed in (0, 1, 2, 3):
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                found.append(make())
        return found

    drawn = orders(lambda: tuple(published(llama(layers=8), switch_mode="random").block_order))
    assert len(set(drawn)) > 1
    mine = orders(lambda: ours(llama(layers=8), order=RandomReshuffle(seed=5)).active_blocks)
    assert len(set(mine)) == 1


@pytest.mark.slow
def test_badam_loses_its_place_on_resume():
    model = llama()
    reference = published(model)
    layer_of_each_step(model, reference, 3)  # now in layer 1
    state = reference.state_dict()
    again = llama()
    resumed = published(again)
    resumed.load_state_dict(state)  # no error, although layer 1's moments now belong to layer 0
    assert layer_of_each_step(again, resumed, 1) == [0]

    model = llama()
    optimizer = ours(model)
    layer_of_each_step(model, optimizer, 4)
    again = llama()
    resumed = ours(again)
    resumed.load_state_dict(optimizer.state_dict())
    assert layer_of_each_step(again, resumed, 3) == [1, 1, 2]


@pytest.mark.slow
def test_badam_never_trains_what_is_outside_the_layers_by_default():
    model = llama()
    reference = published(model, inner_steps=1)
    moved = set().union(*moved_by_each_step(model, reference, 6))
    left = {name for name, _ in model.named_parameters()} - moved
    assert left == {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"}
    assert not by_layer(llama()).frozen, "here everything is trained unless the user freezes it"


def test_badam_leaves_the_tied_head_out_of_the_head_block():
    model = llama(tied=True)
    reference = published(model, include_embedding=True, include_lm_head=True)
    assert reference.block_prefix_list[-1] == ["model.norm.weight"], "a head block without the head"
    partition = by_layer(llama(tied=True))
    assert partition.tied == {"lm_head.weight": "model.embed_tokens.weight"}
    assert [block.name for block in partition.blocks if "model.embed_tokens.weight" in block.parameters] == [
        "embedding"
    ]


def test_badams_checkpointing_crashes_on_transformers_5():
    from badam.utils import gradient_checkpointing_enable_for_bcd

    model = llama().train()
    model.gradient_checkpointing_enable = types.MethodType(gradient_checkpointing_enable_for_bcd, model)
    published(model)
    model.gradient_checkpointing_enable()
    with pytest.raises(AttributeError):
        model(input_ids=TOKENS, labels=TOKENS)
