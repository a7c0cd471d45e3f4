"""A visit that no gradient reaches is counted, and said once."""

import warnings

import pytest
import torch
from torch import nn

from bcd import SGD, BlockCoordinateDescent, Cyclic, Fixed, Greedy, by_layer
from bcd.execution import step_in_backward

SAID = "the block '{}' met no gradient in the 2 steps of its visit, so nothing moved"


def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(*[nn.Sequential(nn.Linear(3, 3), nn.Tanh()) for _ in range(3)])


def bcd(model, **options):
    settings = {"rule": SGD(), "order": Cyclic(), "inner_steps": 2, "lr": 0.1} | options
    return BlockCoordinateDescent(by_layer(model), **settings)


def train(model, optimizer, steps):
    for _ in range(steps):
        model(torch.ones(2, 3)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def test_steps_without_backward_are_said_once():
    optimizer = bcd(net())
    optimizer.step()
    with pytest.warns(UserWarning, match=SAID.format("0")):
        optimizer.step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(8):
            optimizer.step()
    assert optimizer.visits_started == 6


def test_parameters_that_are_the_models_no_more():
    model = net()
    optimizer = bcd(model)
    for layer in model:
        layer[0].weight, layer[0].bias = nn.Parameter(layer[0].weight.detach()), nn.Parameter(layer[0].bias.detach())
    with pytest.warns(UserWarning, match="are no longer those of the model"):
        train(model, optimizer, 2)


def test_something_else_froze_the_block():
    model = net()
    optimizer = bcd(model)
    train(model, optimizer, 2)
    bcd(model, order=Fixed([2]))  # a second optimizer: block 1, active in the first one, gets no gradient
    with pytest.warns(UserWarning, match=SAID.format("1")):
        train(model, optimizer, 2)


def test_one_block_of_several_without_gradient():
    model = net()
    optimizer = bcd(model, always_active=["2"], order=Fixed([0]))
    model[0].requires_grad_(False)
    with pytest.warns(UserWarning, match=SAID.format("0")):
        train(model, optimizer, 2)


@pytest.mark.parametrize("options", [{}, {"order": Greedy}, {"nonfinite": "skip"}, {"always_active": ["0"]}], ids=str)
def test_nothing_is_said_where_gradients_come(options):
    options = {name: value() if isinstance(value, type) else value for name, value in options.items()}
    model = net()
    optimizer = bcd(model, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(model, optimizer, 3)
        model(torch.ones(2, 3) * float("nan")).sum().backward()
        if "nonfinite" in options:
            optimizer.step()  # skipped, and so no step of the visit
        optimizer.zero_grad()
        train(model, optimizer, 4)
        other = net()
        resumed = bcd(other, **options)
        other.load_state_dict(model.state_dict())
        resumed.load_state_dict(optimizer.state_dict())
        train(other, resumed, 3)


def test_nothing_is_said_where_backward_moves():
    model = net()
    optimizer = bcd(model)
    step_in_backward(optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(model, optimizer, 6)
