"""Noise trees are the reference fed with every outcome; second moments are the trees' expectations."""

import itertools
import math

import mpmath
import numpy as np
import pytest

from bcd import SGD, Adam, Momentum, Rule, reference
from tests.conftest import RTOL
from theory.noise import Epoch, SecondMoment, TwoPoint, VectorNoise, expectation, grow, signs
from theory.numbers import norm, precision
from theory.problems.quadratic import Quadratic

PROBLEM = Quadratic([2, 1, 3], coupling=0.9, condition=20, heterogeneity=3, seed=1)
NOISE = TwoPoint.of(0.3, 0.7)
ADAM = Adam(betas=(0.7, 0.99), eps=1e-3)
UPDATES = [(SGD(), reference.sgd()), (ADAM, reference.adam(beta1=0.7, beta2=0.99, eps=1e-3))]


def leaf(update: reference.Update, outcomes: tuple[int, ...], blocks: list[int], lr: float) -> np.ndarray:
    """All iterates of the reference when step n draws outcomes[n]; (N, d)."""
    values, _ = NOISE.outcomes(np.ones(1))
    drawn = iter(outcomes)

    def gradient(block: int, x: list[list[float]]) -> list[float]:
        rows = PROBLEM.slices[block]
        full = PROBLEM.gradient(np.array([number for part in x for number in part]))
        return list(full[rows] + values[next(drawn)] * signs(PROBLEM.sizes[block]))

    start = [list(PROBLEM.start[rows]) for rows in PROBLEM.slices]
    K = len(outcomes) // len(blocks)
    run = reference.descend(gradient, start, [(block,) for block in blocks], update=update, inner_steps=K, lr=[lr] * 3)
    return np.array([[number for part in x for number in part] for x in run])


@pytest.mark.parametrize(("rule", "update"), UPDATES, ids=["sgd", "adam"])
def test_every_leaf_is_a_path_of_the_reference(rule: Rule, update: reference.Update) -> None:
    blocks, K, lr = [2, 0], 4, 0.05
    points, chance, levels = PROBLEM.start[None], np.ones(1), []
    for block in blocks:
        tree = grow(PROBLEM, points, chance, block=block, inner_steps=K, rule=rule, lr=lr, noise=NOISE)
        points, chance = tree.points[-1], tree.probability[-1]
        levels += tree.points[1:]
    assert len(points) == 2 ** (K * len(blocks))
    assert chance.sum() == pytest.approx(1, abs=1e-14)
    for index, outcomes in enumerate(itertools.product((0, 1), repeat=K * len(blocks))):
        wanted = leaf(update, outcomes, blocks, lr)
        found = np.array([level[index >> (len(levels) - 1 - n)] for n, level in enumerate(levels)])
        assert found == pytest.approx(wanted, rel=RTOL["float64 against the reference"], abs=1e-13)
        assert chance[index] == pytest.approx(0.3 ** outcomes.count(0) * 0.7 ** outcomes.count(1), rel=1e-12)


