"""What the optimizer cannot do is refused with the value and a way out; other files refuse more.

A case is a call and the message, from its first word to its last.
"""

import pytest
import torch
from torch import nn

from bcd import (
    SGD,
    Adam,
    Block,
    BlockCoordinateDescent,
    Cyclic,
    Descending,
    Greedy,
    Partition,
    RandomReshuffle,
    by_layer,
    minimise,
)

ONES = (torch.ones(1), torch.ones(1))


def model():
    return nn.Sequential(nn.Linear(2, 3, bias=False), nn.Linear(3, 1, bias=False))


def bcd(**options):
    settings = {"partition": None, "rule": SGD(), "order": Cyclic(), "inner_steps": 2, "lr": 0.1} | options
    partition = settings.pop("partition")
    return BlockCoordinateDescent(by_layer(model()) if partition is None else partition, **settings)


def run(f=lambda x: (x[0] * x[1]).sum(), start=ONES, **options):
    settings = {"rule": SGD(), "order": Cyclic(), "inner_steps": 1, "lr": 0.1, "visits": 1} | options
    return minimise(f, start, **settings)


def load(lacking=(), **changes):
    """A saved state without some entries or with others."""
    optimizer = bcd()
    state = optimizer.state_dict()
    state["visit"] |= changes.pop("visit", {})
    state |= changes
    for name in lacking:
        del (state["visit"] if name in state["visit"] else state)[name]
    optimizer.load_state_dict(state)


def halves(first):
    """An optimizer of two blocks, each with half of the rows of one tensor."""
    rows = {"a": (0, 2), "b": (2, 4)} if first == "a" else {"b": (0, 2), "a": (2, 4)}
    weight = nn.Parameter(torch.zeros(4, 2))
    return bcd(partition=Partition(tuple(Block(n, {"w": weight}, {"w": rows[n]}) for n in "ab"), {}, {}))


NUMBER = "it must be a number, at least 0 and finite"
AXIS = "make one, such as"
LR = "give one number, or a list with one a block"

