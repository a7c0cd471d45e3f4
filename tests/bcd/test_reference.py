"""Every rule, order and partition of conf/ against the slow reference."""

import copy
import functools
import inspect
import itertools
import re
from fractions import Fraction

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

import bcd
from bcd import BlockCoordinateDescent, Cyclic, RandomReshuffle, minimise, reference
from bcd.rules.rule import as_tensorwise
from tests.bcd.conftest import by_name
from tests.conftest import ROOT, RTOL
from tests.cover import crossed

ATOL = 1e-14  # beside numbers of order one: a weight or a moment may cancel to almost zero


# --- the same rule in the package and in the reference ---


def transcribed(name, rule, blocks):
    """The updates of `bcd.reference` that are named as the rule's class, with the rule's hyperparameters.

    `blocks` has the shapes of each block's tensors; rules that move every number by itself do not take them.
    """
    kind = type(rule).__name__
    called = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", "_", kind).lower()
    make = getattr(reference, called, None)
    if make is None:
        pytest.fail(
            f"conf/rule/{name}.yaml makes {kind}, which the reference does not have: add {called}() to "
            "bcd/reference.py, with the hyperparameters of the rule by name"
        )
    takes_shapes = "shapes" in inspect.signature(make).parameters
    return [make(**by_name(rule), **({"shapes": shapes} if takes_shapes else {})) for shapes in blocks]


# --- the files of conf/, with values for what they leave open ---


def names(axis):
    return sorted(path.stem for path in (ROOT / "conf" / axis).glob("*.yaml"))


def made(axis, name, values):
    """What the file makes, with `values` in place of its own."""
    config = OmegaConf.create(
        {"seed": 0, "outside_layers": {"embedding": "join", "final_norm": "freeze", "head": "train"}}
    )
    config.node = OmegaConf.merge(OmegaConf.load(ROOT / "conf" / axis / f"{name}.yaml"), values)
    if missing := sorted(key.rpartition(".")[2] for key in OmegaConf.missing_keys(config.node)):
        pytest.fail(f"conf/{axis}/{name}.yaml asks for {missing}: add values to {axis}_values in this file")
    return instantiate(config.node)


partition_values = {
    "by_ratio": {"parts": 3},
    "by_regex": {"patterns": [r"layers\.0\..*", r".*norm.*", r"embed.*"], "rest": "train"},
}


@functools.cache
def partition_of(name):
    return made("partition", name, partition_values.get(name, {}))


@functools.cache
def rule_of(name):
    return made("rule", name, {})


def order_values(num_blocks):
    """Sets of two blocks wherever there are two."""
    two = min(2, num_blocks)
    return {
        "fixed": {"visits": [num_blocks - 1, list(range(two))]},
        "greedy": {"count": two},
        "sliding_window": {"width": two},
        "uniform": {"count": two},
        "weighted": {"weights": [1.0 + i for i in range(num_blocks)], "count": two},
    }


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(2)
        self.attention = nn.Linear(2, 2)
        self.mlp = nn.Linear(2, 3, bias=False)


class Tiny(nn.Module):
    """Parameters where a decoder has them; the objective below needs no forward."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(3, 2)
        self.layers = nn.ModuleList(Layer() for _ in range(3))
        self.norm = nn.LayerNorm(2)
        self.head = nn.Linear(2, 3, bias=False)
        generator = torch.Generator().manual_seed(0)
        self.double()
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)

    def objective(self):
        """Every parameter is coupled with every other one, and the curvature depends on the point."""
        y = torch.cat([parameter.flatten() for parameter in self.parameters()])
        return y.sum().square() / len(y) + torch.cos(1.5 * y).sum() + (y.roll(1) * y).sum() / 3


class Recorded:
    """The rule, and the state that it left of each block; the optimizer may drop it in the same step."""

    def __init__(self, rule):
        self.rule = rule
        self.states = []

    def __getattr__(self, name):
        return getattr(self.rule, name)

    def update(self, parameters, gradients, states, lr, hyperparameters):
        self.rule.update(parameters, gradients, states, lr, hyperparameters)
        self.states.append(
            [{name: value.flatten().tolist() for name, value in state.items()} for state in states]  # per parameter
        )


class Witness:
    """The order, and the visits that the optimizer got from it."""

    def __init__(self, order):
        self.order = order
        self.visits = []

    def __getattr__(self, name):
        return getattr(self.order, name)

    def next_visit(self, num_blocks):
        self.visits.append(self.order.next_visit(num_blocks))
        return self.visits[-1]

    def choose(self, norms, sizes):
        self.visits.append(self.order.choose(norms, sizes))
        return self.visits[-1]


def flat(tensors):
    return [number for tensor in tensors for number in tensor.flatten().tolist()]


def numbers(block):
    """The block's weights, one list."""
    return flat(part.of(part.parameter) for part in block.parts)


def closes(found, expected):
    torch.testing.assert_close(
        torch.tensor(found, dtype=torch.float64),
        torch.tensor(expected, dtype=torch.float64),
        rtol=RTOL["float64 against the reference"],
        atol=ATOL,
    )