def test_the_noise_is_unbiased_and_has_its_variance() -> None:
    for p, sigma in ((0.5, 1.0), (0.3, 2.0), (0.05, 0.1)):
        noise = TwoPoint.of(p, sigma)
        values, chances = noise.outcomes(np.ones(1))
        assert sum(v * c for v, c in zip(values, chances, strict=True)) == pytest.approx(0, abs=1e-15)
        assert sum(v * v * c for v, c in zip(values, chances, strict=True)) == pytest.approx(sigma**2, rel=1e-14)
        assert noise.variance(np.ones(1)) == pytest.approx(sigma**2, rel=1e-14)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 1.0), r"p=0\.0 is not possible"),
        ((1.0, 1.0), r"p=1\.0 is not possible"),
        ((0.3, math.inf), "up=inf is not possible"),
        ((0.3, -1.0), r"up=-1\.0 is not possible"),
        ((0.3, 1.0, 1.0), r"down=1\.0 is not possible: the noise has mean -0\.4"),
        ((0.5, 1.0, math.inf), "down=inf is not possible"),
    ],
)
def test_biased_and_unbounded_noise_is_refused(arguments: tuple[float, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TwoPoint(*arguments)


def test_trees_refuse_what_they_do_not_have() -> None:
    setting = {"block": 0, "lr": 0.1, "noise": NOISE}
    with pytest.raises(ValueError, match="8192 leaves"):
        grow(PROBLEM, PROBLEM.start[None], np.ones(1), inner_steps=13, rule=SGD(), **setting)
    with pytest.raises(ValueError, match="noise trees have SGD and Adam"):
        grow(PROBLEM, PROBLEM.start[None], np.ones(1), inner_steps=2, rule=Momentum(0.9), **setting)
    with pytest.raises(ValueError, match="without weight decay"):
        grow(PROBLEM, PROBLEM.start[None], np.ones(1), inner_steps=2, rule=SGD(weight_decay=0.1), **setting)


@pytest.mark.parametrize("arithmetic", ["float64", "mp"])
def test_second_moments_are_the_expectations_of_the_tree(arithmetic: str) -> None:
    with precision(arithmetic):
        problem = PROBLEM if arithmetic == "float64" else PROBLEM.lifted(mpmath.mpf)
        points, chance = problem.start[None], 0 * problem.start[:1] + 1
        state = Epoch.begin(SecondMoment(problem, NOISE))
        for block in (1, 2, 0):
            tree = grow(problem, points, chance, block=block, inner_steps=2, rule=SGD(), lr=0.1, noise=NOISE)
            points, chance = tree.points[-1], tree.probability[-1]
            state = state.step(block, 0.1).step(block, 0.1)
        gap = (chance * problem.gap(points)).sum()
        gradients = problem.gradient(points)
        moved = problem.gradient(problem.start[None]) - gradients
        pairs = [(state.now.gap(), gap)]
        for block, rows in enumerate(problem.slices):
            pairs.append((state.now.squares()[block], (chance * norm(gradients[:, rows]) ** 2).sum()))
            pairs.append((state.moved_squares(block), (chance * norm(moved[:, rows]) ** 2).sum()))
        # lr = 0.1 and the probabilities are floats, so both sides use the very same numbers
        for found, wanted in pairs:
            assert abs(found - wanted) < (1e-12 if arithmetic == "float64" else 1e-15) * abs(wanted)


def test_expectation_of_children() -> None:
    values = np.arange(8.0)
    assert expectation(values, TwoPoint(0.25, 1.0)) == pytest.approx([0.75, 2.75, 4.75, 6.75])


THREE = VectorNoise.drawn(3, 6, p=0.2, sigma=0.7, seed=4)


@pytest.mark.parametrize("arithmetic", ["float64", "mp"])
@pytest.mark.parametrize("outcomes", [2, 3, 5])
def test_vector_noise_is_unbiased_and_has_its_variances(outcomes: int, arithmetic: str) -> None:
    noise = VectorNoise.drawn(outcomes, 4, p=0.3, sigma=2.0, seed=1)
    with precision(arithmetic):
        x = np.ones(1) if arithmetic == "float64" else np.array([mpmath.mpf(1)])
        vectors, chances = noise.outcomes(x)
        exactly = 1e-14 if arithmetic == "float64" else mpmath.mpf("1e-55")
        assert vectors.shape == (outcomes, 4)
        assert abs(chances.sum() - 1) < exactly
        assert (abs((chances[:, None] * vectors).sum(axis=0)) < exactly).all()
        variances = noise.variances(x)
        assert (abs(variances - (chances[:, None] * vectors**2).sum(axis=0)) < exactly).all()
    assert float(variances.mean()) == pytest.approx(4.0, rel=1e-14)
    assert float(variances.max() / variances.min()) > 1.5, "coordinates differ"
    assert chances[0] == 0.3
    # the first has its own probability, the others have equal ones
    assert [float(p) for p in chances[1:]] == pytest.approx([0.7 / (outcomes - 1)] * (outcomes - 1))


def test_a_tree_of_vector_noise_is_the_reference_with_every_outcome() -> None:
    block, K, rows = 2, 3, PROBLEM.slices[2]
    tree = grow(PROBLEM, PROBLEM.start[None], np.ones(1), block=block, inner_steps=K, rule=ADAM, lr=0.05, noise=THREE)
    vectors, chances = THREE.outcomes(np.ones(1))
    assert [len(level) for level in tree.points] == [1, 3, 9, 27]
    for index, outcomes in enumerate(itertools.product(range(3), repeat=K)):
        drawn = iter(outcomes)

        def gradient(i: int, x: list[list[float]], drawn=drawn) -> list[float]:
            full = PROBLEM.gradient(np.array([number for part in x for number in part]))
            return list(full[rows] + vectors[next(drawn)][rows])

        start = [list(PROBLEM.start[each]) for each in PROBLEM.slices]
        run = reference.descend(gradient, start, [(block,)], update=UPDATES[1][1], inner_steps=K, lr=[0.05] * 3)
        wanted = [number for part in list(run)[-1] for number in part]
        assert tree.points[-1][index] == pytest.approx(wanted, rel=1e-12)
        assert tree.probability[-1][index] == pytest.approx(chances[list(outcomes)].prod(), rel=1e-12)


@pytest.mark.parametrize(
    ("chances", "vectors", "message"),
    [
        ((), (), "0 chances and 0 vectors"),
        ((0.5,), ((1.0,), (2.0,)), "1 chances and 2 vectors"),
        ((0.5, 0.5), ((1.0,), (2.0,)), r"chances=\(0\.5, 0\.5\)"),
        ((-0.1,), ((1.0,),), r"chances=\(-0\.1,\)"),
        ((0.5,), ((math.inf,),), r"vectors=\(\(inf,\),\)"),
        ((0.2, 0.2), ((1.0,), (2.0, 3.0)), "of one length"),
    ],
)
def test_vector_noise_that_is_not_possible_is_refused(chances: tuple, vectors: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VectorNoise(chances, vectors)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"outcomes": 1}, "outcomes=1"), ({"p": 1.0}, r"p=1\.0"), ({"sigma": -1.0}, r"sigma=-1\.0")],
)
def test_drawn_noise_needs_possible_numbers(change: dict, message: str) -> None:
    setting = {"outcomes": 2, "p": 0.3, "sigma": 1.0} | change
    with pytest.raises(ValueError, match=message):
        VectorNoise.drawn(setting.pop("outcomes"), 2, seed=0, **setting)
