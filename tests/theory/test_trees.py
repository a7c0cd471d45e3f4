"""Runs along all outcomes: whole trees of block epochs, conditional means, bounds of the noisy gradients."""

import itertools

import numpy as np
import pytest

from bcd import SGD, Adam
from theory.bounds.trees import (
    DEPTH,
    affordable,
    bounded,
    conditional_mean,
    follow,
    history,
    rounding,
    running_means,
    starts,
)
from theory.noise import SecondMoment, TwoPoint
from theory.problems.quadratic import Quadratic

PROBLEM = Quadratic([1, 2], coupling=0.9, condition=20, seed=2)
NOISE = TwoPoint.of(0.3, 0.7)
RUN = follow(PROBLEM, NOISE, rule=SGD(), lr=0.1, inner_steps=2, epochs=9, order="descending")


def test_block_epochs_follow_each_other_and_stop_at_the_depth() -> None:
    assert [[block for block, _ in epoch] for epoch in RUN] == [[1, 0], [1, 0]]
    visits = [tree for epoch in RUN for _, tree in epoch]
    for before, after in itertools.pairwise(visits):
        assert np.array_equal(before.points[-1], after.points[0])
        assert np.array_equal(before.probability[-1], after.probability[0])
    assert len(visits[-1].points[-1]) == 2**8
    assert [len(roots) for roots in starts(RUN)] == [1, 16]


def test_the_mean_of_f_is_that_of_the_second_moments() -> None:
    state = SecondMoment(PROBLEM, NOISE)
    for block in (1, 0, 1, 0):
        state = state.visit(block, 0.1, 2)[-1]
    _, last = RUN[-1][-1]
    found = last.probability[-1] @ PROBLEM.gap(last.points[-1])
    assert found == pytest.approx(state.gap(), rel=1e-11)


def test_conditional_means_by_hand() -> None:
    chance, roots = np.array([0.1, 0.3, 0.24, 0.36]), np.array([0.4, 0.6])
    assert conditional_mean(np.array([1.0, 2.0, 3.0, 4.0]), chance, roots) == pytest.approx([1.75, 3.6])
    values = [np.array([8.0]), np.arange(16.0)]
    first, second = running_means(RUN, values)
    mean = starts(RUN)[1] @ values[1]
    assert first == pytest.approx(np.array([[8.0], [(8 + mean) / 2]]))
    assert second == pytest.approx(values[1][None])


def test_means_of_vectors_and_trees_of_three_outcomes() -> None:
    chance, roots = np.array([0.1, 0.3, 0.24, 0.36]), np.array([0.4, 0.6])
    values = np.array([[1.0, 0.0], [2.0, 0.0], [3.0, 1.0], [4.0, 1.0]])
    assert conditional_mean(values, chance, roots) == pytest.approx(np.array([[1.75, 0.0], [3.6, 1.0]]))
    older = [np.array([[1.0], [2.0], [3.0]]), np.arange(9.0)[:, None]]
    assert history(older, 2, 3)[0, :, 0].tolist() == [1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_history_repeats_what_older_nodes_saw() -> None:
    values = [np.array([[1.0], [2.0]]), np.arange(4.0)[:, None]]
    assert history(values, 2)[..., 0].tolist() == [[1, 1, 2, 2], [0, 1, 2, 3]]


def test_the_largest_noisy_gradient_is_rounded_up() -> None:
    run = follow(PROBLEM, NOISE, rule=Adam(), lr=0.1, inner_steps=1, epochs=2, order="cyclic")
    largest = max(float(abs(used).max()) for epoch in run for _, tree in epoch for used in tree.used)
    assert largest < bounded(run, None) < 1.11 * largest
    assert bounded(run, largest) == largest
    with pytest.raises(ValueError, match=r"R=.* is not possible: a noisy gradient has a coordinate of"):
        bounded(run, largest * (1 - 1e-9))
    size, reach = rounding(PROBLEM, run)
    assert size > reach > 0


def test_runs_that_are_too_deep_are_refused() -> None:
    with pytest.raises(ValueError, match=r"inner_steps=6 is not possible: 2 blocks need 12 > 10 steps"):
        follow(PROBLEM, NOISE, rule=SGD(), lr=0.1, inner_steps=DEPTH // 2 + 1, epochs=1, order="cyclic")
    kept = list(affordable(PROBLEM, [{"inner_steps": K} for K in (1, 2, 3, 4)]))
    assert [setting["inner_steps"] for setting in kept] == [1, 2, 3]


def test_paths_outside_the_certified_set_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Quadratic, "inside", lambda self, x: x[..., 0] <= PROBLEM.start[0])
    with pytest.raises(ValueError, match="a path leaves the set of the certified constants in a visit of block 0"):
        follow(PROBLEM, TwoPoint.of(0.5, 9.0), rule=SGD(), lr=0.1, inner_steps=1, epochs=1, order="cyclic")
