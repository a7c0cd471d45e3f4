"""Averages of the weights: what they are, that training does not notice them, and that a resumed run has the same."""

import copy

import pytest
import torch

from bcd import Adam, RandomReshuffle, by_layer
from experiments.methods import BlockMethod
from experiments.methods.averaging import AveragedBlockMethod

STEPS = 7


def method(kind=AveragedBlockMethod, **options):
    return kind(by_layer, order=RandomReshuffle(seed=1), rule=Adam(), inner_steps=2, lr=0.05, **options)


def trained(make, model, count=STEPS):
    """The weights after every step, and the trainable."""
    trainable, path = make(model), []
    for i in range(count):
        x = torch.randn(5, 4, generator=torch.Generator().manual_seed(i)).double()
        trainable.model(x).square().mean().backward()
        trainable.optimizer.step()
        trainable.optimizer.zero_grad()
        path.append([p.detach().clone() for p in model.parameters()])
    return path, trainable


def layers():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(3))).double()


@pytest.mark.parametrize(("every", "points"), [("step", range(STEPS)), ("visit", (1, 3, 5))])
def test_the_average_is_evaluated_and_training_is_untouched(every, points):
    path, trainable = trained(method(decay=0.7, every=every), layers())
    plain, _ = trained(method(BlockMethod), layers())
    assert all(
        torch.equal(a, b) for one, other in zip(path, plain, strict=True) for a, b in zip(one, other, strict=True)
    )
    points = list(points)
    for place, weight in enumerate(trainable.model.parameters()):
        expected = path[points[0]][place]
        for point in points[1:]:
            expected = 0.7 * expected + 0.3 * path[point][place]
        with trainable.evaluating():
            torch.testing.assert_close(weight.detach(), expected, rtol=1e-12, atol=1e-14)
        assert torch.equal(weight, path[-1][place])


def test_before_the_first_visit_ends_the_weights_are_evaluated():
    path, trainable = trained(method(decay=0.7, every="visit"), layers(), count=1)
    with trainable.evaluating():
        assert all(torch.equal(a, b) for a, b in zip(trainable.model.parameters(), path[0], strict=True))


def test_the_average_counts_as_state():
    model = layers()
    averaged, plain = method(decay=0.5)(model), method(BlockMethod)(layers())
    size = sum(p.numel() * 8 for p in model.parameters())
    assert averaged.predicted().state == plain.predicted().state + size
    assert averaged.measured().state == plain.measured().state + size


def test_a_state_continues_exactly_and_a_foreign_one_is_refused():
    _, half = trained(method(decay=0.7), layers(), count=3)
    model = layers()
    model.load_state_dict(half.model.state_dict())
    other = method(decay=0.7)(model)
    other.optimizer.load_state_dict(copy.deepcopy(half.optimizer.state_dict()))
    for trainable in (half, other):
        trainable.model(torch.ones(2, 4).double()).square().mean().backward()
        trainable.optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(half.optimizer.average, other.optimizer.average, strict=True))
    with pytest.raises(ValueError, match="has no average of these weights"):
        other.optimizer.load_state_dict(method(BlockMethod)(layers()).optimizer.state_dict())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decay": 1.0}, "decay=1.0 is not possible"),
        ({"decay": True}, "decay=True is not possible"),
        ({"every": "epoch"}, "every='epoch' is not one of step, visit"),
    ],
)
def test_impossible_values_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        method(**options)
