"""The entrance in one line: BAdam as published, what it shows of itself, and other parts of a model."""

import copy
import re
import tomllib

import pytest
import torch
from torch import nn

import bcd
from bcd import SGD, Adam, AdamW, BlockCoordinateDescent, Cyclic, Momentum, RandomReshuffle, by_layer
from tests.conftest import ROOT

FREEZE = {"embedding": "freeze", "final_norm": "freeze", "head": "freeze"}


def network(dtype=torch.float32):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(*(nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)) for _ in range(3))).to(dtype)


def llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=16, hidden_size=8, intermediate_size=16, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=1,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LlamaForCausalLM(config)


def steps(model, optimizer, count):
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        x = torch.randn(5, 4, generator=generator).to(next(model.parameters()).dtype)
        (model(x) - 1).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return [p.detach().clone() for p in model.parameters()]


# --- badam ---


def test_one_line_is_the_published_method():
    tokens = torch.randint(0, 16, (2, 6), generator=torch.Generator().manual_seed(2))
    made = []
    for make in (
        lambda model: bcd.badam(model, 1e-2, inner_steps=2, seed=3),
        lambda model: BlockCoordinateDescent(
            by_layer(model, **FREEZE), rule=Adam(), order=RandomReshuffle(seed=3), inner_steps=2, lr=1e-2
        ),
    ):
        model = llama()
        optimizer = make(model)
        for _ in range(7):
            model(input_ids=tokens, labels=tokens).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        made.append(model.state_dict())
    assert all(torch.equal(made[0][name], value) for name, value in made[1].items())


def test_the_defaults_are_those_of_the_authors():
    optimizer = bcd.badam(llama(), 1e-5)
    assert (optimizer.inner_steps, optimizer.state_lifetime, optimizer.master) == (100, "reset", "off")
    assert sorted(optimizer.partition.frozen) == ["lm_head.weight", "model.embed_tokens.weight", "model.norm.weight"]
    assert bcd.badam(llama().bfloat16(), 1e-5).master == "discard"
    assert bcd.badam(llama().bfloat16(), 1e-5, master="off").master == "off", "what is given wins"
    assert isinstance(bcd.badam(llama(), 1e-5, rule=SGD(), order=Cyclic()).order, Cyclic)
    with pytest.raises(TypeError, match="decay"):
        bcd.badam(llama(), 1e-5, decay=0.1)


@pytest.mark.parametrize(
    ("arguments", "options", "expected"),
    [
        ((52_000, 16, 32), {}, 102),
        ((7_473, 32, 30), {}, 8),
        ((7_473, 32, 30), {"least": 50, "most": 100}, 50),
        ((10**7, 16, 32), {"least": 50, "most": 100}, 100),
        ((3, 16, 32), {}, 1),
    ],
)
def test_recommended_inner_steps(arguments, options, expected):
    assert bcd.recommended_inner_steps(*arguments, **options) == expected


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((0, 16, 32), {}, "examples=0"),
        ((10, 1.5, 32), {}, "batch_size=1.5"),
        ((10, 1, 32), {"least": 60, "most": 50}, "least=60 with most=50"),
    ],
)
def test_impossible_sizes_are_refused(arguments, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        bcd.recommended_inner_steps(*arguments, **options)


def test_the_version_is_that_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "bcd.__version__"}
    assert re.fullmatch(r"\d+\.\d+\.\d+", bcd.__version__)


# --- weight decay ---


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norms_and_biases_are_spared(dtype):
    results = {}
    for spares in (False, True):
        for decay in (0.0, 0.5):
            model = network(dtype)
            options = {"decay_vectors": not spares, "rule": AdamW(weight_decay=decay)}
            optimizer = bcd.badam(model, 1e-2, inner_steps=1, **options)
            steps(model, optimizer, 1)
            moved = [p for block in optimizer.partition.blocks for p in block.parameters.values()]
            results[spares, decay] = [(p.ndim, p.detach().clone()) for p in moved]
    for (dims, plain), (_, decayed), (_, spared) in zip(
        results[True, 0.0], results[False, 0.5], results[True, 0.5], strict=True
    ):
        assert torch.equal(spared, plain if dims < 2 else decayed)
    assert any(not torch.equal(a, b) for (_, a), (_, b) in zip(results[False, 0.5], results[True, 0.5], strict=True))


