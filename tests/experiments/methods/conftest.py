"""A small model with layers, the methods of conf/ on it, and steps of them."""

import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import nn

from experiments.configuration import build
from records import ROOT


@pytest.fixture
def small():
    """small(dtype) -> three layers of two matrices and a norm between an embedding and a head, with a loss."""

    class Layers(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(40, 16)
            self.layers = nn.ModuleList(
                nn.Sequential(nn.Linear(16, 24, bias=False), nn.Tanh(), nn.Linear(24, 16), nn.LayerNorm(16))
                for _ in range(3)
            )
            self.head = nn.Linear(16, 40, bias=False)

        def loss(self, seed=0):
            tokens = torch.randint(40, (4, 8), generator=torch.Generator().manual_seed(seed))
            x = self.embed(tokens)
            for layer in self.layers:
                x = x + layer(x)
            return nn.functional.cross_entropy(self.head(x).flatten(0, 1).float(), tokens.roll(1, 1).flatten())

    def make(dtype=torch.float32):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return Layers().to(dtype)

    return make


def configured(name, *overrides):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return build(compose("train", overrides=[f"method={name}", *overrides]).method)


def steps(trainable, count, max_norm=1.0, start=0):
    for i in range(start, start + count):
        trainable.backward(trainable.model.loss(i))
        trainable.clipped(max_norm)
        trainable.optimizer.step()
        trainable.optimizer.zero_grad()


def same(one, other, **tolerance):
    for (name, a), b in zip(one.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, msg=lambda text, name=name: f"{name}: {text}", **tolerance)
