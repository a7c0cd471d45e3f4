"""What cannot be is refused with the value and a way out; other files refuse more, each beside what it tests.

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
    Fixed,
    Greedy,
    Momentum,
    Partition,
    RandomReshuffle,
    Sign,
    SlidingWindow,
    Uniform,
    Weighted,
    by_groups,
    by_layer,
    by_ratio,
    by_regex,
    minimise,
    single,
)

ONES = (torch.ones(1), torch.ones(1))
WEIGHT = nn.Parameter(torch.zeros(4, 2))


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


class Gives(Cyclic):
    """An order that gives one visit for ever."""

    def __init__(self, visit):
        super().__init__()
        self.visit = visit

    def next_visit(self, num_blocks):
        return self.visit


WHOLE = "it must be a whole number, at least 1"
NUMBER = "it must be a number, at least 0 and finite"
SEED = "a seed is a whole number, at least 0"
INDEX = "a visit is a block index from 0, or a list of them"
DISTINCT = "the blocks of a visit are distinct, at least one"
WEIGHTS = "every weight must be positive and finite"
COUNT = "a visit trains a whole number of blocks, at least one"
AXIS = "make one, such as"
LR = "give one number, or a list with one a block"

CASES = {
    # blocks and partitions
    "a number as a parameter": (lambda: Block("a", {"w": 3}), "block 'a' has w=3, which is no tensor"),
    "an integer parameter": (
        lambda: Block("a", {"w": torch.zeros(3, dtype=torch.int8)}),
        "block 'a' has w of torch.int8, which has no gradient; list it as frozen",
    ),
    "a computed tensor": (
        lambda: Block("a", {"w": 2 * WEIGHT}),
        "block 'a' has w, a computed tensor; give the parameter itself",
    ),
    "rows of another parameter": (
        lambda: Block("a", {"w": WEIGHT}, {"v": (0, 1)}),
        "block 'a' has rows of ['v'], but its parameters are ['w']",
    ),
    "half a row": (
        lambda: Block("a", {"w": WEIGHT}, {"w": (0, 1.5)}),
        "block 'a' has the rows 0:1.5 of w; give whole numbers",
    ),
    "no rows": (
        lambda: Block("a", {"w": WEIGHT}, {"w": (2, 2)}),
        "block 'a' has the rows 2:2 of w, which has 4 rows",
    ),
    "rows of a number": (
        lambda: Block("a", {"w": torch.tensor(1.0)}, {"w": (0, 1)}),
        "block 'a' has the rows 0:1 of w, which has 0 rows",
    ),
    "a module without parameters": (
        lambda: single(nn.Tanh()),
        "block 'all' has no parameters; drop it from the partition",
    ),
    "half a layer": (
        lambda: by_groups(model(), 1.5),
        "size=1.5 is not possible: a block has a whole number of layers, at least one",
    ),
    "a true size": (
        lambda: by_groups(model(), True),
        "size=True is not possible: a block has a whole number of layers, at least one",
    ),
    "no parts": (
        lambda: by_ratio(model(), 0),
        "parts=0 is not possible: a whole number of parts is needed, at least one",
    ),
    "half a part": (
        lambda: by_ratio(model(), 2.5),
        "parts=2.5 is not possible: a whole number of parts is needed, at least one",
    ),
    "more parts than rows": (
        lambda: by_ratio(model(), 1000),
        "parts=1000 is not possible: the longest tensor has 3 rows, so a block is empty",
    ),
    "one pattern": (
        lambda: by_regex(model(), "0.*", rest="freeze"),
        "patterns='0.*' is not possible: one pattern is a list too, ['0.*']",
    ),
    "a number as a pattern": (
        lambda: by_regex(model(), [3], rest="freeze"),
        "pattern 3 is no regular expression: first argument must be string or compiled pattern",
    ),
    "no pattern and no rest": (
        lambda: by_regex(model(), [], rest="freeze"),
        "a partition needs at least one block; everything is frozen or nothing matched",
    ),
    "a pattern twice": (
        lambda: by_regex(model(), ["0.*", "0.*"], rest="freeze"),
        "pattern '0.*' matches no parameter that is left; there are 1.weight",
    ),
    "an unknown choice for the head": (
        lambda: single(model(), head="tied"),
        "head='tied' is not one of train, join, freeze",
    ),
    # orders
    "a word as a seed": (lambda: RandomReshuffle("a"), f"seed='a' is not possible: {SEED}"),
    "no seed": (lambda: RandomReshuffle(None), f"seed=None is not possible: {SEED}"),
    "half a seed": (lambda: Weighted([1.0], seed=1.5), f"seed=1.5 is not possible: {SEED}"),
    "a negative seed": (lambda: Uniform(seed=-1), f"seed=-1 is not possible: {SEED}"),
    "no list of visits": (
        lambda: Fixed(2),
        "visits=2 is not possible: a list with at least one visit is needed",
    ),
    "an empty visit": (lambda: Fixed([0, []]), f"visits=() is not possible: {DISTINCT}"),
    "a block twice in a visit": (lambda: Fixed([[0, 0]]), f"visits=(0, 0) is not possible: {DISTINCT}"),
    "a negative index": (lambda: Fixed([-1]), f"visits=-1 is not possible: {INDEX}"),
    "a name for an index": (lambda: Fixed([["head"]]), f"visits='head' is not possible: {INDEX}"),
    "half an index": (lambda: Fixed([0.5]), f"visits=0.5 is not possible: {INDEX}"),
    "an index too far, in a later visit": (
        lambda: bcd(order=Fixed([0, 1, 7])),
        "visits=7 is not possible: 2 blocks have the indices 0 to 1",
    ),
    "half a width": (lambda: SlidingWindow(1.5), f"width=1.5 is not possible: {WHOLE}"),
    "a word as a stride": (lambda: SlidingWindow(1, "2"), f"stride='2' is not possible: {WHOLE}"),
    "a window wider than the partition": (
        lambda: bcd(order=SlidingWindow(3)),
        "width=3 exceeds the number of blocks, 2",
    ),
    "a number as weights": (lambda: Weighted(3.0), f"weights=3.0 is not possible: {WEIGHTS}"),
    "a word as weights": (lambda: Weighted("abc"), f"weights='abc' is not possible: {WEIGHTS}"),
    "words as weights": (lambda: Weighted(["1"]), f"weights=['1'] is not possible: {WEIGHTS}"),
    "an infinite weight": (
        lambda: Weighted([1.0, float("inf")]),
        f"weights=[1.0, inf] is not possible: {WEIGHTS}",
    ),
    "half a block": (lambda: Uniform(count=0.5), f"count=0.5 is not possible: {COUNT}"),
    "a word for a flag": (lambda: Greedy(per_weight="yes"), "per_weight='yes' is not one of True, False"),
    "a visit of no blocks": (
        lambda: bcd(order=Gives(())),
        "the order gave the visit (); wanted distinct indices in [0, 2)",
    ),
    "a visit with a block twice": (
        lambda: bcd(order=Gives((1, 1))),
        "the order gave the visit (1, 1); wanted distinct indices in [0, 2)",
    ),
    # rules
    "one beta": (lambda: Adam(betas=0.9), "betas=0.9 is not possible: give two numbers, (beta1, beta2)"),
    "three betas": (
        lambda: Adam(betas=(0.9, 0.99, 0.999)),
        "betas=(0.9, 0.99, 0.999) is not possible: give two numbers, (beta1, beta2)",
    ),
    "a word as a beta": (
        lambda: Adam(betas=("0.9", 0.999)),
        "beta1='0.9' is not possible: it must be a number, at least 0 and below 1",
    ),
    "two kernels": (
        lambda: Adam(foreach=True, fused=True),
        "foreach=True with fused=True is not possible: they are two kernels; set one of them",
    ),
    "a word as a kernel": (lambda: SGD(fused="yes"), "fused='yes' is not one of True, False, None"),
    "a number as a kernel": (lambda: Momentum(foreach=1), "foreach=1 is not one of True, False, None"),
    "a word for nesterov": (lambda: Momentum(nesterov="no"), "nesterov='no' is not one of True, False"),
    "negative momentum": (
        lambda: Momentum(momentum=-0.5),
        "momentum=-0.5 is not possible: it must be a number, at least 0 and below 1",
    ),
    "infinite decay": (lambda: Sign(weight_decay=float("inf")), f"weight_decay=inf is not possible: {NUMBER}"),
    "a true eps": (lambda: Adam(eps=True), f"eps=True is not possible: {NUMBER}"),
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


def test_a_single_number_is_in_one_part_of_a_ratio():
    module = nn.Linear(2, 4)
    module.scale = nn.Parameter(torch.tensor(1.0))
    partition = by_ratio(module, 2)
    assert [["scale" in block.parameters, block.numel] for block in partition.blocks] == [[False, 6], [True, 7]]
    assert isinstance(partition, Partition)


def test_there_are_many_and_no_message_comes_twice():
    messages = [message for _, message in CASES.values()]
    assert len(set(messages)) == len(messages) >= 40
