"""Caches of keys and values: kept where a model generates, in training mode too, and dropped before backward."""

import copy

import pytest
import torch
import transformers as hf

from bcd.execution import Execution, compile_layers, recompute_layers
from bcd.integrations import checkpoint_active_layers
from tests.cover import tiered

PROMPT = torch.tensor([[3, 9, 27, 14]])
OPTIONS = {
    "checkpoint_active_layers": checkpoint_active_layers,
    "budget": lambda model: recompute_layers(model, 20_000),
    "eager": lambda model: compile_layers(model, backend="eager"),
    "aot_eager": lambda model: compile_layers(model, backend="aot_eager"),
    "together": lambda model: Execution(recompute=0, compiled=True, backend="eager", loss="chunked")(model),
}
SMALL = {"vocab_size": 48, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.2}
SHAPE = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4}
MODELS = {
    "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**SMALL, **SHAPE, num_key_value_heads=2)),
    # hands the cache to its layers without a name
    "gpt2": lambda: hf.GPT2LMHeadModel(
        hf.GPT2Config(**SMALL, n_embd=32, n_layer=4, n_head=4, attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0)
    ),
    # keeps states in its layers and takes use_cache without its name
    "recurrent gemma": lambda: hf.RecurrentGemmaForCausalLM(
        hf.RecurrentGemmaConfig(
            **SMALL,
            **SHAPE,
            num_key_value_heads=1,
            head_dim=8,
            lru_width=32,
            attention_window_size=8,
            block_types=["recurrent", "recurrent", "attention"],
        )
    ),
    # its cache is one of states, without keys
    "mamba": lambda: hf.MambaForCausalLM(
        hf.MambaConfig(**SMALL, hidden_size=32, num_hidden_layers=4, state_size=4, tie_word_embeddings=False)
    ),
}
# torch.compile refuses what transformers' Mamba asks of the version of torch.
PAIRS = [
    (model, option)
    for model in MODELS
    for option in OPTIONS
    if option in ("checkpoint_active_layers", "budget")
    or model in ("llama", "gpt2")
    or (model == "recurrent gemma" and option != "together")  # its logits are capped
]


def made(name):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = MODELS[name]().train()
    model.requires_grad_(False)
    layers = next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList))
    layers[1].requires_grad_(True)
    return model


def generated(model):
    """Tokens and their logits, which differ where tokens may be equal by chance."""
    with torch.no_grad():
        result = model.generate(
            PROMPT, max_new_tokens=8, min_new_tokens=8, do_sample=False, return_dict_in_generate=True,
            output_logits=True,
        )  # fmt: skip
    return result.sequences, torch.stack(result.logits)


def equal(a, b):
    return all(map(torch.equal, a, b))


@pytest.mark.integration
@pytest.mark.parametrize(
    ("model", "option"),
    tiered(
        PAIRS,
        quick=[("llama", "checkpoint_active_layers"), ("llama", "eager"), ("gpt2", "together"), ("mamba", "budget")],
    ),
)
def test_a_model_in_training_mode_generates_what_it_generates_plain(model, option):
    plain = made(model)
    model = copy.deepcopy(plain)
    OPTIONS[option](model)
    expected = generated(plain)
    assert equal(generated(model), expected)
    assert model.training
    assert equal(generated(model.eval()), generated(plain.eval()))


@pytest.mark.integration
@pytest.mark.parametrize(
    ("name", "option"), tiered(PAIRS, quick=[pair for pair in PAIRS if pair[1] == "checkpoint_active_layers"])
)
def test_before_backward_nothing_is_cached_though_the_caller_leaves_the_cache_on(name, option):
    plain, model = made(name), made(name)
    OPTIONS[option](model)
    for _ in range(2):
        for each in (plain, model):
            each.zero_grad()
            each(input_ids=PROMPT, labels=PROMPT, use_cache=True).loss.backward()
        pairs = [(p.grad, q.grad) for p, q in zip(plain.parameters(), model.parameters(), strict=True)]
        assert sum(a is not None for a, _ in pairs) > 0
        for a, b in pairs:
            assert (a is None) == (b is None)
            if a is not None:
                torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5 * a.abs().max().item())


@pytest.mark.parametrize("name", ["llama", "gpt2", "mamba"])
def test_what_an_earlier_call_cached_is_refused_before_backward_and_used_without_gradients(name):
    plain, model = made(name), made(name)
    checkpoint_active_layers(model)
    key = "cache_params" if name == "mamba" else "past_key_values"
    logits = []
    for each in (plain, model):
        with torch.no_grad():
            cache = each(input_ids=PROMPT[:, :3], use_cache=True)[key]
            logits.append(each(input_ids=PROMPT[:, 3:], use_cache=True, **{key: cache}).logits)
    assert torch.equal(*logits)
    with pytest.raises(ValueError, match=r"a cache with the keys and values of earlier tokens.*use_cache=False"):
        model(input_ids=PROMPT[:, 3:], labels=PROMPT[:, 3:], use_cache=True, **{key: cache})
