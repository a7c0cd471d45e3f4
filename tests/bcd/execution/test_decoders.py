"""The options on other decoders than Llama: found in the module tree, compared with the model's own path."""

import pytest
import torch
import transformers as hf

from bcd.execution import chunked_loss, compile_layers, recompute_layers
from bcd.execution.layers import layer_calls

RTOL = 1e-5  # same mathematics in float32
SHAPE = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4,
}  # fmt: skip
GROUPED = {**SHAPE, "num_key_value_heads": 2, "head_dim": 8}
MODELS = {
    "Qwen3": lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(**GROUPED)),
    "Gemma2": lambda: hf.Gemma2ForCausalLM(hf.Gemma2Config(**GROUPED, sliding_window=8)),
    "Gemma3": lambda: hf.Gemma3ForCausalLM(hf.Gemma3TextConfig(**GROUPED, sliding_window=8)),
    "Mixtral": lambda: hf.MixtralForCausalLM(hf.MixtralConfig(**GROUPED, num_local_experts=2)),
    "Phi": lambda: hf.PhiForCausalLM(hf.PhiConfig(**SHAPE)),  # a head with a bias
    "GPT2": lambda: hf.GPT2LMHeadModel(
        hf.GPT2Config(vocab_size=96, n_embd=32, n_layer=4, n_head=4, attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0)
    ),
}
CAPPED = {"Gemma2"}  # logits are capped, so the loss is not the cross-entropy of the head


@pytest.fixture(params=MODELS)
def decoder(request):
    """(name, model) whose second layer is trained."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MODELS[request.param]().train()
    model.requires_grad_(False)
    layer = layer_calls(model)[1].layer
    layer.requires_grad_(True)
    return request.param, model


def gradients(model, tokens):
    loss = model(input_ids=tokens, labels=tokens).loss
    loss.backward()
    results = [loss.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]
    model.zero_grad()
    return results


@pytest.mark.slow
def test_every_option_computes_what_the_model_computes(decoder, tokens):
    name, model = decoder
    expected = gradients(model, tokens)
    recompute_layers(model)
    compile_layers(model, backend="aot_eager")
    assert all(torch.equal(a, b) for a, b in zip(gradients(model, tokens), expected, strict=True))
    if name in CAPPED:
        with pytest.raises(ValueError, match=f"{name}ForCausalLM is not the cross-entropy of its head"):
            chunked_loss(model)
        return
    chunked_loss(model, chunk=16)
    for a, b in zip(gradients(model, tokens), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=RTOL, atol=RTOL * b.abs().max().item())