def test_sparing_needs_a_decay_and_is_part_of_what_is_resumed():
    with pytest.raises(ValueError, match=r"decay_vectors=False is not possible: .*Unnamed.* has no weight decay"):
        bcd.badam(network(), 1e-2, decay_vectors=False, rule=Unnamed())
    state = bcd.badam(network(), 1e-2, decay_vectors=False).state_dict()
    with pytest.raises(ValueError, match="the state_dict has decay_vectors=False, here it is True"):
        bcd.badam(network(), 1e-2).load_state_dict(state)
    old = bcd.badam(network(), 1e-2).state_dict()
    del old["visit"]["setting"]["decay_vectors"]  # as saved before the option
    bcd.badam(network(), 1e-2).load_state_dict(old)


class Unnamed(SGD):
    """A rule without the hyperparameter."""

    def hyperparameters(self):
        return {}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Adam(amsgrad=True), "amsgrad=True is not possible: its maximum"),
        (lambda: AdamW(maximize=True), "maximize=True is not possible: minimise the negative loss"),
        (lambda: SGD(maximize=True), "maximize=True is not possible: minimise"),
        (lambda: Momentum(maximize=True), "maximize=True is not possible: minimise"),
        (lambda: Adam(amsgrad=1), "amsgrad=1"),
    ],
)
def test_options_of_torch_that_are_not_there_say_so(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


# --- another K ---


def test_another_length_of_visits_is_taken_up_on_request():
    model = network()
    saved = bcd.badam(model, 1e-2, inner_steps=4)
    steps(model, saved, 6)  # two steps into the second visit
    state = copy.deepcopy(saved.state_dict())
    with pytest.raises(ValueError, match=r"inner_steps=4, here it is 3; other_inner_steps=True goes on"):
        bcd.badam(network(), 1e-2, inner_steps=3).load_state_dict(state)
    for inner_steps, until_the_switch in ((3, 1), (2, 1), (9, 7)):
        trained = bcd.badam(network(), 1e-2, inner_steps=inner_steps)
        trained.load_state_dict(state, other_inner_steps=True)
        assert (trained.active_blocks, trained.steps_in_visit) == (saved.active_blocks, 2)
        for step in range(until_the_switch):
            assert trained.visits_started == 2, step
            for p in trained.active_parameters:
                p.grad = torch.ones_like(p)
            trained.step()
        assert (trained.visits_started, trained.steps_in_visit) == (3, 0)
    other = bcd.badam(network(), 1e-2, inner_steps=3, rule=SGD())
    with pytest.raises(ValueError, match="the state_dict has rule='Adam'"):
        other.load_state_dict(state, other_inner_steps=True)


# --- what they show ---


def test_a_partition_of_many_blocks_is_a_few_lines():
    partition = by_layer(nn.Sequential(*(nn.Linear(64, 64) for _ in range(32))))
    lines = repr(partition).splitlines()
    assert lines[0] == "Partition(32 blocks, 133,120 weights; 0 parameters frozen, 0 weights)"
    assert lines[1:] == [
        "  0: Block('0', 2 parameters, 4,160 weights)",
        "  1: Block('1', 2 parameters, 4,160 weights)",
        "  2: Block('2', 2 parameters, 4,160 weights)",
        "  ...",
        "  31: Block('31', 2 parameters, 4,160 weights)",
    ]
    rows = bcd.by_ratio(nn.Sequential(nn.Linear(4, 4, bias=False)), 2)
    assert repr(rows.blocks[0]) == "Block('part 0 of 2', 1 parameters, rows of 1 of them, 8 weights)"


@pytest.mark.parametrize(
    "text",
    [
        "Cyclic()",
        "Descending()",
        "RandomReshuffle(seed=3)",
        "Balanced(share=0.25, seed=1)",
        "Fixed(visits=[2, (0, 1)])",
        "SlidingWindow(width=2, stride=1)",
        "Weighted(weights=[1, 2.5], count=1, seed=0)",
        "Uniform(count=2, seed=0)",
        "CostAware(count=1, seed=4)",
        "Greedy(count=1, per_weight=True)",
    ],
)
def test_an_order_shows_how_it_was_made(text):
    order = eval(text, vars(bcd))
    assert repr(order) == text
    assert repr(copy.deepcopy(order)) == text


def test_an_optimizer_shows_what_is_active():
    model = network()
    optimizer = bcd.badam(model, 1e-2, inner_steps=2, order=Cyclic(), rule=SGD())
    first = "BlockCoordinateDescent(3 blocks, 84 weights, SGD(weight_decay=0.0, foreach=None, fused=None), Cyclic(), "
    assert repr(optimizer) == first + "inner_steps=2, lr=0.01)\n  active: 0, step 0 of 2 of visit 1"
    steps(model, optimizer, 3)
    optimizer.param_groups[0]["lr"] = 0.02
    assert repr(optimizer) == first + "inner_steps=2, lr=0.01 to 0.02)\n  active: 1, step 1 of 2 of visit 2"
    greedy = bcd.badam(network(), 1e-2, order=bcd.Greedy())
    assert repr(greedy).endswith("active: all blocks, of which the step chooses, step 0 of 100 of visit 1")


# --- other parts of a model ---


@pytest.fixture(scope="module")
def eyes():
    """A model with a vision tower, a projector and a decoder."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    text = LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=1,
    )  # fmt: skip
    vision = CLIPVisionConfig(
        hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=8, patch_size=4,
        projection_dim=8,
    )  # fmt: skip
    return LlavaForConditionalGeneration(LlavaConfig(text_config=text, vision_config=vision))


@pytest.mark.parametrize(
    "partition", [bcd.by_layer, bcd.by_module, bcd.by_matrix, lambda m, **o: bcd.by_groups(m, 2, **o)]
)
def test_a_vision_tower_is_frozen_or_one_block(partition, eyes):
    others = {n for n, _ in eyes.named_parameters() if "vision_tower" in n or "projector" in n}
    assert others
    frozen = partition(eyes, rest="freeze")
    assert set(frozen.frozen) == others
    trained = partition(eyes, rest="train")
    assert (trained.blocks[0].name, set(trained.blocks[0].parameters)) == ("rest", others)
    assert [b.name for b in trained.blocks[1:]] == [b.name for b in frozen.blocks]
    for made in (frozen, trained):
        assert all("language_model.layers" in n for b in made.blocks for n in b.parameters if "layers" in b.name)
        made.check_covers(eyes)
    assert {"embedding", "head"} <= {b.name for b in frozen.blocks}


def test_a_second_list_of_layers_asks_for_rest(eyes):
    with pytest.raises(
        ValueError, match=r"a second list of layers .*; by_layer\(rest='freeze'\) or rest='train' says"
    ):
        by_layer(eyes)
    with pytest.raises(ValueError, match="rest='all' is not one of train, freeze"):
        by_layer(eyes, rest="all")
    assert bcd.badam(eyes, 1e-4, rest="freeze").num_blocks == 3


def test_rest_is_nothing_where_a_model_has_one_part():
    model = llama()
    assert repr(by_layer(model, rest="train")) == repr(by_layer(model))
    assert repr(by_layer(network(), rest="freeze")) == repr(by_layer(network()))


def test_quantized_weights_below_an_adapter_stay():
    class Adapted(nn.Module):
        def __init__(self):
            super().__init__()
            self.base = nn.Parameter(torch.zeros(4, 4, dtype=torch.int8), requires_grad=False)
            self.down, self.up = nn.Linear(4, 1, bias=False), nn.Linear(1, 4, bias=False)

    model = nn.Sequential(Adapted(), Adapted())
    optimizer = bcd.badam(model, 1e-3, only_trainable=True)
    assert {n for b in optimizer.partition.blocks for n in b.parameters} == {
        f"{i}.{part}.weight" for i in (0, 1) for part in ("down", "up")
    }
