"""bcd's trajectories are the reference's; the moments are those of the steps; checks of hypotheses can fail."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from bcd import SGD, Adam, AdamW, Cyclic, Momentum, RandomReshuffle, Rule, Sign
from tests.conftest import RTOL
from theory.bounds import Bound
from theory.bounds.a1 import A1
from theory.bounds.c2 import C2
from theory.bounds.c3 import C3
from theory.bounds.c_long import CLong
from theory.bounds.d1 import D1
from theory.moments import moments, moving_mean, weights
from theory.numbers import precision
from theory.problems.quadratic import Quadratic
from theory.trajectory import ORDERS, Trajectory, require_block_epochs, require_inside, require_steps, trajectory

RULES = [SGD(), Momentum(0.8), Adam(betas=(0.7, 0.99), eps=1e-3), Adam(betas=(0.0, 0.5), eps=1e-2)]
PROBLEM = Quadratic([1, 2, 1], coupling=0.9, condition=20, heterogeneity=3, seed=1)


def path(rule: Rule, arithmetic: str = "float64", epochs: int = 3) -> Trajectory:
    with precision(arithmetic):
        return trajectory(
            PROBLEM,
            order=RandomReshuffle(5),
            inner_steps=4,
            lr=[0.03, 0.05, 0.02],
            epochs=epochs,
            rule=rule,
            arithmetic=arithmetic,
        )


@pytest.mark.parametrize("seed", [0, 1])
def test_every_order_visits_what_its_name_says(seed: int) -> None:
    D, epochs = 6, 3
    generator = torch.Generator().manual_seed(seed)
    wanted = {
        "cyclic": [[0, 1, 2, 3, 4, 5]] * epochs,
        "descending": [[5, 4, 3, 2, 1, 0]] * epochs,
        "random_reshuffle": [torch.randperm(D, generator=generator).tolist() for _ in range(epochs)],
    }
    assert wanted.keys() == ORDERS.keys(), "a new name says what it visits here"
    for name, make in ORDERS.items():
        order = make(seed)
        assert [[order.next_visit(D)[0] for _ in range(D)] for _ in range(epochs)] == wanted[name], name
    shuffled = wanted["random_reshuffle"]
    assert shuffled[0] != shuffled[1]
    other = ORDERS["random_reshuffle"](1 - seed)
    assert [other.next_visit(D)[0] for _ in range(D)] != shuffled[0], "two seeds have two orders"


SEEDED = [
    (A1(), {"gamma": 1.0, "inner_steps": 1}),
    (C2(), {"gamma": 1.0, "inner_steps": 1, "sigma": 0.1, "p": 0.5}),
    (C3(), {"gamma": 1.0, "inner_steps": 1, "sigma": 0.1}),
    (CLong(), {"gamma": 1.0, "inner_steps": 1, "sigma": 0.1}),
    (D1(), {"rate": 0.1, "eps": 1.0, "betas": (0.9, 0.999), "inner_steps": 1, "sigma": 0.1, "p": 0.5}),
]


@pytest.mark.parametrize(("bound", "setting"), SEEDED, ids=lambda item: type(item).__name__)
def test_an_instance_is_visited_in_the_order_of_its_own_seed(
    bound: Bound, setting: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []

    def spy(seed: int) -> RandomReshuffle:
        seeds.append(seed)
        return RandomReshuffle(seed)

    monkeypatch.setitem(ORDERS, "random_reshuffle", spy)
    for seed in (3, 4):
        bound.evaluate(Quadratic([1, 1], seed=seed), order="random_reshuffle", epochs=1, **setting)
    assert set(seeds) == {3, 4}


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_bcd_gives_the_trajectory_of_the_reference(rule: Rule) -> None:
    found, wanted = path(rule), path(rule, "mp")
    assert np.array_equal(found.visited, wanted.visited)
    for name in ("points", "gradients", "applied"):
        there = getattr(wanted, name).astype(np.float64)
        assert getattr(found, name) == pytest.approx(there, rel=RTOL["float64 against the reference"], abs=1e-14), name


@pytest.mark.parametrize("rule", RULES[:2], ids=str)
def test_fractions_give_the_trajectory_of_multi_precision(rule: Rule) -> None:
    exact, precise = path(rule, "exact", epochs=1), path(rule, "mp", epochs=1)
    with precision("mp"):
        difference = abs(exact.points + 0 * precise.points - precise.points).max()
    assert difference < 1e-55


@pytest.mark.parametrize("arithmetic", ["float64", "mp"])
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_moments_explain_every_step(rule: Rule, arithmetic: str) -> None:
    found = path(rule, arithmetic)
    with precision(arithmetic):
        require_steps(found, rule)
        known = found.moments
        steps = -found.rates * known.factor[:, None] * known.H * known.m_hat * found.mask
        error = abs(steps - found.dx).max()
    assert error < (1e-14 if arithmetic == "float64" else 1e-55)
    assert known.m_hat.shape == found.g.shape == found.dx.shape == (9, 4, 4)
    assert found.z.shape == (9, 5, 4)


def test_weights_sum_to_one_and_are_those_of_the_recursion() -> None:
    g = np.random.default_rng(0).standard_normal((3, 5, 2))
    for beta in (0.0, 0.5, 0.9):
        w = weights(beta, 5)
        assert w.sum(axis=1) == pytest.approx(np.ones(5), rel=1e-12)
        assert moving_mean(beta, g) == pytest.approx(w @ g, rel=1e-12)


@pytest.mark.parametrize("rule", [AdamW(), SGD(weight_decay=0.1), Momentum(nesterov=True), Sign()], ids=str)
def test_rules_without_theory_are_refused(rule: Rule) -> None:
    with pytest.raises(ValueError, match=r"rule=.* is not possible"):
        moments(rule, np.ones((1, 1, 1)))


def test_roots_are_refused_in_fractions() -> None:
    with pytest.raises(ValueError, match="takes roots"):
        path(Adam(), "exact")
    with pytest.raises(ValueError, match="arithmetic='float32'"):
        path(SGD(), "float32")


def test_steps_of_another_rule_are_refused() -> None:
    found = path(Momentum(0.8))
    with pytest.raises(ValueError, match=r"step 1 is not a step of SGD"):
        require_steps(found, SGD())


def test_points_outside_the_certified_set_are_refused() -> None:
    class Ball(Quadratic):
        def inside(self, x: np.ndarray) -> np.ndarray:
            return np.abs(x).max(axis=-1) < np.abs(self.start).max()

    ball = Ball([1, 2, 1], seed=1)
    with pytest.raises(ValueError, match="iterate 0 leaves the set"):
        require_inside(replace(path(SGD()), problem=ball, points=np.stack([ball.start, 0 * ball.start])))


def test_the_steps_of_lemma_s_must_be_inside_too() -> None:
    """A function is free to bend right beside its iterates, where constants that hold between them say nothing."""

    class Between(Quadratic):
        """C is the way between the iterates of one short step."""

        def inside(self, x: np.ndarray) -> np.ndarray:
            return (x[..., 0] >= 0.95) & (x[..., 0] <= 1)

    class Blockwise(Quadratic):
        """The step 1/L of all blocks is in C, that of the flatter block alone is longer."""

        def inside(self, x: np.ndarray) -> np.ndarray:
            return x[..., 1] >= 0.3

    def run(problem: Quadratic, lr: list[float]) -> Trajectory:
        return trajectory(problem, order=Cyclic(), inner_steps=1, lr=lr, epochs=1, rule=SGD())

    short = Between.from_matrix(np.eye(1), sizes=[1], start=np.ones(1))
    with pytest.raises(ValueError, match="step of size 1/L from iterate 0 leaves the set on which the constants"):
        require_inside(run(short, [0.05]))
    pair = Blockwise.from_matrix(np.diag([1.0, 0.5]), sizes=[1, 1], start=np.ones(2))
    with pytest.raises(ValueError, match="step of size 1/L_i from iterate 1 leaves the set"):
        require_inside(run(pair, [0.05, 0.05]))
    require_inside(run(Quadratic.from_matrix(np.eye(1), sizes=[1], start=np.ones(1)), [0.05]))


def test_orders_that_leave_out_a_block_are_refused() -> None:
    with pytest.raises(ValueError, match=r"block epoch 1 visits the blocks \[0, 0\]"):
        require_block_epochs(np.array([[0, 1], [0, 0]]))
