"""Functions that are told when a visit starts and ends."""

import copy
import gc
import pickle
import weakref

import pytest
import torch
from torch import nn

from bcd import (
    Adam,
    BlockCoordinateDescent,
    Cyclic,
    Descending,
    Expansion,
    Fixed,
    Greedy,
    RandomReshuffle,
    Uniform,
    by_layer,
    by_ratio,
)
from bcd.execution import step_in_backward

FREEZE = {"embedding": "freeze", "final_norm": "freeze", "head": "freeze"}
TOKENS = torch.tensor([[1, 2, 3, 4], [4, 3, 2, 0]])


def bcd(model, partition=None, **options):
    settings = {"rule": Adam(), "order": Cyclic(), "inner_steps": 2, "lr": 1e-2} | options
    return BlockCoordinateDescent(partition or by_layer(model, **FREEZE), **settings)


def backward(model):
    nn.functional.cross_entropy(model(TOKENS).flatten(0, 1), TOKENS.flatten()).backward()


def train(model, optimizer, steps):
    for _ in range(steps):
        backward(model)
        optimizer.step()
        optimizer.zero_grad()


def trained(optimizer):
    """Indices of the blocks all of whose parameters require a gradient."""
    blocks = optimizer.partition.blocks
    return tuple(i for i, b in enumerate(blocks) if all(p.requires_grad for p in b.parameters.values()))


def with_gradients(optimizer):
    blocks = optimizer.partition.blocks
    return tuple(i for i, b in enumerate(blocks) if all(p.grad is not None for p in b.parameters.values()))


def noted(optimizer):
    """What the hooks see from now on: the event, the active blocks, visits and steps."""
    seen = []

    def note(event):
        def hook(given):
            assert given is optimizer
            assert not torch.is_grad_enabled()
            seen.append((event, given.active_blocks, given.visits_started, given.steps_in_visit))

        return hook

    handle = optimizer.register_visit_hook(start=note("start"), end=note("end"))
    return seen, handle


def test_a_visit_is_announced_when_it_starts_and_when_it_ends(decoder):
    model = decoder()
    optimizer = bcd(model)
    seen, handle = noted(optimizer)
    train(model, optimizer, 1)
    assert seen == [], "the first visit started in the constructor"
    train(model, optimizer, 4)
    assert seen == [
        ("end", (0,), 1, 2),
        ("start", (1,), 2, 0),
        ("end", (1,), 2, 2),
        ("start", (2,), 3, 0),
    ]
    handle.remove()
    train(model, optimizer, 9)
    assert len(seen) == 4


def test_the_start_finds_the_new_blocks_in_force_and_the_end_the_old_ones(decoder):
    model = decoder()
    optimizer = bcd(model, state="host", inner_steps=1)
    train(model, optimizer, 3)
    before = {}

    def start(optimizer):
        (active,) = optimizer.active_blocks
        assert trained(optimizer) == (active,)
        assert with_gradients(optimizer) == ()
        assert all(p in optimizer.state for p in optimizer.active_parameters), "kept state is there"
        before.update({name: p.clone() for name, p in model.named_parameters()})

    def end(optimizer):
        (active,) = optimizer.active_blocks
        assert trained(optimizer) == with_gradients(optimizer) == (active,)
        assert all("exp_avg" in optimizer.state[p] for p in optimizer.active_parameters)
        moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
        assert moved == set(optimizer.partition.blocks[active].parameters)

    start(optimizer)  # for the visit that has started already
    optimizer.register_visit_hook(start=start, end=end)
    train(model, optimizer, 6)


def test_a_greedy_order_starts_with_all_blocks_and_again_with_those_it_draws(decoder):
    model = decoder()
    optimizer = bcd(model, order=Greedy(count=2))
    assert optimizer.choosing
    seen, _ = noted(optimizer)
    states = []
    optimizer.register_visit_hook(
        start=lambda o: states.append((o.choosing, trained(o), with_gradients(o) == o.active_blocks))
    )
    train(model, optimizer, 1)
    first = optimizer.active_blocks
    train(model, optimizer, 2)
    second = optimizer.active_blocks
    assert len(first) == len(second) == 2
    assert seen == [
        ("start", first, 1, 0),
        ("end", first, 1, 2),
        ("start", (0, 1, 2), 2, 0),
        ("start", second, 2, 0),
    ]
    assert states == [(False, first, True), (True, (0, 1, 2), False), (False, second, True)]
    assert not optimizer.choosing


@pytest.mark.parametrize(
    ("partition", "options", "inactive_move"),
    [
        (lambda m: by_layer(m), {"order": Uniform(count=2), "always_active": ["embedding", "head"]}, False),
        (lambda m: by_layer(m, **FREEZE), {"order": Fixed([2, [0, 1]]), "expansion": Expansion(ratio=0.1)}, True),
        (lambda m: by_layer(m, **FREEZE), {"order": Descending(), "expansion": Expansion(rule=Adam(), rank=2)}, True),
        (lambda m: by_ratio(m, 3), {"order": RandomReshuffle()}, False),
    ],
    ids=["always active", "expansion", "low rank", "rows"],
)
def test_every_visit_is_announced_once_whatever_moves_beside(partition, options, inactive_move, decoder):
    model = decoder()
    optimizer = bcd(model, partition(model), **options)
    seen, _ = noted(optimizer)
    required = []
    optimizer.register_visit_hook(
        start=lambda o: required.append({id(p) for p in model.parameters() if p.requires_grad})
    )
    visits = [optimizer.active_blocks]
    for _ in range(4):
        train(model, optimizer, 2)
        active = {id(p) for p in optimizer.active_parameters}
        assert required[-1] > active if inactive_move else required[-1] == active
        visits.append(optimizer.active_blocks)
    expected = [("end", visits[0], 1, 2)]
    for i in range(1, 5):
        expected += [("start", visits[i], i + 1, 0), ("end", visits[i], i + 1, 2)]
    assert seen == expected[:-1]


