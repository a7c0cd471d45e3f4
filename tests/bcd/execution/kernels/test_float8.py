"""Products of frozen weights in e4m3, against the same rounding done by hand in float64."""

import math

import pytest
import torch
from torch import nn

from bcd.execution import float8_products
from bcd.execution.kernels.float8 import LARGEST, float8_product, quantised, require_float8
from tests.bcd.execution.conftest import normal, one_map

HALF_STEP = 2.0**-4  # of e4m3, relative
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def e4m3(x):
    """x rounded to e4m3 in float64: 3 bits behind the leading one, exponents from -6, ties to even."""
    exponent = torch.floor(torch.log2(x.abs().clamp_min(2.0**-20))).clamp_min(-6)
    step = torch.exp2(exponent - 3)
    return torch.round(x / step) * step


def rounded(matrix):
    """(A / s rounded to e4m3, s) in float64, from the definition; s is a float32 number."""
    scale = (matrix.float().abs().amax(-1, keepdim=True) / LARGEST).double()
    return e4m3((matrix.float() / scale.float()).double()), scale


def test_a_row_keeps_its_largest_entry_and_every_other_within_half_a_step():
    matrix = normal(40, 300) * torch.logspace(-20, 20, 40)[:, None]
    numbers, scale = quantised(matrix)
    assert numbers.dtype is torch.float8_e4m3fn
    assert scale.shape == (40, 1)
    back = numbers.float() * scale
    assert torch.equal(numbers.float().abs().amax(-1), torch.full((40,), LARGEST))
    normal_numbers = numbers.float().abs() >= 2.0**-6
    error = (back - matrix).abs()
    assert (error <= (HALF_STEP + 1e-6) * matrix.abs())[normal_numbers].all()
    assert (error <= 2.0**-10 * scale * (1 + 1e-5))[~normal_numbers].all(), "below that, half of the smallest step"
    assert torch.equal(rounded(matrix)[0], numbers.double())


def test_rows_of_zeros_are_zero():
    numbers, scale = quantised(torch.zeros(2, 16))
    assert torch.equal(numbers.float() * scale, torch.zeros(2, 16))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("device", DEVICES)
def test_product_and_input_gradient_are_those_of_the_definition(device, bias):
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    model = one_map(dtype, bias).to(device)
    x = normal(3, 20, 32, seed=3, dtype=dtype).to(device).requires_grad_()
    upstream = normal(3, 20, 48, seed=4, dtype=dtype).to(device)
    undo = float8_products(model)
    y = model(x)
    y.backward(upstream)
    w, columns = rounded(model[0].weight)
    a, rows = rounded(x.detach().reshape(60, 32))
    expected = (a * rows) @ (w * columns).t() + (model[0].bias.double() if bias else 0.0)
    # Not the definition's scale before it is rounded to float32 once more: the product with it is rounded first.
    a, rows = rounded(upstream.reshape(60, 48).float() * columns.float().t())
    gradient = (a * rows) @ w
    epsilon = 2.0**-7 if device == "cuda" else 1e-6
    for found, true in ((y, expected), (x.grad, gradient)):
        error = (found.double().reshape(true.shape) - true).norm() / true.norm()
        assert error <= epsilon
    plain = nn.functional.linear(x, model[0].weight, model[0].bias)
    distance = ((y - plain).norm() / plain.norm()).item()
    assert 0.01 < distance < math.sqrt(2) * HALF_STEP, "e4m3, not the plain product"
    undo()
    assert type(model[0]) is nn.Linear
    assert torch.equal(model(x), plain)


@pytest.mark.gpu
@pytest.mark.parametrize("shape", [(2048, 512, 1024), (100, 64, 48)])
def test_the_kernel_multiplies_as_the_emulation(shape):
    tokens, outputs, inputs = shape
    (a, rows), (b, columns) = quantised(normal(tokens, inputs)), quantised(normal(outputs, inputs, seed=1))
    there = float8_product(a.cuda(), b.cuda(), rows.cuda(), columns.cuda(), torch.bfloat16).cpu().double()
    here = float8_product(a, b, rows, columns, torch.float32).double()
    assert (there - here).norm() <= 2.0**-8 * here.norm()


def test_cards_and_dtypes_that_cannot(weight_on_a_card):
    with pytest.raises(
        ValueError, match=r"not possible on a card, which has compute capability 8.0: torch's kernels need 8.9"
    ):
        require_float8(weight_on_a_card((8, 0)))
    with pytest.raises(ValueError, match=r"not possible with weights in torch.float32"):
        require_float8(weight_on_a_card((9, 0), torch.float32))
    require_float8(weight_on_a_card((9, 0)))
