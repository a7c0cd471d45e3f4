import pytest

from bcd import Cyclic, Descending, RandomReshuffle

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


@pytest.mark.parametrize("make", [Cyclic, Descending, RandomReshuffle])
@pytest.mark.parametrize("before", [0, 1, 5, 6])
def test_state_dict_continues_the_stream(make, before):
    order = make()
    visits(order, 3, before)
    restored = make()
    restored.load_state_dict(order.state_dict())
    assert visits(restored, 3, 9) == visits(order, 3, 9)
