"""What holds for every module tree, partition, order and option, on examples that hypothesis always draws alike."""

import copy

import pytest
import torch
from hypothesis import event, given
from hypothesis import strategies as st
from torch import nn

from bcd import (
    Adam,
    BlockCoordinateDescent,
    Cyclic,
    Greedy,
    RandomReshuffle,
)
from bcd.memory import nbytes
from tests.bcd.strategies import (
    WIDTH,
    Model,
    backward,
    bits,
    examples,
    orders,
    partitions,
    runs,
    same,
    saved,
    train,
    trees,
    weights,
)


@examples(150)
@given(st.data(), trees, st.booleans())
def test_a_partition_has_every_element_in_one_block_or_frozen(data, tree, shared):
    model = Model(tree)
    if shared:  # two layers with one matrix
        model.layers.append(nn.Linear(WIDTH, WIDTH))
        model.layers[-1].weight = model.layers[0][1].weight
    make = data.draw(partitions(tree))
    try:
        partition = make(model)
    except ValueError as refusal:
        # A matrix of two layers can be in the block of one of them only, so it is refused and not guessed.
        assert shared and "blocks must be disjoint" in str(refusal)  # noqa: PT018, PT017
        event("refused")
        return
    count = {id(p): torch.zeros_like(p, dtype=torch.int64, requires_grad=False) for p in model.parameters()}
    for block in partition.blocks:
        for part in block.parts:
            part.of(count[id(part.parameter)]).add_(1)
    for parameter in partition.frozen.values():
        count[id(parameter)] += 1
    assert all(bool((held == 1).all()) for held in count.values())
    assert sum(block.numel for block in partition.blocks) + sum(p.numel() for p in partition.frozen.values()) == sum(
        p.numel() for p in model.parameters()
    )
    every = dict(model.named_parameters(remove_duplicate=False))
    assert all(every[second] is every[first] for second, first in partition.tied.items())
    assert len(every) == len(count) + len(partition.tied)


@examples(150)
@given(st.data(), st.integers(1, 7), st.integers(0, 20))
def test_an_order_gives_sets_of_blocks_from_its_own_generator(data, num_blocks, saved_at):
    order = data.draw(orders(num_blocks))()
    if isinstance(order, Greedy):
        norms = data.draw(st.lists(st.floats(0, 1e9), min_size=num_blocks, max_size=num_blocks))
        chosen = order.choose(norms, [1] * num_blocks)
        assert len(set(chosen)) == len(chosen) == order.width
        assert min(norms[i] for i in chosen) >= max(
            [norms[i] for i in range(num_blocks) if i not in chosen], default=0
        )
        return
    before = torch.random.get_rng_state()
    visits = [order.next_visit(num_blocks) for _ in range(saved_at)]
    state = saved(order.state_dict())
    visits += [order.next_visit(num_blocks) for _ in range(3 * num_blocks)]
    other = copy.deepcopy(order)
    other.load_state_dict(state)
    assert [other.next_visit(num_blocks) for _ in range(3 * num_blocks)] == visits[saved_at:]
    assert torch.equal(before, torch.random.get_rng_state())
    for visit in visits:
        assert 1 <= len(visit) <= getattr(order, "width", 1)
        assert len(set(visit)) == len(visit)
        assert set(visit) <= set(range(num_blocks))
    if isinstance(order, Cyclic | RandomReshuffle):
        drawn = [index for (index,) in visits]
        for start in range(0, len(drawn) - num_blocks + 1, num_blocks):
            assert sorted(drawn[start : start + num_blocks]) == list(range(num_blocks))


