"""The loss that never holds the logits, beside the plain one."""

import sys

import pytest
import torch
import torch.nn.functional as F

from bcd.execution import linear_cross_entropy
from bcd.execution.kernels.loss import _of_chunk, require_fused
from bcd.memory.activations import LivePeak
from tests.bcd.execution.conftest import ON_A_GPU_WITH_QUACK
from tests.cover import crossed

RTOL = 1e-5  # same mathematics in float32


def inputs(dtype=torch.float32, rows=50, width=16, vocabulary=40, bias=False):
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(*s, generator=generator) for s in ((rows, width), (vocabulary, width), (vocabulary,))]
    hidden, weight, offset = (t.to(dtype).requires_grad_() for t in tensors)
    labels = torch.randint(0, vocabulary, (rows,), generator=generator)
    labels[::7] = -100
    return hidden, weight, (offset if bias else None), labels


def plain(hidden, weight, bias, labels, count=None, z_loss=0.0):
    logits = F.linear(hidden, weight, bias)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    loss = F.cross_entropy(logits, labels, reduction="sum")
    if z_loss:
        loss = loss + z_loss * logits.logsumexp(-1)[labels != -100].square().sum()
    return loss / ((labels != -100).sum() if count is None else count)


def gradients(loss, *tensors):
    return [loss.detach(), *torch.autograd.grad(loss, [t for t in tensors if t is not None])]


@crossed(dtype=[torch.float32, torch.float64], chunk=[1, 7, 64], bias=[False, True], z_loss=[0.0, 1e-2])
def test_value_and_gradients_are_those_of_the_plain_loss(dtype, chunk, bias, z_loss):
    rtol = RTOL if dtype == torch.float32 else 1e-12
    hidden, weight, offset, labels = inputs(dtype, bias=bias)
    expected = gradients(plain(hidden, weight, offset, labels, z_loss=z_loss), hidden, weight, offset)
    loss = linear_cross_entropy(hidden, weight, labels, bias=offset, chunk=chunk, z_loss=z_loss)
    for a, b in zip(gradients(loss, hidden, weight, offset), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=rtol * b.abs().max().item())


@pytest.mark.skipif(not hasattr(F, "linear_cross_entropy"), reason="torch 2.11 has no linear_cross_entropy")
def test_equals_torchs_own():
    hidden, weight, _, labels = inputs()
    expected = gradients(F.linear_cross_entropy(hidden, weight, labels), hidden, weight)
    found = gradients(linear_cross_entropy(hidden, weight, labels, chunk=8), hidden, weight)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=RTOL, atol=RTOL * b.abs().max().item())


def error(found, exact):
    return ((found.double() - exact).norm() / exact.norm()).item()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_as_exact_as_the_plain_loss(dtype):
    hidden, weight, _, labels = inputs(dtype, rows=300)
    double = [t.detach().double().requires_grad_() for t in (hidden, weight)]
    exact = gradients(plain(*double, None, labels), *double)
    usual = gradients(plain(hidden, weight, None, labels), hidden, weight)
    found = gradients(linear_cross_entropy(hidden, weight, labels, chunk=64), hidden, weight)
    assert found[0].dtype == torch.float32
    for a, b, c in zip(found, usual, exact, strict=True):
        assert error(a, c) <= max(1.2 * error(b, c), 1e-7)


def test_a_gradient_from_above_is_multiplied_once_and_kept_for_a_second_backward():
    hidden, weight, _, labels = inputs(torch.bfloat16)
    loss = linear_cross_entropy(hidden, weight, labels)
    once, thrice = (torch.autograd.grad(loss * k, hidden, retain_graph=True)[0] for k in (1, 3))
    assert error(thrice, 3 * once.double()) < 2**-8
    assert torch.equal(torch.autograd.grad(loss, hidden)[0], once)


def test_a_count_of_its_own_divides_as_transformers_does():
    hidden, weight, _, labels = inputs()
    for count in (17, torch.tensor(17)):
        loss = linear_cross_entropy(hidden, weight, labels, count=count)
        torch.testing.assert_close(loss, plain(hidden, weight, None, labels, 17), rtol=RTOL, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_without_labels_the_loss_is_nan_and_moves_nothing(dtype):
    hidden, weight, _, labels = inputs(dtype)
    loss, gradient = gradients(linear_cross_entropy(hidden, weight, labels.fill_(-100)), hidden)
    assert loss.isnan()
    assert not gradient.any()


@pytest.mark.parametrize("needs", [(False, False), (True, False), (False, True)])
def test_only_gradients_that_are_needed_take_memory(needs):
    rows, width, vocabulary, chunk = 256, 32, 4096, 8
    hidden, weight, _, labels = inputs(rows=rows, width=width, vocabulary=vocabulary)
    for tensor, need in zip((hidden, weight), needs, strict=True):
        tensor.requires_grad_(need)
    with LivePeak() as live:
        loss = linear_cross_entropy(hidden, weight, labels, chunk=chunk)
    assert loss.requires_grad == any(needs)
    held = 4 * (rows * width * needs[0] + vocabulary * width * needs[1])
    assert held <= live.peak <= held + 4 * 4 * chunk * vocabulary + 2**14
    assert live.peak < 4 * rows * vocabulary / 2, "all logits never exist"


@pytest.mark.slow
@pytest.mark.parametrize("z_loss", [1e-2])
def test_the_compiled_kernel_agrees(z_loss):
    hidden, weight, _, labels = inputs()
    found = [
        gradients(linear_cross_entropy(hidden, weight, labels, chunk=16, z_loss=z_loss, compiled=c), hidden, weight)
        for c in (False, True)
    ]
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=RTOL, atol=RTOL * b.abs().max().item())


