"""Partitions, orders and rules: every one trains, and a method without an axis refuses it."""

import pytest
import torch
from omegaconf import open_dict

from experiments import configuration
from experiments.data import batches
from experiments.errors import UserError
from experiments.training import planning
from experiments.training.loop import Training
from experiments.training.run import Run
from experiments.training.running import execute
from experiments.workloads.language import answer_loss
from tests.cover import tiered
from tests.experiments.conftest import ROOT

NEEDED = {  # values that have no default
    "partition=by_regex": ["partition.patterns=['model.layers.0.*']"],
    "order=weighted": ["order.weights=[1,2]"],
    "order=fixed": ["order.visits=[0,[0,1]]"],
}

CELLS = [f"{axis}={path.stem}" for axis in planning.AXES for path in sorted((ROOT / "conf" / axis).glob("*.yaml"))]
QUICK = ("partition=by_matrix", "partition=by_regex", "order=fixed", "order=greedy", "order=weighted", "rule=nesterov")


@pytest.mark.usefixtures("global_generator_untouched")
@pytest.mark.parametrize("cell", tiered(CELLS, QUICK))
def test_every_partition_order_and_rule_trains(cell, tiny):
    record = execute(Run(tiny("method=badam", cell, *NEEDED.get(cell, []))))
    assert record.status == "finished", record.error
    assert record.measurements["measured_bytes"]["state"] == record.measurements["predicted_bytes"]["state"]
    assert record.measurements["after"]["heldout_loss"] != record.measurements["before"]["heldout_loss"]


def test_data_order_does_not_depend_on_the_block_order(tiny):
    records = [execute(Run(tiny("method=badam", f"order={order}"))) for order in ("random_reshuffle", "descending")]
    first = [record.measurements["steps"]["loss"][0] for record in records]
    assert first[0] == first[1]


def test_frozen_parts_stay_bitwise(tiny):
    planned = tiny("method=badam")
    model, tokenizer = planned.workload.model.load(torch.float32)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainable = configuration.build(planned.config.method)(model)
    dataset = planned.workload.data.load(tokenizer)
    schedule = configuration.build(planned.config.schedule)(trainable.optimizer)
    pad = tokenizer.pad_token_id
    training = Training(
        trainable,
        schedule,
        lambda start: batches(dataset.train, 2, pad, 0, start),
        lambda model, batch, _: answer_loss(model, batch),
        max_grad_norm=1.0,
    )
    for _ in range(4):
        training.step()
    moved = {name for name, p in model.named_parameters() if not torch.equal(before[name], p)}
    assert moved == {name for name in before if ".layers." in name}


@pytest.mark.parametrize("axis", planning.AXES)
def test_an_axis_that_the_method_lacks_is_refused_by_name(axis, composed):
    name = sorted(path.stem for path in (ROOT / "conf" / axis).glob("*.yaml"))[0]
    with pytest.raises(Exception, match=f"Could not override '{axis}'"):
        composed("method=adamw", f"{axis}={name}")
    with open_dict(composed("method=adamw")[0]) as config:
        config[axis] = {"_target_": "bcd.Cyclic"}
        with pytest.raises(UserError, match=f"method=adamw has no axis '{axis}'"):
            planning.plan(config, {"method": "adamw", "model": "pretrained", "data": "reasoning_gym", axis: name})


def test_outside_layers_need_a_partition(tiny):
    with pytest.raises(UserError, match="method=adamw has no partition, so outside_layers means nothing"):
        tiny("method=adamw", "+outside_layers.embedding=train")
