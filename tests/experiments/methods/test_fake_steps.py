"""Bytes of optimizers that step on fake tensors, against those of the same optimizers on real ones."""

from functools import partial

import pytest
import schedulefree
import torch
from torch import nn

from bcd.memory import nbytes
from bcd.memory.activations import LivePeak
from experiments.methods.fake_steps import state_bytes, tensors, update_bytes

SHAPES = [(40, 16), (24, 16), (16,), (24, 16), (16,), (16, 24)]


def schedule_free(parameters):
    optimizer = schedulefree.AdamWScheduleFree(parameters, lr=1e-3)
    optimizer.train()
    return optimizer


MAKE = {
    "sgd": partial(torch.optim.SGD, lr=1e-3, foreach=True),
    "momentum": partial(torch.optim.SGD, lr=1e-3, momentum=0.9, foreach=True),
    "adamw of one kernel": partial(torch.optim.AdamW, lr=1e-3, fused=True),
    "adamw one by one": partial(torch.optim.AdamW, lr=1e-3, foreach=False),
    "adamw all at once": partial(torch.optim.AdamW, lr=1e-3, foreach=True),
    "rmsprop": partial(torch.optim.RMSprop, lr=1e-3, centered=True, foreach=True),
    "adafactor, which looks at numbers": partial(torch.optim.Adafactor, lr=1e-3, foreach=False),
    "schedule-free": schedule_free,
}


@pytest.mark.usefixtures("global_generator_untouched")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", MAKE)
def test_fake_steps_take_what_real_ones_take(name, dtype):
    generator = torch.Generator().manual_seed(0)
    parameters = [nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in SHAPES]
    optimizer = MAKE[name](parameters)
    peaks = []
    for _ in range(3):
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=generator).to(dtype)
        with LivePeak() as live:
            optimizer.step()
        peaks.append(live.peak)
    meta = [parameter.to("meta") for parameter in parameters]
    assert state_bytes(MAKE[name], [meta]) == nbytes(tensors(list(optimizer.state.values())))
    assert update_bytes(MAKE[name], [meta]) == pytest.approx(peaks[-1], abs=64), "up to numbers of a few bytes"


def test_a_list_of_tensors_is_what_a_gpu_gets():
    parameters = [torch.empty(shape, device="meta") for shape in SHAPES]
    chosen = update_bytes(torch.optim.AdamW, [parameters])
    assert chosen == update_bytes(partial(torch.optim.AdamW, foreach=True), [parameters])
    assert chosen == pytest.approx(nbytes(parameters), abs=64), "the roots of all second moments"


def test_parameters_of_one_shape_in_two_groups_are_counted_in_each():
    def make(plain, averaged):
        return torch.optim.SGD([{"params": plain, "momentum": 0.0}, {"params": averaged, "momentum": 0.9}], lr=1.0)

    plain, averaged = ([torch.empty(4, 4, device="meta") for _ in range(count)] for count in (2, 3))
    assert state_bytes(make, [plain, averaged]) == nbytes(averaged)


def test_an_optimizer_that_cannot_is_named():
    class Picky(torch.optim.SGD):
        def step(self, closure=None):
            for parameter in self.param_groups[0]["params"]:
                parameter.grad.nonzero()

    with pytest.raises(ValueError, match=r"Picky cannot take a step on fake tensors, .*footprint of its own"):
        state_bytes(Picky, [[torch.empty(3, device="meta")]])
