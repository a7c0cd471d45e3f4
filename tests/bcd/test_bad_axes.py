"""Partitions, orders and rules that cannot be are refused with the value and a way out.

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
    single,
)

WEIGHT = nn.Parameter(torch.zeros(4, 2))


def model():
    return nn.Sequential(nn.Linear(2, 3, bias=False), nn.Linear(3, 1, bias=False))


def bcd(**options):
    settings = {"partition": None, "rule": SGD(), "order": Cyclic(), "inner_steps": 2, "lr": 0.1} | options
    partition = settings.pop("partition")
    return BlockCoordinateDescent(by_layer(model()) if partition is None else partition, **settings)


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
    "a word for what is trainable": (
        lambda: single(model(), only_trainable="yes"),
        "only_trainable='yes' is not one of True, False",
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
}


@pytest.mark.parametrize("name", CASES)
def test_refused_with_the_value_and_a_way_out(name):
    call, message = CASES[name]
    with pytest.raises(ValueError) as refusal:  # noqa: PT011  the whole message is compared
        call()
    assert str(refusal.value) == message


def test_a_single_number_is_in_one_part_of_a_ratio():
    module = nn.Linear(2, 4)
    module.scale = nn.Parameter(torch.tensor(1.0))
    partition = by_ratio(module, 2)
    assert [["scale" in block.parameters, block.numel] for block in partition.blocks] == [[False, 6], [True, 7]]
    assert isinstance(partition, Partition)


def test_there_are_many_and_no_message_comes_twice():
    messages = [message for _, message in CASES.values()]
    assert len(set(messages)) == len(messages) >= 50