def test_a_skipped_step_calls_nothing(decoder):
    model = decoder()
    optimizer = bcd(model, nonfinite="skip")
    train(model, optimizer, 1)
    seen, _ = noted(optimizer)
    backward(model)
    optimizer.active_parameters[0].grad.fill_(float("nan"))
    optimizer.step()
    assert seen == []
    train(model, optimizer, 1)
    assert [event for event, *_ in seen] == ["end", "start"]


@pytest.mark.parametrize("order", [Descending, Greedy])
def test_a_loaded_state_starts_its_visit_again(order, decoder):
    saved = bcd(other := decoder(), order=order(), inner_steps=3)
    train(other, saved, 4)
    model = decoder()
    optimizer = bcd(model, order=order(), inner_steps=3)
    train(model, optimizer, 1)
    seen, _ = noted(optimizer)
    required = []
    optimizer.register_visit_hook(start=lambda o: required.append(trained(o)))
    optimizer.load_state_dict(saved.state_dict())
    assert seen == [("start", saved.active_blocks, 2, 1)], "the visit that was left for it does not end"
    assert required == [saved.active_blocks]
    with pytest.raises(ValueError, match="inner_steps=2, here it is 3"):
        optimizer.load_state_dict(bcd(decoder(), order=order()).state_dict())
    assert len(seen) == 1, "a state that is refused changes nothing"
    train(model, optimizer, 2)
    assert seen[1][:2] == ("end", saved.active_blocks)


def test_after_a_loaded_state_the_step_in_backward_begins_anew(decoder):
    model = decoder()
    optimizer = bcd(model)
    step_in_backward(optimizer)
    saved = copy.deepcopy(optimizer.state_dict())
    backward(model)  # what it moved is left behind
    optimizer.load_state_dict(saved)
    backward(model)
    with pytest.raises(RuntimeError, match="gradients cannot be accumulated"):
        backward(model)


def test_copies_have_no_hooks(decoder):
    model = decoder()
    optimizer = bcd(model)
    seen, handle = noted(optimizer)
    for other, copied in (copy.deepcopy((model, optimizer)), pickle.loads(pickle.dumps((model, optimizer)))):
        train(other, copied, 2)
        assert seen == []
        own, _ = noted(copied)
        train(other, copied, 2)
        assert [event for event, *_ in own] == ["end", "start"]
    train(model, optimizer, 2)
    assert [event for event, *_ in seen] == ["end", "start"]
    handle.remove()
    handle.remove()  # once more does no harm
    assert copied._visit_hooks


def test_hooks_are_removed_and_added_while_they_are_called(decoder):
    model = decoder()
    optimizer = bcd(model, inner_steps=1)
    calls = []

    def once(optimizer):
        calls.append("once")
        handles["once"].remove()
        handles["other"].remove()
        optimizer.register_visit_hook(start=lambda _: calls.append("new"))

    handles = {"once": optimizer.register_visit_hook(start=once)}
    handles["other"] = optimizer.register_visit_hook(start=lambda _: calls.append("other"))
    optimizer.register_visit_hook(start=lambda _: calls.append("last"))
    train(model, optimizer, 1)
    assert calls == ["once", "last"], "what was removed is not called, what was added waits"
    train(model, optimizer, 1)
    assert calls == ["once", "last", "last", "new"]


def test_a_handle_is_a_context_manager_and_holds_nothing_alive(decoder):
    model = decoder()
    optimizer = bcd(model, inner_steps=1)
    calls = []
    with optimizer.register_visit_hook(end=calls.append) as handle:
        train(model, optimizer, 1)
    train(model, optimizer, 1)
    assert calls == [optimizer]
    calls.clear()
    gone = weakref.ref(optimizer)
    del optimizer
    gc.collect()
    assert gone() is None
    handle.remove()


def test_what_an_end_raises_does_not_stop_the_switch(decoder):
    model = decoder()
    optimizer = bcd(model, inner_steps=1)

    def fail(_):
        raise OSError("no space")

    handle = optimizer.register_visit_hook(end=fail)
    with pytest.raises(OSError, match="no space"):
        train(model, optimizer, 1)
    assert (optimizer.active_blocks, optimizer.visits_started, optimizer.steps_in_visit) == ((1,), 2, 0)
    assert trained(optimizer) == (1,)
    handle.remove()
    train(model, optimizer, 2)
    assert optimizer.visits_started == 4


@pytest.mark.parametrize("hooks", [{}, {"start": 3}, {"end": "print"}])
def test_what_is_no_function_is_refused(hooks, decoder):
    with pytest.raises(ValueError, match="is not possible: give a function of the optimizer"):
        bcd(decoder()).register_visit_hook(**hooks)