def test_labels_may_lie_anyhow(monkeypatch):
    hidden, weight, _, labels = inputs()
    expected = linear_cross_entropy(hidden, weight, labels)
    strided = torch.stack([labels, labels], 1)[:, 0]
    seen = []

    def recorded(*given):
        of_chunk = _of_chunk(*given)
        return lambda logits, labels: seen.append(labels.stride()) or of_chunk(logits, labels)

    monkeypatch.setattr("bcd.execution.kernels.loss._of_chunk", recorded)
    assert torch.equal(linear_cross_entropy(hidden, weight, strided), expected)
    assert seen == [(1,)], "quack's kernel wants them one behind the other"


def test_on_a_cpu_the_fused_loss_is_the_chunked_one():
    hidden, weight, _, labels = inputs()
    found = [gradients(linear_cross_entropy(hidden, weight, labels, fused=f), hidden, weight) for f in (False, True)]
    assert all(map(torch.equal, *found))


@pytest.mark.parametrize("chunk", [64, 300])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("device", [pytest.param("cuda", marks=ON_A_GPU_WITH_QUACK)])
def test_the_fused_loss_on_the_gpu_is_as_exact_as_the_plain_one(device, dtype, bias, chunk):
    hidden, weight, offset, labels = inputs(dtype, rows=300, vocabulary=1000, bias=bias)
    double = [None if t is None else t.detach().double().requires_grad_() for t in (hidden, weight, offset)]
    exact = gradients(plain(*double, labels, 17), *double)
    hidden, weight, offset = (
        None if t is None else t.detach().to(device).requires_grad_() for t in (hidden, weight, offset)
    )
    labels = labels.to(device)
    own = {"bias": offset, "chunk": chunk, "count": 17, "fused": True}
    usual = gradients(plain(hidden, weight, offset, labels, 17), hidden, weight, offset)
    found = gradients(linear_cross_entropy(hidden, weight, labels, **own), hidden, weight, offset)
    for a, b, c in zip(found, usual, exact, strict=True):
        assert a.dtype == b.dtype
        assert error(a.cpu(), c) <= max(1.2 * error(b.cpu(), c), 1e-6)
    with torch.no_grad():  # another kernel
        assert error(linear_cross_entropy(hidden, weight, labels, **own).cpu(), exact[0]) < max(
            error(usual[0].cpu(), exact[0]) * 1.2, 1e-6
        )
    nothing = gradients(linear_cross_entropy(hidden, weight, labels.fill_(-100), fused=True), hidden)
    assert nothing[0].isnan()
    assert not nothing[1].any()


def test_autocast_multiplies_in_its_dtype():
    hidden, weight, _, labels = inputs()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = gradients(linear_cross_entropy(hidden, weight, labels), hidden, weight)
        usual = gradients(plain(hidden, weight, None, labels), hidden, weight)
    exact = gradients(plain(*(t.double() for t in (hidden, weight)), None, labels), hidden, weight)
    for a, b, c in zip(found, usual, exact, strict=True):
        assert a.dtype == b.dtype
        assert 1e-6 < error(a, c.double()) <= 1.2 * error(b, c.double())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chunk": 0}, "chunk=0 is not possible"),
        ({"z_loss": -1.0}, r"z_loss=-1\.0 is not possible"),
        ({"fused": 1}, "fused=1 is not one of True, False"),
        ({"z_loss": 1e-4, "fused": True}, "z_loss=0.0001 is not possible with a fused loss"),
        ({"labels": torch.zeros(3, dtype=torch.long)}, r"labels \(3,\) do not fit"),
    ],
)
def test_impossible_arguments_are_named(changes, message):
    hidden, weight, _, labels = inputs()
    with pytest.raises(ValueError, match=message):
        linear_cross_entropy(hidden, weight, **({"labels": labels} | changes))


def test_cards_dtypes_and_installations_without_a_fused_loss(monkeypatch, weight_on_a_card):
    with pytest.raises(ValueError, match=r"a fused loss is not possible on a card, which has compute capability 8.0"):
        require_fused(weight_on_a_card((8, 0)), 0.0)
    with pytest.raises(ValueError, match=r"not possible with logits in torch.float64: quack's want bfloat16 or"):
        require_fused(weight_on_a_card((9, 0), torch.float64), 0.0)
    monkeypatch.setitem(sys.modules, "quack.gemm_interface", None)
    with pytest.raises(ImportError, match="a fused loss is not possible without quack"):
        require_fused(weight_on_a_card((9, 0)), 0.0)
