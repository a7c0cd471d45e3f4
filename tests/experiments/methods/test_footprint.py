"""Block methods: their options are the optimizer's, and what they hold is what is predicted."""

import inspect
from functools import partial

import pytest
import torch
import yaml

from bcd import Adam, BlockCoordinateDescent, Cyclic, Greedy, by_layer, by_matrix
from experiments.configuration import build
from experiments.errors import UserError
from experiments.methods import BlockMethod
from experiments.methods.averaging import AveragedBlockMethod
from records import ROOT
from tests.experiments.methods.conftest import configured, steps

FROZEN = {"embedding": "freeze", "final_norm": "freeze", "head": "freeze"}


def options(**changed):
    """The options that have no default, with an order at its start."""
    return {"order": Cyclic(), "rule": Adam(), "inner_steps": 2, "lr": 1e-3} | changed


def test_a_configuration_has_every_option_of_the_optimizer_with_its_default():
    written = yaml.safe_load((ROOT / "conf" / "method" / "badam.yaml").read_text(encoding="utf-8"))["method"]
    parameters = dict(inspect.signature(BlockCoordinateDescent).parameters)
    del parameters["process_group"]  # a run is one process
    assert set(written) - {"_target_"} == set(parameters)
    for name, parameter in parameters.items():
        if parameter.default is not inspect.Parameter.empty:
            default = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
            assert written[name] == default, name


def test_options_reach_the_optimizer(small):
    assert configured("badam", "method.compiled=false")(small()).optimizer.compiled is False
    averaged = AveragedBlockMethod(by_layer, decay=0.5, **options(switch_warmup=3))(small())
    assert averaged.optimizer.switch_warmup == 3


def test_options_that_do_not_exist_and_missing_ones_are_refused():
    with pytest.raises(TypeError, match="unexpected keyword argument 'stat'"):
        BlockMethod(by_layer, **options(stat="reset"))
    with pytest.raises(UserError, match="missing a required argument: 'rule'"):
        build({"_target_": "experiments.methods.BlockMethod", "partition": None})


@pytest.mark.parametrize("kind", [BlockMethod, partial(AveragedBlockMethod, decay=0.5)])
def test_a_block_method_makes_the_visits_that_it_is_told(kind, small):
    method = kind(partial(by_layer, **FROZEN), **options()).visiting([2, 0], 3)
    trainable = method(small())
    visited = []
    for _ in range(6):
        visited.append(trainable.optimizer.active_blocks)
        steps(trainable, 1)
    assert visited == [(2,)] * 3 + [(0,)] * 3
    assert getattr(method, "decay", 0.5) == 0.5


def test_visits_of_several_blocks_take_the_lowest(small):
    trainable = configured("lisa", "order.count=2", "method.lr=0").visiting([0], 5)(small())
    names = [trainable.optimizer.partition.blocks[i].name for i in trainable.optimizer.active_blocks]
    assert names == ["embedding", "layers.0", "layers.1"]


@pytest.mark.parametrize("name", ["adamw", "soap", "lomo"])
def test_a_method_of_one_visit_visits_it(name):
    method = configured(name)
    assert method.visiting([0, 0], 3) is method


@pytest.mark.parametrize("partition", [by_layer, by_matrix])
@pytest.mark.parametrize("state", ["reset", "device", "host"])
@pytest.mark.parametrize("master", ["off", "discard", "host"])
def test_after_a_block_epoch_every_visit_holds_what_is_predicted(partition, state, master, small):
    method = BlockMethod(partial(partition, **FROZEN), **options(state=state, master=master))
    trainable = method(small(torch.bfloat16))
    count = len(trainable.visits)
    for visit in range(2 * count):
        steps(trainable, 1)
        trainable.backward(trainable.model.loss())
        if visit >= count:
            assert trainable.footprint.held_now() == trainable.footprint.held(visit - count)
        if (state, master) == ("device", "off") and visit >= count:
            assert trainable.measured().state == trainable.predicted().state
        trainable.optimizer.step()
        trainable.optimizer.zero_grad()


def test_a_greedy_order_is_predicted_to_hold_all_gradients(small):
    trainable = BlockMethod(partial(by_layer, **FROZEN), **options(order=Greedy()))(small())
    trainable.backward(trainable.model.loss())
    assert trainable.measured().gradients == trainable.predicted().gradients
