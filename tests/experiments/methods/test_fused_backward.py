"""LOMO and AdaLOMO, which move the weights inside backward, against their published updates."""

import pytest
import torch
from torch import nn

from experiments.methods import FullMethod
from experiments.methods.fused_backward import AdaLOMOMethod, LOMOMethod
from tests.conftest import RTOL
from tests.experiments.methods.conftest import same, steps

FLOAT32 = RTOL["same mathematics in float32"]


@pytest.mark.parametrize("max_norm", [float("inf"), 1e6, 0.1])
def test_lomo_is_sgd_with_and_without_clipping(max_norm, small):
    lomo = LOMOMethod(lr=0.1)(small())
    sgd = FullMethod(lambda p, lr: torch.optim.SGD(p, lr=lr), 0.1)(small())
    steps(lomo, 3, max_norm)
    steps(sgd, 3, max_norm)
    tolerance = {"rtol": 0, "atol": 0} if max_norm == float("inf") else {"rtol": FLOAT32, "atol": FLOAT32}
    same(lomo.model, sgd.model, **tolerance)


def test_lomo_knows_the_norm_when_it_clips_and_moves_nothing_before_the_step(small):
    lomo, plain = LOMOMethod(lr=0.1)(small()), small()
    lomo.backward(lomo.model.loss())
    norm = lomo.clipped(0.5)
    plain.loss().backward()
    expected = nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
    torch.testing.assert_close(norm, expected, rtol=FLOAT32, atol=0)
    same(lomo.model, plain, rtol=0, atol=0)
    lomo.optimizer.zero_grad()  # a step that is skipped
    same(lomo.model, plain, rtol=0, atol=0)
    lomo.backward(lomo.model.loss())
    assert lomo.clipped(float("inf")) is None


def test_lomo_tells_of_a_gradient_that_is_not_finite(small):
    lomo = LOMOMethod(lr=0.1)(small())
    lomo.backward(lomo.model.loss() + 0 * (0 * lomo.model.head.weight.sum()).sqrt())
    norm = lomo.clipped(1.0)
    assert norm is not None
    assert norm.isnan()


def test_lomo_never_holds_two_gradients(small):
    lomo = LOMOMethod(lr=0.1)(small())
    steps(lomo, 2)
    largest = max(p.numel() * 4 for p in lomo.model.parameters())
    assert lomo.measured().gradients == lomo.predicted().gradients == largest


def adalomo_step(weights, gradients, moments, step, lr):
    """AdaLOMO by hand (arXiv 2310.10195): Adafactor's factored second moment, relative to the size of the weights."""
    beta = 1 - step**-0.8
    for name, weight in weights.items():
        gradient = gradients[name]
        square = gradient**2 + 1e-30
        if weight.ndim == 2:
            new = square.mean(1), square.mean(0)
            old = moments.get(name, new)
            row, column = moments[name] = tuple(beta * a + (1 - beta) * b for a, b in zip(old, new, strict=True))
            update = gradient / (torch.outer(row, column) / row.mean()).sqrt()
        else:
            moments[name] = beta * moments.get(name, square) + (1 - beta) * square
            update = gradient / moments[name].sqrt()
        update = update / max(1.0, update.square().mean().sqrt().item())
        size = max(1e-3, weight.square().mean().sqrt().item())
        weights[name] = weight - lr * size * update


@pytest.mark.parametrize("max_norm", [float("inf"), 0.1])
def test_adalomo_is_its_published_update(max_norm, small):
    ada = AdaLOMOMethod(lr=0.01)(small())
    steps(ada, 3, max_norm)
    model, moments = small().double(), {}
    for i in range(3):
        model.zero_grad()
        model.loss(i).backward()
        nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        weights = {name: p.detach().clone() for name, p in model.named_parameters()}
        adalomo_step(weights, {name: p.grad for name, p in model.named_parameters()}, moments, i + 1, 0.01)
        model.load_state_dict(weights)
    for (name, a), b in zip(ada.model.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


def test_adalomo_never_holds_two_gradients_and_tells_its_state(small):
    ada = AdaLOMOMethod(lr=0.01)(small())
    steps(ada, 2)
    assert ada.measured().gradients == ada.predicted().gradients == max(p.numel() * 4 for p in ada.model.parameters())
    held = [*ada.optimizer.exp_avg_sq.values(), *ada.optimizer.exp_avg_sq_row.values()]
    held += [*ada.optimizer.exp_avg_sq_col.values()]
    assert ada.predicted().state == ada.measured().state == sum(moment.numel() * 4 for moment in held)
