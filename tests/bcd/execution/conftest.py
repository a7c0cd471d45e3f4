"""Small Llamas, and blocks of them, for the options of `bcd.execution`."""

import importlib.util
import types

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

LAYERS = 4
ON_A_GPU_WITH_QUACK = [
    pytest.mark.gpu,
    pytest.mark.skipif(importlib.util.find_spec("quack") is None, reason="needs quack"),
    pytest.mark.filterwarnings("ignore"),  # of quack and its compiler, at their first use
]


def normal(*size, seed=0, dtype=torch.float32):
    return torch.randn(size, generator=torch.Generator().manual_seed(seed)).to(dtype)


def one_map(dtype=torch.float32, bias=True, inputs=32, outputs=48):
    layer = nn.Linear(inputs, outputs, bias=bias, dtype=dtype)
    with torch.no_grad():
        layer.weight.copy_(normal(outputs, inputs, seed=1))
        if bias:
            layer.bias.copy_(normal(outputs, seed=2))
    return nn.Sequential(layer).requires_grad_(False).train()


@pytest.fixture
def llama():
    """llama(dtype, tied) with weights from seed 0, in training mode; without mask or cache, so that kernels agree."""

    def make(dtype=torch.float32, tied=False, **changes):
        shape = {
            "vocab_size": 96, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": LAYERS,
            "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": tied, "initializer_range": 0.1,
        }  # fmt: skip
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return LlamaForCausalLM(LlamaConfig(**(shape | changes))).to(dtype).train()

    return make


@pytest.fixture
def tokens():
    """Three sequences of 20 tokens."""
    return torch.randint(0, 96, (3, 20), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def activate():
    """activate(model, layer): only this layer's parameters are trained; several layers are welcome."""

    def activate(model, *layers):
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(any(f"layers.{layer}." in name for layer in layers))

    return activate


@pytest.fixture
def train():
    """train(model, optimizer, tokens, steps) returns the loss of each step."""

    def train(model, optimizer, tokens, steps):
        losses = []
        for _ in range(steps):
            loss = model(input_ids=tokens, labels=tokens).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        return losses

    return train


@pytest.fixture
def weight_on_a_card(monkeypatch):
    """weight_on_a_card(capability, dtype) stands for a weight on a GPU, which this machine may not have."""

    def make(capability, dtype=torch.bfloat16):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a card")
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        return types.SimpleNamespace(is_cuda=True, device="cuda:0", dtype=dtype)

    return make
