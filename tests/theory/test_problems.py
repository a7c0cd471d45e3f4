"""The constants of the problems are upper bounds that are attained, and f, its gradient and the torch f agree."""

from typing import Any

import numpy as np
import pytest
import torch

from theory.bounds.triangular import cross_constant, tau, triangular_constant
from theory.problems.quadratic import Quadratic, QuadraticFamily

CASES = [
    Quadratic(sizes, coupling=coupling, condition=30, heterogeneity=4, seed=seed)
    for seed, (sizes, coupling) in enumerate([([3], 1.0), ([1, 2, 3], 0.0), ([2, 2], 0.5), ([1, 3, 1, 3], 1.0)])
]


@pytest.mark.parametrize("problem", CASES, ids=lambda p: str(p.sizes))
def test_rayleigh_quotients_never_exceed_the_constants(problem: Quadratic) -> None:
    generator = np.random.default_rng(0)
    for _ in range(200):
        x, h = generator.standard_normal((2, sum(problem.sizes)))
        change = problem.gradient(x + h) - problem.gradient(x)  # the Hessian times h
        assert problem.mu * (1 - 1e-9) <= change @ h / (h @ h) <= problem.L * (1 + 1e-9)
        for j, columns in enumerate(problem.slices):
            block = np.zeros_like(h)
            block[columns] = h[columns]
            moved = problem.gradient(x + block) - problem.gradient(x)
            for i, rows in enumerate(problem.slices):
                limit = problem.L_ij[i, j] * np.linalg.norm(block)
                assert np.linalg.norm(moved[rows]) <= limit * (1 + 1e-9) + 1e-13


@pytest.mark.parametrize("problem", CASES, ids=lambda p: str(p.sizes))
def test_values_gradients_and_decreases_agree(problem: Quadratic) -> None:
    generator = np.random.default_rng(1)
    x, y = generator.standard_normal((2, 5, sum(problem.sizes)))
    assert problem.decrease(x, y) == pytest.approx(problem.value(x) - problem.value(y), rel=1e-9)
    assert problem.gap(x) == pytest.approx(problem.value(x) - problem.f_star, rel=1e-9)
    assert np.all(problem.gap(x) >= 0)
    assert np.linalg.norm(problem.gradient(problem.minimiser)) < 1e-12
    blocks = [torch.tensor(x[0][rows], requires_grad=True) for rows in problem.slices]
    value = problem.objective(blocks)
    value.backward()
    assert value.item() == pytest.approx(problem.value(x[0]), rel=1e-12)
    gradient = np.concatenate([block.grad.numpy() for block in blocks if block.grad is not None])
    assert gradient == pytest.approx(problem.gradient(x[0]), rel=1e-9, abs=1e-12)


def test_decrease_does_not_cancel() -> None:
    problem = CASES[2]
    step = np.zeros(4)
    step[0] = 1e-12
    direction = problem.gradient(problem.start)[0]
    assert problem.decrease(problem.start, problem.start - step) == pytest.approx(direction * 1e-12, rel=1e-3)


def test_triangular_constant_depends_on_the_order_and_is_below_the_general_ones() -> None:
    problem = Quadratic([1, 3, 1, 3], coupling=1.0, heterogeneity=9, seed=5)
    orders = [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]]
    exact = [problem.triangular(order) for order in orders]
    assert exact[0] == pytest.approx(exact[1], rel=1e-12)  # the reversed order gives the transpose
    assert exact[0] != pytest.approx(exact[2], rel=1e-3)
    for order, value in zip(orders, exact, strict=True):
        assert triangular_constant(problem, order) == value
        assert value <= cross_constant(problem) * tau(4)


@pytest.mark.parametrize("num_blocks", [2, 3, 4, 8, 16])
def test_lemma_t_holds_for_adversarial_matrices(num_blocks: int) -> None:
    """1/(i - j), the worst known matrix for triangular truncation, and a random one; both indefinite."""
    rank = np.arange(num_blocks)
    with np.errstate(divide="ignore"):
        kernel = np.where(rank[:, None] == rank, 0.0, 1.0 / (rank[:, None] - rank))
    symmetric = np.block([[np.zeros_like(kernel), kernel], [kernel.T, np.zeros_like(kernel)]])
    generator = np.random.default_rng(num_blocks)
    noise = generator.standard_normal(symmetric.shape)
    for matrix in (symmetric, noise + noise.T):
        eigenvalues = np.linalg.eigvalsh(matrix)
        for order in (np.arange(2 * num_blocks), np.argsort(np.tile(rank, 2), kind="stable")):
            lower = np.tril(matrix[np.ix_(order, order)], -1)
            cross = (eigenvalues[-1] - eigenvalues[0]) / 2
            assert np.linalg.norm(lower, 2) <= cross * tau(2 * num_blocks)
    assert tau(num_blocks) <= min(np.sqrt(num_blocks - 1), np.ceil(np.log2(num_blocks))) + 1e-12


def test_cross_constant_is_attained() -> None:
    """(L - mu)/2, half of what L alone gives for a convex f."""
    problem = Quadratic.from_matrix(np.array([[1.0, 0.75], [0.75, 1.0]]), sizes=[1, 1], start=np.ones(2))
    assert cross_constant(problem) == pytest.approx(0.75, rel=1e-12)
    assert problem.triangular([0, 1]) == pytest.approx(cross_constant(problem) * tau(2), rel=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sizes": []}, r"sizes=\[\]"),
        ({"sizes": [0]}, "size of a block=0"),
        ({"sizes": [1], "coupling": 1.5}, "coupling=1.5"),
        ({"sizes": [1], "condition": 0.5}, "condition=0.5"),
        ({"sizes": [1], "heterogeneity": float("nan")}, "heterogeneity=nan"),
    ],
)
def test_bad_arguments_are_refused_with_their_value(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Quadratic(**arguments)


def test_matrices_that_are_not_positive_definite_are_refused() -> None:
    with pytest.raises(ValueError, match="not positive definite"):
        Quadratic.from_matrix(np.array([[1.0, 2.0], [2.0, 1.0]]), sizes=[1, 1], start=np.ones(2))
    with pytest.raises(ValueError, match="not symmetric"):
        Quadratic.from_matrix(np.array([[1.0, 2.0], [0.0, 1.0]]), sizes=[1, 1], start=np.ones(2))


def test_the_family_has_no_duplicates() -> None:
    sweep: dict[str, Any] = {"block_sizes": [[2], [1, 3]], "coupling": [0.0, 1.0], "condition": 10.0}
    sweep |= {"heterogeneity": 1.0, "seeds": 2, "example": {"sizes": [1]}}
    family = QuadraticFamily(num_blocks=[1, 2], **sweep)
    rows = [str(problem.parameters) for problem in family.instances()]
    assert len(rows) == len(set(rows)) == 2 * 1 * 2 + 2 * 2 * 2
    with pytest.raises(ValueError, match=r"example=.*typo"):
        QuadraticFamily(num_blocks=[1], **{**sweep, "example": {"typo": 1}})
