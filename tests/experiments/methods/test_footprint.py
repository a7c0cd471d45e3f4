"""Block methods: their options are the optimizer's, and what they hold is what is predicted."""

import inspect
from functools import partial

import pytest
import torch
import yaml

from bcd import (
    Adam,
    BlockCoordinateDescent,
    Cyclic,
    Expansion,
    Factored,
    Greedy,
    RowNormalised,
    Sign,
    SlidingWindow,
    by_layer,
    by_matrix,
    by_ratio,
)
from bcd.memory import Bytes
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


EXPANSIONS = {
    "factored": Expansion(Factored(), ratio=0.1),
    "factored in backward": Expansion(Factored(), ratio=0.1, when="backward"),
    "factored above": Expansion(Factored(), ratio=0.1, reach="above"),
    "factored above, in backward": Expansion(Factored(), ratio=0.1, reach="above", when="backward"),
    "sign above": Expansion(Sign(), ratio=0.1, reach="above"),
    "row-normalised": Expansion(RowNormalised(), lr=1e-4),
    "low rank": Expansion(Adam(), ratio=0.1, rank=2),
}


@pytest.mark.parametrize("expansion", EXPANSIONS.values(), ids=EXPANSIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("always", [[], ["embedding"]], ids=["", "lisa"])
def test_with_an_expansion_every_visit_holds_what_is_predicted(expansion, dtype, always, small):
    outside = FROZEN | ({"embedding": "train"} if always else {})
    settings = options(expansion=expansion, order=Cyclic(), always_active=always, state="device", inner_steps=3)
    trainable = BlockMethod(partial(by_layer, **outside), **settings)(small(dtype))
    count, largest = len(trainable.visits), Bytes(0, 0, 0)
    for step in range(2 * 3 * count):
        trainable.backward(trainable.model.loss())
        largest = largest.peak(trainable.measured())
        if step >= 3 * count and step % 3:
            assert trainable.footprint.held_now() == trainable.footprint.held(step // 3 - count)
        trainable.optimizer.step()
        if step % 3 < 2:
            largest = largest.peak(trainable.measured())
        trainable.optimizer.zero_grad()
    assert largest == trainable.predicted()


@pytest.mark.parametrize("reach", ["all", "above"])
def test_windows_of_an_expansion_hold_at_most_what_is_predicted(reach, small):
    expansion = Expansion(Factored(), ratio=0.1, reach=reach)
    settings = options(expansion=expansion, order=SlidingWindow(2), inner_steps=1)
    trainable = BlockMethod(partial(by_layer, **FROZEN), **settings)(small())
    steps(trainable, 6)
    held = sum(value.nbytes for state in trainable.optimizer.expansion_state.values() for value in state.values())
    without = BlockMethod(partial(by_layer, **FROZEN), **options(order=SlidingWindow(2)))(small())
    assert held == trainable.footprint.held(0).state - without.footprint.held(0).state


@pytest.mark.parametrize("partition", [by_layer, partial(by_ratio, parts=3)], ids=["layers", "rows"])
def test_clipping_of_the_active_blocks_leaves_the_others(partition, small):
    """The norm, the clipped gradients and the untouched ones, against torch's on copies of the active parts."""
    method = BlockMethod(partial(partition, **FROZEN), clip="active", **options(expansion=Expansion(ratio=0.1)))
    trainable = method(small())
    trainable.backward(trainable.model.loss())
    before = {p: p.grad.clone() for p in trainable.parameters if p.grad is not None}
    parts = trainable.optimizer.partition.blocks[trainable.optimizer.active_blocks[0]].parts
    copies = [torch.zeros_like(part.of(part.parameter)) for part in parts]
    for copy, part in zip(copies, parts, strict=True):
        copy.grad = part.of(before[part.parameter]).clone()
    norm = trainable.clipped(1e-3)
    assert norm == torch.nn.utils.clip_grad_norm_(copies, 1e-3)
    assert norm > 1e-3
    for copy, part in zip(copies, parts, strict=True):
        assert torch.equal(part.of(part.parameter.grad), copy.grad)
        part.of(part.parameter.grad).copy_(part.of(before[part.parameter]))
    assert all(torch.equal(p.grad, gradient) for p, gradient in before.items()), "nothing else was scaled"
    assert trainable.clipped(float("inf")) == norm
    everything = BlockMethod(partial(partition, **FROZEN), **options(expansion=Expansion(ratio=0.1)))(small())
    everything.backward(everything.model.loss())
    assert everything.clipped(1e-3) > norm


def test_an_unknown_clip_is_refused():
    with pytest.raises(ValueError, match="clip='none' is not one of all, active"):
        BlockMethod(by_layer, clip="none", **options())


def test_a_greedy_order_is_predicted_to_hold_all_gradients(small):
    trainable = BlockMethod(partial(by_layer, **FROZEN), **options(order=Greedy()))(small())
    trainable.backward(trainable.model.loss())
    assert trainable.measured().gradients == trainable.predicted().gradients