CASES = {
    # the optimizer
    "parameters for a partition": (
        lambda: bcd(partition=model().parameters()),
        "partition=generator is not possible: make a Partition, such as by_layer(model)",
    ),
    "a model for a partition": (
        lambda: bcd(partition=model()),
        "partition=Sequential is not possible: make a Partition, such as by_layer(model)",
    ),
    "a class for a rule": (
        lambda: bcd(rule=Adam),
        f"rule=<class 'bcd.rules.adam.Adam'> is not possible: {AXIS} Adam()",
    ),
    "a word for a rule": (lambda: bcd(rule="adam"), f"rule='adam' is not possible: {AXIS} Adam()"),
    "a class for an order": (
        lambda: bcd(order=Descending),
        f"order=<class 'bcd.orders.Descending'> is not possible: {AXIS} RandomReshuffle(seed=0)",
    ),
    "a word for an order": (
        lambda: bcd(order="cyclic"),
        f"order='cyclic' is not possible: {AXIS} RandomReshuffle(seed=0)",
    ),
    "a tensor as a step size": (
        lambda: bcd(lr=torch.tensor(2.0)),
        f"lr=tensor(2.) is not possible: {LR}",
    ),
    "a word as a step size": (lambda: bcd(lr="0.1"), f"lr='0.1' is not possible: {LR}"),
    "step sizes by name": (lambda: bcd(lr={"0": 0.1}), f"lr={{'0': 0.1}} is not possible: {LR}"),
    "no step size": (lambda: bcd(lr=None), f"lr=None is not possible: {NUMBER}"),
    "one negative step size": (lambda: bcd(lr=[0.1, -2.0]), f"lr=-2.0 is not possible: {NUMBER}"),
    "too many step sizes": (
        lambda: bcd(lr=[0.1] * 3),
        "got 3 learning rates for 2 blocks; pass one number or one a block",
    ),
    "half a step of warm-up": (
        lambda: bcd(switch_warmup=1.5),
        "switch_warmup=1.5 is not possible: it must be a whole number of steps, 0 for none",
    ),
    "a name where a list of names is wanted": (
        lambda: bcd(always_active="0"),
        "always_active='0' is not possible: give a list of different block names",
    ),
    "a name twice": (
        lambda: bcd(always_active=["0", "0"]),
        "always_active=['0', '0'] is not possible: give a list of different block names",
    ),
    "an index for a name": (
        lambda: bcd(always_active=[0]),
        "always_active=[0] names no block; there are 0, 1",
    ),
    "a word for tracking": (lambda: bcd(track_unchanged="yes"), "track_unchanged='yes' is not one of True, False"),
    "a word for compiling": (lambda: bcd(compiled="max"), "compiled='max' is not one of True, False, None"),
    "no steps": (
        lambda: bcd(inner_steps=None),
        "inner_steps=None is not possible: a visit lasts a whole number K >= 1 of steps",
    ),
    "several states": (lambda: bcd(state=["host"]), "state=['host'] is not one of reset, host, device"),
    "a true master": (lambda: bcd(master=True), "master=True is not one of off, discard, host"),
    "nothing for nonfinite": (lambda: bcd(nonfinite=None), "nonfinite=None is not one of ignore, skip, raise"),
    # saved states
    "no state": (
        lambda: bcd().load_state_dict(None),
        "state_dict=None is not possible: give what optimizer.state_dict() returned",
    ),
    "an empty state": (
        lambda: bcd().load_state_dict({}),
        "this state_dict has no 'visit' entry; it was not saved by BlockCoordinateDescent.state_dict()",
    ),
    "a state without its groups": (
        lambda: load(["param_groups"]),
        "the state_dict is incomplete, it lacks ['param_groups']; save optimizer.state_dict() as it is",
    ),
    "a state without its place": (
        lambda: load(["steps_in_visit", "setting"]),
        "the state_dict is incomplete, it lacks ['setting', 'steps_in_visit']; save optimizer.state_dict() as it is",
    ),
    "an order's state without its place": (
        lambda: load(visit={"order": {}}),
        "the state_dict's order lacks 'visits', which Cyclic needs",
    ),
    "state of no parameter": (
        lambda: load(state={9: {}}),
        "the state_dict has state of the parameters [9], which had none when it was saved",
    ),
    "a state of other rows": (
        lambda: halves("a").load_state_dict(halves("b").state_dict()),
        "the state_dict is of another partition: other parameters, shapes or rows in ['a', 'b']",
    ),
    # minimise
    "half a visit": (
        lambda: run(visits=1.5),
        "visits=1.5 is not possible: a whole number of visits is needed, at least one",
    ),
    "a start of numbers": (
        lambda: run(start=[1.0, 2.0]),
        "start[0]=1.0 is not possible: give a tensor of floating-point numbers",
    ),
    "a start of integers": (
        lambda: run(start=[torch.ones(1), torch.tensor([2])]),
        "start[1]=tensor([2]) is not possible: give a tensor of floating-point numbers",
    ),
    "an objective with two values": (
        lambda: run(lambda x: torch.cat(list(x)).detach()),
        "f returned tensor([1., 1.]); it must return a tensor without dimensions, such as a sum",
    ),
    "an objective that returns a number": (
        lambda: run(lambda x: 1.0),
        "f returned 1.0; it must return a tensor without dimensions, such as a sum",
    ),
    "an objective that does not see the block": (
        lambda: run(lambda x: x[0].sum(), order=Descending()),
        "f does not depend on block 1; leave it out of start",
    ),
    "a greedy order for a trajectory": (
        lambda: run(order=Greedy()),
        "minimise() needs one block a visit, the order gave (0, 1)",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_refused_with_the_value_and_a_way_out(name):
    call, message = CASES[name]
    with pytest.raises(ValueError) as refusal:  # noqa: PT011  the whole message is compared
        call()
    assert str(refusal.value) == message


def test_a_refused_state_changes_nothing():
    for name in ("a state without its groups", "an order's state without its place", "state of no parameter"):
        optimizer = bcd(rule=Adam(), order=RandomReshuffle(seed=1))
        before = optimizer.state_dict()
        state = bcd(rule=Adam(), order=RandomReshuffle(seed=2)).state_dict()
        if "groups" in name:
            del state["param_groups"]
        elif "order" in name:
            state["visit"]["order"] = {}
        else:
            state["state"] = {9: {}}
        with pytest.raises(ValueError, match="the state_dict"):
            optimizer.load_state_dict(state)
        after = optimizer.state_dict()
        assert torch.equal(before["visit"]["order"].pop("generator"), after["visit"]["order"].pop("generator"))
        assert before == after


def test_there_are_many_and_no_message_comes_twice():
    messages = [message for _, message in CASES.values()]
    assert len(set(messages)) == len(messages) >= 35
