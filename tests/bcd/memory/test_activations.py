"""What autograd saves and what code allocates at its peak: by hand, on fake tensors, on a GPU."""

import contextlib

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from bcd import by_layer
from bcd.memory.activations import LivePeak, SavedTensors


def cuda_allocated(work):
    """`live` and `peak` of `LivePeak` as the CUDA allocator counts them while `work` runs, its result still alive.

    Rounding (512 bytes a tensor) and temporary storage of kernels are included. Run `work` once before, because the
    first call of a library allocates its workspace.
    """
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    result = work()
    torch.cuda.synchronize()
    live, peak = torch.cuda.memory_allocated() - before, torch.cuda.max_memory_allocated() - before
    del result
    return live, peak


def test_saved_tensors_by_hand():
    first, second = nn.Linear(3, 5, bias=False), nn.Linear(5, 2, bias=False)
    x = torch.ones(7, 3)
    with SavedTensors() as saved:
        y = second(torch.tanh(first(x)))
        parameters = [first.weight, second.weight]
        # tanh's output is saved by tanh and by the second map: one storage.
        assert saved.nbytes(excluding=[*parameters, x]) == 4 * 7 * 5
        assert saved.nbytes(excluding=parameters) == 4 * (7 * 3 + 7 * 5)
        y.sum().backward()
        assert saved.nbytes() == 0, "backward frees what was saved"


@pytest.mark.parametrize("fake", [False, True])
def test_live_peak_by_hand(fake):
    with FakeTensorMode() if fake else contextlib.nullcontext():
        existing = torch.ones(100)
        with LivePeak() as live:
            a = torch.zeros(10)  # 40 bytes
            b = torch.zeros(20)  # 80 more
            view = b[:5]
            existing.add_(1)
            assert (live.live, live.peak) == (120, 120)
            del a
            assert (live.live, live.peak) == (80, 120)
            del b
            assert live.live == 80, "the view keeps the storage"
            del view
            assert (live.live, live.peak) == (0, 120)


@pytest.mark.parametrize("active", range(5))
@pytest.mark.parametrize("tied", [False, True])
def test_fake_tensors_predict_what_real_ones_save(active, tied, decoder):
    counts = []
    for mode in (contextlib.nullcontext(), FakeTensorMode()):
        with mode:
            model = decoder(tied=tied)
            blocks = by_layer(model).blocks
            model.requires_grad_(False)
            for parameter in blocks[min(active, len(blocks) - 1)].parameters.values():
                parameter.requires_grad_(True)
            tokens = torch.zeros(2, 6, dtype=torch.long)
            with SavedTensors() as saved, LivePeak() as live:
                loss = model(tokens).square().mean()
                at_the_end = saved.nbytes(excluding=[*model.parameters(), tokens])
                loss.backward()
            counts.append((at_the_end, live.live, live.peak))
    assert counts[0] == counts[1]
    assert counts[0][0] > 0


class Attention(nn.Module):
    """Causal attention without projections, then a map, with a residual connection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.up = nn.Linear(width, 4 * width, bias=False, dtype=torch.bfloat16)
        self.down = nn.Linear(4 * width, width, bias=False, dtype=torch.bfloat16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        split = x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        mixed = nn.functional.scaled_dot_product_attention(split, split, split, is_causal=True)
        x = x + mixed.transpose(1, 2).flatten(2)
        return x + self.down(nn.functional.silu(self.up(x)))


@pytest.mark.gpu
@pytest.mark.parametrize("active", [0, 2, 3])
def test_the_prediction_on_fake_cpu_tensors_is_what_a_gpu_allocates(active):
    def build():
        model = nn.Sequential(*(Attention(1024, heads=8) for _ in range(4)))
        for i, layer in enumerate(model):
            layer.requires_grad_(i == active)
        return model, torch.zeros(2, 2048, 1024, dtype=torch.bfloat16)

    with FakeTensorMode():
        model, x = build()
        with LivePeak() as live:
            loss = model(x).square().mean()
            forward = live.live
            loss.backward()
    model, x = build()
    model, x = model.cuda(), x.cuda()
    model(x).square().mean().backward()
    model.zero_grad()
    assert cuda_allocated(lambda: model(x).square().mean())[0] == pytest.approx(forward, rel=0.05)
    live_bytes, peak = cuda_allocated(lambda: model(x).square().mean().backward())
    assert live_bytes == sum(2 * p.numel() for p in model[active].parameters())
    assert peak == pytest.approx(live.peak, rel=0.05)
