import itertools
from fractions import Fraction

import pytest
import torch

from bcd import (
    SGD,
    Balanced,
    BlockCoordinateDescent,
    CostAware,
    Cyclic,
    Descending,
    Expansion,
    Fixed,
    Greedy,
    RandomReshuffle,
    SlidingWindow,
    Uniform,
    Weighted,
    by_layer,
)

pytestmark = pytest.mark.usefixtures("global_generator_untouched")


def visits(order, blocks, count):
    return [order.next_visit(blocks)[0] for _ in range(count)]


def test_cyclic_and_descending():
    assert visits(Cyclic(), 3, 7) == [0, 1, 2, 0, 1, 2, 0]
    assert visits(Descending(), 3, 4) == [2, 1, 0, 2]


def test_random_reshuffle_is_a_permutation_in_every_epoch():
    drawn = visits(RandomReshuffle(seed=3), 8, 40)
    epochs = [drawn[start : start + 8] for start in range(0, 40, 8)]
    assert all(sorted(epoch) == list(range(8)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_random_reshuffle_depends_on_its_seed_only():
    assert visits(RandomReshuffle(seed=3), 8, 16) == visits(RandomReshuffle(seed=3), 8, 16)
    assert visits(RandomReshuffle(seed=3), 8, 16) != visits(RandomReshuffle(seed=4), 8, 16)


@pytest.mark.parametrize("blocks", [1, 2, 5, 30])
@pytest.mark.parametrize("share", [0.01, 0.25, 1 / 3, 0.5, 0.8, 0.95])
def test_balanced_moves_each_block_as_often_as_any_order_can(share, blocks):
    """Counted over the visits of two epochs, against the closed form and the bound of its docstring."""
    times = next(m for m in itertools.count(1) if m / (m + blocks - 1) >= share - 1e-9)
    length = times + blocks - 1
    drawn = visits(Balanced(share, seed=2), blocks, 2 * length)
    for epoch in (drawn[:length], drawn[length:]):
        assert sorted(epoch) == [0] * times + list(range(1, blocks))
        moves = [sum(active <= j for active in epoch) for j in range(blocks)]
        assert moves == [times + j for j in range(blocks)]
        assert moves == [length - (blocks - 1 - j) for j in range(blocks)], "as many as visits of every block leave"
        running = Fraction(sum(blocks - active for active in epoch), blocks * length)
        assert running == (times + Fraction(blocks - 1, 2)) / length
    if blocks == 30 and share == 0.5:
        assert drawn[:length] != drawn[length:]


def test_no_order_of_as_many_visits_moves_a_block_more_often_than_balanced():
    """All sequences of 5 visits of 3 blocks that visit each."""
    balanced = [3, 4, 5]
    possible = [order for order in itertools.product(range(3), repeat=5) if len(set(order)) == 3]
    counts = [[sum(active <= j for active in order) for j in range(3)] for order in possible]
    assert all(count[j] <= balanced[j] for count in counts for j in range(3))
    assert visits(Balanced(0.6, seed=1), 3, 5).count(0) == 3


def test_balanced_evens_the_steps_of_an_expansion(decoder):
    model = decoder(layers=5)
    partition = by_layer(model, embedding="freeze", final_norm="freeze", head="freeze")
    optimizer = BlockCoordinateDescent(
        partition, rule=SGD(), order=Balanced(0.5), inner_steps=1, lr=0.1, expansion=Expansion(reach="above")
    )
    moved = [0] * 5
    for _ in range(8):
        for j, block in enumerate(partition.blocks):
            moved[j] += all(p.requires_grad for p in block.parameters.values())
        model(torch.tensor([[1, 2]])).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert moved == [4, 5, 6, 7, 8]


@pytest.mark.parametrize("share", [0, 1, -0.5, "half", None, True])
def test_impossible_shares_are_refused(share):
    with pytest.raises(ValueError, match=r"share=.* is not possible: it must be a number, above 0 and below 1"):
        Balanced(share)


@pytest.mark.parametrize("share", [1 - 1e-9, 1 - 1e-16])
def test_a_share_of_nearly_all_visits_is_refused(share):
    with pytest.raises(ValueError, match=r"share=0\.9999.* is not possible: it must be below 1 by a"):
        Balanced(share)
    assert Balanced(1 - 1e-6).next_visit(1) == (0,)


ORDERS = {
    "balanced": lambda: Balanced(0.6, seed=5),
    "cyclic": Cyclic,
    "descending": Descending,
    "random_reshuffle": RandomReshuffle,
    "fixed": lambda: Fixed([2, [0, 1]]),
    "sliding_window": lambda: SlidingWindow(2),
    "uniform": lambda: Uniform(count=2, seed=5),
    "cost_aware": lambda: CostAware(count=2, seed=5),
    "weighted": lambda: Weighted([1.0, 2.0, 3.0], seed=5),
}


@pytest.mark.parametrize("make", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("before", [0, 1, 5, 6])
def test_state_dict_continues_the_stream(make, before):
    order = make()
    for _ in range(before):
        order.next_visit(3)
    restored = make()
    restored.load_state_dict(order.state_dict())
    assert [restored.next_visit(3) for _ in range(9)] == [order.next_visit(3) for _ in range(9)]


def test_fixed_repeats_sets():
    order = Fixed([2, [0, 1]])
    assert [order.next_visit(3) for _ in range(3)] == [(2,), (0, 1), (2,)]
    assert order.width == 2


def test_sliding_window_wraps_around():
    order = SlidingWindow(width=2, stride=2)
    assert [order.next_visit(5) for _ in range(3)] == [(0, 1), (2, 3), (4, 0)]


def test_uniform_draws_different_blocks_equally_often():
    order = Uniform(count=2, seed=0)
    drawn = [order.next_visit(4) for _ in range(4000)]
    assert all(len(set(visit)) == 2 for visit in drawn)
    shares = [sum(i in visit for visit in drawn) / 4000 for i in range(4)]
    # each block is in half of the visits; five standard errors are 5 sqrt(0.25 / 4000) = 0.04
    assert all(abs(share - 0.5) < 0.04 for share in shares)


def test_weighted_draws_by_weight():
    order = Weighted([1.0, 3.0], seed=0)
    share = sum(order.next_visit(2) == (1,) for _ in range(4000)) / 4000
    assert abs(share - 0.75) < 0.035  # five standard errors


def test_greedy_chooses_the_largest_norms():
    assert Greedy().choose([1.0, 3.0, 2.0], [1, 1, 1]) == (1,)
    assert Greedy(count=2).choose([1.0, 3.0, 2.0], [1, 1, 1]) == (1, 2)
    assert Greedy(per_weight=True).choose([1.0, 3.0], [1, 100]) == (0,)
    assert Greedy().choose([2.0, 2.0], [1, 1]) == (0,), "ties go to the first"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Fixed([]), "at least one visit"),
        (lambda: SlidingWindow(0), "width=0"),
        (lambda: SlidingWindow(1, 0), "stride=0"),
        (lambda: SlidingWindow(4).next_visit(3), "width=4 exceeds the number of blocks, 3"),
        (lambda: Uniform(count=0), "count=0"),
        (lambda: Uniform(count=4).next_visit(3), "count=4 exceeds the number of blocks, 3"),
        (lambda: Weighted([]), "every weight must be positive"),
        (lambda: Weighted([1.0, 0.0]), "every weight must be positive"),
        (lambda: Weighted([1.0]).next_visit(2), "got 1 weights for 2 blocks"),
        (lambda: Greedy(count=True), "count=True"),
        (lambda: Greedy(count=3).choose([1.0], [1]), "count=3 exceeds the number of blocks, 1"),
    ],
)
def test_impossible_orders_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.slow
def test_cost_aware_draws_blocks_as_often_as_a_step_on_them_is_cheap():
    """Four blocks by hand: forward costs 4, the block's own weight gradients 1, input gradients 4, 3, 2 or 1."""
    count = 40_000
    drawn = visits(CostAware(seed=0), 4, count)
    cheapness = [1 / (4 + 1 + inputs) for inputs in (4, 3, 2, 1)]
    for index, weight in enumerate(cheapness):
        p = weight / sum(cheapness)
        assert abs(drawn.count(index) / count - p) < 5 * (p * (1 - p) / count) ** 0.5
    assert visits(CostAware(seed=1), 4, 50) != visits(CostAware(seed=2), 4, 50)
    assert {len(set(order)) for order in [CostAware(count=3).next_visit(4) for _ in range(5)]} == {3}
