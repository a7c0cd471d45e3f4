"""Lipschitz constants from l_inf to l_1: against all signs, against grids of points and steps, and what is refused."""

import itertools
from typing import Any

import numpy as np
import pytest

from theory.problems.finite_sum import FiniteSum
from theory.problems.huber import Huber
from theory.problems.logistic import Logistic
from theory.problems.plsin import PLSin
from theory.problems.quadcos import QuadCos
from theory.problems.quadratic import Quadratic
from theory.problems.rosenbrock import Rosenbrock
from theory.problems.sampling import hessians, inside_points
from theory.problems.sup import LOOSE, MOST_SIGNS, attained, block_sup_norms, sup_norm

RANDOM = np.random.default_rng(0)
PROBLEMS = [
    Quadratic([1, 2, 2], coupling=0.9, condition=20.0, heterogeneity=4.0, seed=1),
    FiniteSum([1, 2], samples=2, dominance=0.5, seed=0),
    Logistic([2, 1], samples=3, ridge=0.1, seed=0),
    Logistic([2, 2], samples=24, ridge=0.1, seed=1),
    Huber([1, 2], samples=20, delta=0.5, seed=0),
    QuadCos([2, 1], amplitude=0.5, terms=6, seed=1),
    PLSin([2, 2], condition=2.0, seed=2),
]
ATTAINED = [
    Logistic([1], samples=1, ridge=0.1, seed=0),
    Logistic([1, 1], samples=1, ridge=0.1, seed=0),
    Huber([1], samples=1, delta=0.5, seed=0),
    PLSin([1], condition=1.0, seed=0),
    QuadCos([1, 1], amplitude=1.0, terms=1, seed=0),
    Quadratic([1, 1], condition=10.0, heterogeneity=4.0, seed=0),
]


def named(problem: Any) -> str:
    return f"{type(problem).__name__}{list(problem.sizes)}"


def slow_norm(matrix: np.ndarray) -> float:
    """max t'As over all sign vectors, without a shortcut."""
    rows, columns = (list(itertools.product((-1, 1), repeat=n)) for n in matrix.shape)
    return max(float(np.array(t) @ matrix @ np.array(s)) for t in rows for s in columns)


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (2, 5), (5, 2), (4, 4)])
def test_the_norm_is_the_largest_value_over_all_signs(shape: tuple[int, int]) -> None:
    matrix = RANDOM.standard_normal(shape)
    assert sup_norm(matrix) == pytest.approx(slow_norm(matrix), rel=1e-14)
    assert attained(matrix) <= sup_norm(matrix) * (1 + 1e-14)
    assert sup_norm(np.stack([matrix / 2, matrix])) == sup_norm(matrix)


def test_of_a_positive_semidefinite_matrix_it_is_the_largest_quadratic_form_over_signs() -> None:
    factor = RANDOM.standard_normal((4, 4))
    matrix = factor @ factor.T
    signs = [np.array(s) for s in itertools.product((-1, 1), repeat=4)]
    assert sup_norm(matrix) == pytest.approx(max(float(s @ matrix @ s) for s in signs), rel=1e-14)


def test_a_large_matrix_has_a_bound_that_is_attained_or_is_refused() -> None:
    d = MOST_SIGNS + 8
    positive = RANDOM.uniform(size=(d, d))
    assert sup_norm(positive) == pytest.approx(positive.sum(), rel=1e-14)
    # signs flipped in rows and columns change nothing, but the vector of ones does not attain it
    flips = RANDOM.choice([-1.0, 1.0], size=(2, d))
    turned = flips[0][:, None] * positive * flips[1]
    assert sup_norm(turned) == pytest.approx(positive.sum(), rel=1e-14)
    mixed = RANDOM.standard_normal((d, d))
    upper = min(float(abs(mixed).sum()), float(np.linalg.norm(mixed, 2)) * d)
    assert upper > LOOSE * attained(mixed)
    with pytest.raises(ValueError, match=rf"a matrix of shape \({d}, {d}\) is not possible: .* too loose"):
        sup_norm(mixed)
    short = RANDOM.standard_normal((3, d))
    assert sup_norm(short) == pytest.approx(sup_norm(short.T), rel=1e-14) == pytest.approx(attained(short), rel=0.2)


