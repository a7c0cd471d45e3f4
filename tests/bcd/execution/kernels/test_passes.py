"""What the compiler's graphs of layers with fused products compute otherwise."""

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.profiler import ProfilerActivity, profile

from bcd.execution import Execution, compiled_layers
from bcd.execution.kernels.gated import gated_down, gated_product
from bcd.execution.kernels.passes import KeepWhatIsUsed, SumsInProducts, product_and_sum
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


SUMS = {
    "as it is": (1, lambda residual, y: residual + y),
    "the other way round": (1, lambda residual, y: y + residual),
    "in another shape": (1, lambda residual, y: residual.view(2, 10, 32) + y.view(2, 10, 32)),
    "broadcast": (0, lambda residual, y: residual[:1] + y),
    "of another dtype": (0, lambda residual, y: residual.double() + y),
    "weighted": (0, lambda residual, y: torch.add(residual, y, alpha=2)),
    "turned": (0, lambda residual, y: residual.view(32, 20).t() + y),
    "and used again": (0, lambda residual, y: (residual + y) * y),
    "with itself": (0, lambda residual, y: y + y),
    "scaled before": (0, lambda residual, y: residual + 0.5 * y),
}


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("name", SUMS)
def test_which_sums_are_in_products(name, keep):
    """And that A and B, for which no gradient asks here, are not written in any of them."""
    expected, total = SUMS[name]
    generator = torch.Generator().manual_seed(0)
    sizes = (20, 32), (48, 32), (48, 32), (32, 48), (20, 32)
    inputs = [torch.randn(size, generator=generator) for size in sizes]

    def computed(x, gate, up, down, residual):
        h, ab = gated_product(x, gate, up, keep)
        return total(residual, gated_down(h, ab, down) if keep else h @ down.permute(1, 0))

    made = make_fx(computed, tracing_mode="fake")(*inputs)
    for change in (SumsInProducts(), KeepWhatIsUsed()):
        change(made.graph)
    made.graph.lint()
    made.recompile()
    (product,) = made.graph.find_nodes(op="call_function", target=gated_product)
    assert product.args[3] is False
    assert not made.graph.find_nodes(op="call_function", target=gated_down)
    assert len(made.graph.find_nodes(op="call_function", target=product_and_sum)) == expected
    torch.testing.assert_close(made(*inputs), computed(*inputs), rtol=1e-5, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("recompute", "dynamic"), [(None, None), (0, True)])
def test_sums_are_in_products_and_nothing_is_kept_before_a_recomputation(recompute, dynamic, llama, tokens, activate):
    """One layer below the active one, two above it; two sums in each, of which the last is not computed again."""
    torch.compiler.reset()
    results = []
    for options in ({}, {"compiled": True, "frozen_products": "fused", "recompute": recompute}):
        model = llama()
        activate(model, 1)
        Execution(**options)(model)
        if options:
            compiled_layers(model).dynamic = dynamic
        model(input_ids=tokens, labels=tokens).loss.backward()  # what compiling calls is not counted
        model.zero_grad()
        with profile(activities=[ProfilerActivity.CPU], record_shapes=True, acc_events=True) as profiled:
            loss = model(input_ids=tokens, labels=tokens).loss
            loss.backward()
        results.append([loss.detach(), *(p.grad for p in model.model.layers[1].parameters())])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5 * a.abs().max().item())
    above, events = LAYERS - 2, profiled.events()
    sums = [each.name for each in events].count("bcd::product_and_sum")
    keeps = [each.concrete_inputs[3] for each in events if each.name == "bcd::gated_product"]
    if recompute is None:
        assert sums == 2 + 2 * above
        assert keeps == [False, *[True] * above]
    else:
        assert sums == 2 + 3 * above
        assert keeps == [False] * (1 + above) + [True] * above
    torch.compiler.reset()
