"""Gated MLPs with the activation inside their products, against the formula by hand in float64."""

import pytest
import torch

from bcd.execution import fused_products
from bcd.execution.kernels.gated import _width
from tests.bcd.execution.conftest import ON_A_GPU_WITH_QUACK

DEVICES = ["cpu", pytest.param("cuda", marks=ON_A_GPU_WITH_QUACK)]


def by_hand(x, upstream, mlp):
    """Y and dX of the module's docstring, in float64, with silu(a) = a / (1 + exp(-a)) differentiated."""
    gate, up, down = (each.weight.double() for each in (mlp.gate_proj, mlp.up_proj, mlp.down_proj))
    x, upstream = x.detach().double().flatten(0, 1), upstream.double().flatten(0, 1)
    a, b = x @ gate.T, x @ up.T
    sigmoid = 1 / (1 + torch.exp(-a))
    dh = upstream @ down
    da = dh * b * (sigmoid + a * sigmoid * (1 - sigmoid))
    return (a * sigmoid * b) @ down.T, da @ gate + (dh * a * sigmoid) @ up


@pytest.mark.parametrize("device", DEVICES)
def test_output_and_input_gradient_are_those_of_the_formula(device, llama):
    dtype = torch.bfloat16 if device == "cuda" else torch.float64
    model = llama(dtype, hidden_size=128, intermediate_size=272).to(device).requires_grad_(False)
    mlp = model.model.layers[0].mlp
    generator = torch.Generator().manual_seed(1)
    x, upstream = (torch.randn(2, 50, 128, generator=generator).to(device, dtype) for _ in range(2))
    errors = {}
    for name in ("plain", "fused"):
        if name == "fused":
            fused_products(model)
        own = x.clone().requires_grad_()
        y = mlp(own)
        y.backward(upstream)
        with torch.no_grad():  # on a GPU by another kernel, which writes less
            assert ((mlp(x) - y).norm() / y.norm()).item() <= (2.0**-8 if device == "cuda" else 0.0)
        pairs = zip((y, own.grad), by_hand(x, upstream, mlp), strict=True)
        errors[name] = [((a.double().flatten(0, 1) - b).norm() / b.norm()).item() for a, b in pairs]
    limit = [1.2 * error for error in errors["plain"]] if device == "cuda" else [1e-14] * 2
    assert all(error <= most for error, most in zip(errors["fused"], limit, strict=True)), errors


def test_the_width_of_a_tile_is_that_with_less_to_do():
    """The two shapes of Llama 3-8B's that were measured; and one round is one round."""
    assert _width(8192, 28672, 256, 132) == _width(8192, 14336, 128, 132) == 192
    assert _width(2048, 28672, 256, 132) == _width(2048, 14336, 128, 132) == 160
    assert _width(1, 160, 128, 132) == 160
    assert _width(1, 161, 128, 1) == 192


def test_twice_is_refused(llama):
    """A GPU's kernels are constants to autograd, which would leave their part out of a second derivative."""
    model = llama().requires_grad_(False)
    fused_products(model)
    x = torch.ones(2, 32, requires_grad=True)
    (gradient,) = torch.autograd.grad(model.model.layers[0].mlp(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="fused products have no second derivative"):
        gradient.sum().backward()