def compare(rule_name, rule, order_name, partition_name, inner_steps, visits=4):
    """One run of the optimizer, and the reference with the visits and gradients that it had."""
    model = Tiny()
    partition = partition_of(partition_name)(model)
    shapes = [[part.of(part.parameter).shape for part in block.parts] for block in partition.blocks]
    updates = transcribed(rule_name, rule, shapes)
    order = Witness(made("order", order_name, order_values(len(partition)).get(order_name, {})))
    lrs = [0.01 * (1 + i) for i in range(len(partition))]
    recorded = Recorded(rule)
    optimizer = BlockCoordinateDescent(partition, rule=recorded, order=order, inner_steps=inner_steps, lr=lrs)
    start = [numbers(block) for block in partition.blocks]
    gradients, iterates = [], []
    for step in range(visits * inner_steps):
        model.objective().backward()
        full = {id(p): p.grad.clone() for p in model.parameters() if p.grad is not None}
        optimizer.step()
        iterates.append([numbers(block) for block in partition.blocks])
        for i in order.visits[step // inner_steps]:
            gradients.append((i, flat(part.of(full[id(part.parameter)]) for part in partition.blocks[i].parts)))
        optimizer.zero_grad()

    in_turn, states = iter(gradients), []

    def gradient(i, x):
        index, values = next(in_turn)
        assert index == i
        return values

    def noted(update):
        def updated(x, g, state, lr):
            x = update(x, g, state, lr)
            states.append(copy.deepcopy(state))
            return x

        return updated

    made_visits, update = order.visits[:visits], list(map(noted, updates))
    expected = reference.descend(gradient, start, made_visits, update=update, inner_steps=inner_steps, lr=lrs)
    assert len(expected) == len(iterates) == visits * inner_steps
    closes([list(itertools.chain(*x)) for x in iterates], [list(itertools.chain(*x)) for x in expected])
    assert len(states) == len(recorded.states) == len(gradients)
    for ours, theirs in zip(recorded.states, states, strict=True):
        if as_tensorwise(rule):  # the reference has a state for each tensor
            for mine, its in zip(ours, theirs.values(), strict=True):
                for found, value in zip(mine.values(), its.values(), strict=True):
                    closes(found, value if isinstance(value, list) else [value])
            continue
        for name, value in zip(ours[0], theirs.values(), strict=True):  # made in the same order
            if isinstance(value, list):
                closes([number for state in ours for number in state[name]], value)
            else:  # a counter
                assert all(state[name] == [value] for state in ours)


@crossed(rule=names("rule"), order=names("order"), partition=names("partition"), inner_steps=[1, 3])
def test_weights_and_state_are_the_references(rule, order, partition, inner_steps):
    if partition == "by_ratio" and as_tensorwise(rule_of(rule)):
        with pytest.raises(ValueError, match=r"is not possible with rows 0:1 of .* its step depends on all of the"):
            compare(rule, rule_of(rule), order, partition, inner_steps)
        return
    compare(rule, rule_of(rule), order, partition, inner_steps)


def decayed(rule):
    """The rule with weight decay, if it has any."""
    has = "weight_decay" in OmegaConf.load(ROOT / "conf" / "rule" / f"{rule}.yaml")
    return made("rule", rule, {"weight_decay": 0.3} if has else {})


@pytest.mark.parametrize("rule", names("rule"))
def test_weight_decay_is_the_references(rule):
    compare(rule, decayed(rule), "random_reshuffle", "by_layer", 3)


def test_the_comparison_tells_a_wrong_rule_and_names_a_new_one(monkeypatch):
    sgd = reference.sgd
    monkeypatch.setattr(reference, "sgd", lambda **_: sgd(weight_decay=1e-9))
    with pytest.raises(AssertionError, match="Tensor-likes are not close"):
        compare("sgd", bcd.SGD(), "cyclic", "by_layer", 1)
    with pytest.raises(pytest.fail.Exception, match=r"conf/rule/lion.yaml makes Fraction.*add fraction\(\)"):
        transcribed("lion", Fraction(1), [])
    with pytest.raises(pytest.fail.Exception, match=r"conf/order/fixed.yaml asks for \['visits'\]: add values to"):
        made("order", "fixed", {})


# --- the reference computes its own gradients ---


@crossed(rule=names("rule"), inner_steps=[1, 2, 5], order={"cyclic": Cyclic, "random_reshuffle": RandomReshuffle})
def test_trajectory_of_minimise_is_the_references(rule, inner_steps, order):
    generator = torch.Generator().manual_seed(1)
    A = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    A = A @ A.T / 6 + torch.eye(6, dtype=torch.float64)
    start = list(torch.randn(6, generator=generator, dtype=torch.float64).split([1, 2, 3]))

    def f(x):
        y = torch.cat(list(x))
        return y @ A @ y / 2 + torch.cos(y).sum()

    def gradient(i, x):
        y = torch.tensor([number for block in x for number in block], dtype=torch.float64)
        return (A @ y - torch.sin(y)).split([1, 2, 3])[i].tolist()

    made_rule = decayed(rule)
    steps = minimise(f, start, rule=made_rule, order=order(), inner_steps=inner_steps, lr=0.05, visits=9)
    expected = reference.descend(
        gradient,
        [block.tolist() for block in start],
        [(step.block,) for step in steps if step.k == 1],
        update=transcribed(rule, made_rule, [[block.shape] for block in start]),
        inner_steps=inner_steps,
        lr=[0.05] * 3,
    )
    assert len(expected) == len(steps) == 9 * inner_steps
    for step, iterate in zip(steps, expected, strict=True):
        closes(torch.cat(step.after).tolist(), list(itertools.chain(*iterate)))
