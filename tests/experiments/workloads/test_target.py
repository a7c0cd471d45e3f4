"""Targets: what reaches them, and what is refused."""

import math

import pytest

from experiments.errors import UserError
from experiments.workloads import Target


def test_a_target_is_reached_from_its_own_side():
    up, down = Target("accuracy", at_least=0.9), Target("heldout_loss", at_most=1.5)
    assert up.reached({"accuracy": 0.9})
    assert not up.reached({"accuracy": 0.89})
    assert down.reached({"heldout_loss": 1.5})
    assert not down.reached({"heldout_loss": 1.51})
    for target in (up, down):
        assert not target.reached({target.metric: math.nan})
    assert [str(up), str(down)] == ["accuracy >= 0.9", "heldout_loss <= 1.5"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "at_least=None and at_most=None; give one"),
        ({"at_least": 1, "at_most": 1}, "give one"),
        ({"at_least": "high"}, "target.at_least='high' is not possible: it must be a number"),
        ({"at_least": True}, "it must be a number"),
        ({"at_least": 1, "budget": -1}, "target.budget=-1"),
    ],
)
def test_impossible_targets_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Target("accuracy", **options)


def test_a_metric_that_no_evaluation_has_is_told_with_those_there_are():
    with pytest.raises(UserError, match=r"target.metric=f1 is no metric of this evaluation; it has accuracy"):
        Target("f1", at_least=1).reached({"accuracy": 1.0})
