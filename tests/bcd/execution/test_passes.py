"""What the compiler's graphs of layers with fused products compute otherwise."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from bcd.execution import Execution
from bcd.execution.passes import product_and_sum
from tests.bcd.execution.conftest import LAYERS, ON_A_GPU_WITH_QUACK

DEVICES = ["cpu", pytest.param("cuda", marks=ON_A_GPU_WITH_QUACK)]


@pytest.mark.parametrize("device", DEVICES)
def test_the_product_and_sum_is_rounded_once(device):
    dtype = torch.bfloat16 if device == "cuda" else torch.float64
    generator = torch.Generator().manual_seed(0)
    x, weight, residual = (
        torch.randn(size, generator=generator).to(device, dtype) for size in ((100, 48), (272, 48), (2, 50, 272))
    )
    exact = residual.double() + (x.double() @ weight.double().t()).view(residual.shape)
    errors = [
        ((each.double() - exact).norm() / exact.norm()).item()
        for each in (product_and_sum(x, weight, residual), residual + (x @ weight.t()).view(residual.shape))
    ]
    assert errors[0] <= (errors[1] if device == "cuda" else 1e-15), errors


@pytest.mark.parametrize("dynamic", [None, True])
@pytest.mark.parametrize("recompute", [None, 0])
def test_sums_are_in_products_and_nothing_is_kept_before_a_recomputation(recompute, dynamic, llama, tokens, activate):
    """One layer below the active one, two above it; two sums in each, of which the last is not computed again."""
    torch.compiler.reset()
    found = []
    for options in ({}, {"compiled": True, "frozen_products": "fused", "recompute": recompute}):
        model = llama()
        activate(model, 1)
        Execution(**options)(model)
        if options:
            model.model.layers[0].forward.compiled.dynamic = dynamic
        model(input_ids=tokens, labels=tokens).loss.backward()  # what compiling calls is not counted
        model.zero_grad()
        with profile(activities=[ProfilerActivity.CPU], record_shapes=True, acc_events=True) as profiled:
            loss = model(input_ids=tokens, labels=tokens).loss
            loss.backward()
        found.append([loss.detach(), *(p.grad for p in model.model.layers[1].parameters())])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5 * a.abs().max().item())
    above, events = LAYERS - 2, profiled.events()
    sums = [each.name for each in events].count("bcd::product_and_sum")
    kept = [each.concrete_inputs[3] for each in events if each.name == "bcd::gated_product"]
    if recompute is None:
        assert sums == 2 + 2 * above
        assert kept == [False, *[True] * above]
    else:
        assert sums == 2 + 3 * above
        assert kept == [False] * (1 + above) + [True] * above
    torch.compiler.reset()