@pytest.mark.parametrize("problem", PROBLEMS, ids=named)
def test_constants_cover_differences_of_gradients(problem: Any) -> None:
    """From points of C along signs and random directions, short and long."""
    generator, sup = np.random.default_rng(1), problem.sup
    x = inside_points(problem, 400, generator)
    d = x.shape[1]
    directions = [generator.choice([-1.0, 1.0], size=x.shape), generator.uniform(-1, 1, size=x.shape)]
    for direction, length in itertools.product(directions, (1e-3, 0.1, 3.0)):
        h = length * direction / abs(direction).max(axis=1, keepdims=True)
        found = abs(problem.gradient(x + h) - problem.gradient(x)).sum(axis=1).max() / length
        assert found <= sup.whole * (1 + 1e-8)
        for j, columns in enumerate(problem.slices):
            step = np.zeros((len(x), d))
            step[:, columns] = length * direction[:, columns] / abs(direction[:, columns]).max(axis=1, keepdims=True)
            change = abs(problem.gradient(x + step) - problem.gradient(x))
            for i, rows in enumerate(problem.slices):
                assert change[:, rows].sum(axis=1).max() / length <= sup.pairs[i, j] * (1 + 1e-8), (i, j)
    assert np.array_equal(np.diag(sup.pairs), sup.blocks)
    assert np.array_equal(sup.pairs, sup.pairs.T)


@pytest.mark.parametrize("problem", ATTAINED, ids=named)
def test_attained_constants_are_the_largest_values_on_a_grid(problem: Any) -> None:
    """Points on lines through 0 in many directions."""
    angles = np.linspace(0, np.pi, 60, endpoint=False)
    one = len(problem.start) == 1
    rays = np.ones((1, 1)) if one else np.stack([np.cos(angles), np.sin(angles)], axis=1)
    lengths = np.linspace(-20, 20, 4001 if one else 401)
    found = hessians(problem, (lengths[:, None, None] * rays).reshape(-1, rays.shape[1]))
    sup = problem.sup
    pairs = [(sup_norm(found), sup.whole)]
    norms = block_sup_norms(found, problem.sizes)
    pairs += [(norms[i, j], sup.pairs[i, j]) for i in range(len(norms)) for j in range(len(norms))]
    for largest, constant in pairs:
        assert constant * (1 - 2e-3) <= largest <= constant * (1 + 1e-9), (largest, constant)


@pytest.mark.parametrize("problem", PROBLEMS, ids=named)
def test_the_constants_of_a_block_are_at_most_d_times_the_euclidean_ones(problem: Any) -> None:
    sizes = np.array(problem.sizes)
    assert (problem.sup.blocks <= sizes * problem.L_i * (1 + 1e-9)).all()
    assert problem.sup.whole <= sizes.sum() * problem.L * (1 + 1e-9)


def test_chi_is_one_where_everything_is_coupled_and_one_over_the_blocks_where_nothing_is() -> None:
    start = np.ones(4)
    separate = Quadratic.from_matrix(np.eye(4), sizes=[1] * 4, start=start)
    coupled = Quadratic.from_matrix(np.ones((4, 4)) + 1e-9 * np.eye(4), sizes=[1] * 4, start=start)
    assert separate.sup.chi == pytest.approx(1 / 4)
    assert coupled.sup.chi == pytest.approx(1, rel=1e-8)
    for seed in range(5):
        problem = Quadratic([2, 1, 3], coupling=0.8, condition=50, heterogeneity=9, seed=seed)
        assert 1 / 3 <= problem.sup.chi <= 1


def test_merging_blocks_in_equal_groups_does_not_raise_what_the_bound_pays_and_merging_some_can() -> None:
    def paid(matrix: np.ndarray, sizes: list[int]) -> float:
        return len(sizes) * float(np.trace(block_sup_norms(matrix, sizes)))

    for seed in range(20):
        matrix = Quadratic([1] * 8, coupling=0.9, condition=50, heterogeneity=9, seed=seed).matrix
        every = [paid(matrix, [8 // count] * count) for count in (8, 4, 2, 1)]
        assert all(merged <= apart * (1 + 1e-12) for apart, merged in itertools.pairwise(every))
    uneven = np.diag([1e-3, 1e-3, 0.1])
    uneven[:2, :2] += 5.0
    assert paid(uneven, [2, 1]) > 1.3 * paid(uneven, [1, 1, 1])


def test_families_without_constants_say_so() -> None:
    with pytest.raises(ValueError, match="problem=Rosenbrock is not possible: it has no certified Lipschitz"):
        _ = Rosenbrock(num_blocks=2, steepness=10.0, seed=0).sup
    wide = QuadCos([2, 2], amplitude=2.0, terms=9, seed=0)
    with pytest.raises(ValueError, match="constants from l_inf to l_1 need a convex f or at most 8 weights"):
        _ = wide.sup