@pytest.mark.slow
@examples(150)
@given(runs(), st.integers(0, 8), st.integers(1, 8))
def test_training_from_a_file_is_bitwise_the_uninterrupted_run(run, saved_at, more):
    make, bad_step = run
    model, optimizer = make()
    before = torch.random.get_rng_state()
    train(model, optimizer, range(saved_at), bad_step)
    checkpoint = saved({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    other, resumed = make()
    train(other, resumed, range(2), bad_step)  # whatever it did before is replaced
    other.load_state_dict(checkpoint["model"])
    resumed.load_state_dict(checkpoint["optimizer"])
    assert same(resumed.state_dict(), optimizer.state_dict())
    train(model, optimizer, range(saved_at, saved_at + more), bad_step)
    train(other, resumed, range(saved_at, saved_at + more), bad_step)
    assert same(weights(other), weights(model))
    assert same(resumed.state_dict(), optimizer.state_dict())
    assert [p.requires_grad for p in other.parameters()] == [p.requires_grad for p in model.parameters()]
    assert torch.equal(before, torch.random.get_rng_state())


def noting(order, visits):
    """The order, which from now on appends to `visits` what it gives."""
    for name in ("next_visit", "choose"):
        if method := getattr(order, name, None):

            def noted(*arguments, method=method):
                visits.append(method(*arguments))
                return visits[-1]

            setattr(order, name, noted)
    return order


def held_of(optimizer, part):
    state = optimizer.state.get(part.parameter, {})
    return state if part.rows is None else state.get("{}:{}".format(*part.rows), {})


def bytes_between_visits(optimizer, always):
    """(all bytes of state, those of remainders) of what is not always active."""
    blocks = [block for i, block in enumerate(optimizer.partition.blocks) if i not in always]
    held = [held_of(optimizer, part) for block in blocks for part in block.parts]
    tensors = [tensor for state in held for tensor in state.values()]
    return nbytes(tensors), nbytes(state["remainder"] for state in held if "remainder" in state)


@examples(150)
@given(runs(), st.integers(1, 12))
def test_a_visit_lasts_k_steps_moves_its_blocks_only_and_frees_what_it_must(run, steps):
    make, bad_step = run
    visits = []
    model, optimizer = make(lambda order: noting(order, visits))
    blocks = optimizer.partition.blocks
    always = {i for i, block in enumerate(blocks) if block.name in optimizer.always_active}
    drawn = [i for i in range(len(blocks)) if i not in always]
    choosing = isinstance(optimizer.order, Greedy)
    done, visited = 0, set()
    events = []
    optimizer.register_visit_hook(
        start=lambda o: events.append(("choosing" if o.choosing else "start", set(o.active_blocks))),
        end=lambda o: events.append(("end", set(o.active_blocks))),
    )
    for step in range(steps):
        assert optimizer.visits_started == 1 + done // optimizer.inner_steps
        assert optimizer.steps_in_visit == done % optimizer.inner_steps
        before = weights(model)
        skipped = optimizer.skipped_steps
        backward(model, optimizer, step, bad_step)
        with_gradient = {id(p) for p in model.parameters() if p.grad is not None}
        optimizer.step()
        optimizer.zero_grad()
        if optimizer.skipped_steps > skipped:
            assert step == bad_step
            assert same(weights(model), before)
            continue
        active = always | {drawn[i] for i in visits[done // optimizer.inner_steps]}
        trained = {id(p) for i in active for p in blocks[i].parameters.values()}
        if not (choosing and done % optimizer.inner_steps == 0):
            assert with_gradient == trained, "backward computes what is active and nothing else"
        visited |= active - always
        may_move = {id(p): torch.zeros_like(p, dtype=torch.bool) for p in model.parameters()}
        for part in (part for i in active for part in blocks[i].parts):
            part.of(may_move[id(part.parameter)]).fill_(True)
        for name, parameter in model.named_parameters():
            moved = bits(parameter) != before[name]
            assert not (moved & ~may_move[id(parameter)]).any(), name
        done += 1
        if done % optimizer.inner_steps:
            continue
        assert all(p.grad is None for i in active - always for p in blocks[i].parameters.values())
        if optimizer.rule.counts_steps:
            counters = [held_of(optimizer, part)["step"] for i in always for part in blocks[i].parts]
            assert all(counter == done for counter in counters), "what is always active keeps its state"
        held, remainders = bytes_between_visits(optimizer, always)
        kept = 2 * sum(blocks[i].numel for i in visited)
        assert remainders == (kept if optimizer.master == "host" else 0)
        if optimizer.state_lifetime == "reset":
            assert held == remainders
    expected = []
    for place, visit in enumerate(visits):
        if place and choosing:
            expected.append(("choosing", set(range(len(blocks)))))
        if place or choosing:
            expected.append(("start", always | {drawn[i] for i in visit}))
        expected.append(("end", always | {drawn[i] for i in visit}))
    if done % optimizer.inner_steps or not choosing:
        expected.pop()  # the last visit has not ended
    elif done:
        expected.append(("choosing", set(range(len(blocks)))))
    assert events == expected, "hooks are told of every visit"
    assert done == steps - optimizer.skipped_steps
    assert optimizer.skipped_steps == (bad_step is not None and bad_step < steps)


@examples(100)
@given(st.data(), trees, st.integers(0, 5))
def test_a_state_of_another_partition_is_refused_and_changes_nothing(data, tree, steps):
    def run(make):
        model = Model(tree)
        optimizer = BlockCoordinateDescent(
            make(model), rule=Adam(), order=RandomReshuffle(1), inner_steps=2, lr=0.01, state="host"
        )
        train(model, optimizer, range(steps), None)
        return model, optimizer

    def holds(optimizer):
        return [(block.name, [(part.name, part.rows) for part in block.parts]) for block in optimizer.partition.blocks]

    model, optimizer = run(data.draw(partitions(tree)))
    _, foreign = run(data.draw(partitions(tree)))
    before = copy.deepcopy(optimizer.state_dict()), weights(model), [p.requires_grad for p in model.parameters()]
    if holds(optimizer) == holds(foreign):
        event("the same partition")
        optimizer.load_state_dict(saved(foreign.state_dict()))
        assert same(optimizer.state_dict(), foreign.state_dict())
    else:
        with pytest.raises(ValueError, match="the state_dict is of another partition"):
            optimizer.load_state_dict(saved(foreign.state_dict()))
        assert same(optimizer.state_dict(), before[0])
    assert same(weights(model), before[1])
    if holds(optimizer) != holds(foreign):
        assert [p.requires_grad for p in model.parameters()] == before[2]


def test_the_examples_are_not_all_alike():
    """Properties of trivial examples would be worth nothing."""
    seen = []

    @examples(60)
    @given(runs())
    def look(run):
        _, optimizer = run[0]()
        seen.append((len(optimizer.partition), type(optimizer.order).__name__, optimizer.master, bool(run[1])))

    look()
    sizes, names, masters, bad = map(set, zip(*seen, strict=True))
    assert len(sizes) >= 4
    assert len(names) >= 6
    assert masters == {"off", "discard", "host"}
    assert bad == {True, False}
