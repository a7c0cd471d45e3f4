"""Sampled counterparts of the certified constants: what an adversary finds in C.

A sampled value is a lower bound of what the constant must cover, so certified/sampled >= 1 is necessary for the
constant to be right, and how far it is above 1 says how loose it is at most.
"""

from collections.abc import Iterator

import numpy as np
import torch

from theory.bounds.triangular import triangular_constant
from theory.problems.blocks import block_norms, strictly_lower
from theory.problems.problem import Array, Problem


def inside_points(problem: Problem, count: int, generator: np.random.Generator) -> Array:
    """Points of C on random rays from the start, (count, d); a quarter of them at the end of the ray.

    A ray ends at the boundary of C or at ten times the size of the start.
    """
    direction = generator.standard_normal((count, len(problem.start)))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    low, high = np.zeros(count), np.full(count, 10 * (1 + np.linalg.norm(problem.start)))
    for _ in range(50):
        middle = (low + high) / 2
        within = problem.inside(problem.start + middle[:, None] * direction)
        low, high = np.where(within, middle, low), np.where(within, high, middle)
    share = np.where(np.arange(count) % 4 == 0, 1.0, generator.uniform(size=count) ** 2)
    return problem.start + (low * share)[:, None] * direction


def hessians(problem: Problem, points: Array) -> Array:
    """d2 f by automatic differentiation of `objective`: (n, d) -> (n, d, d)."""

    def value(x: torch.Tensor) -> torch.Tensor:
        return problem.objective(x.split(problem.sizes))

    hessian = torch.func.jacrev(torch.func.jacrev(value))  # torch.func.hessian uses forward mode, which warns
    return torch.func.vmap(hessian)(torch.from_numpy(points)).numpy()


def quantities(problem: Problem, points: Array) -> dict[str, Array]:
    """What the constants bound from above, at every point."""
    matrices = hessians(problem, points)
    eigenvalues = np.linalg.eigvalsh(matrices)
    blocks = block_norms(matrices, problem.sizes)
    count = len(problem.sizes)
    measured = {"L": np.abs(eigenvalues).max(axis=1), "-mu": -eigenvalues[:, 0]}
    for i in range(count):
        measured |= {f"L_{i}{j}": blocks[:, i, j] for j in range(i, count)}
    # A short epoch moves x only a little, so that one Hessian gives a lower bound of Lambda.
    lower = strictly_lower(matrices, problem.sizes, range(count))
    measured["Lambda"] = np.linalg.norm(lower, 2, axis=(1, 2))
    square, gap = (problem.gradient(points) ** 2).sum(axis=1), problem.gap(points)
    resolved = gap > 1e-9 * problem.value_scale(points)
    ratio = np.divide(square, 2 * gap, out=np.full(len(points), np.inf), where=resolved)
    return {**measured, "-pl": -ratio, "-f_star": -problem.value(points)}


def sampled(problem: Problem, *, points: int = 64, rounds: int = 8, seed: int = 0) -> dict[str, float]:
    """Largest value of every quantity over C that a search finds.

    Random points, then `rounds` times: from the best point of each quantity, four random moves of a decreasing size,
    shortened towards the start until they lie in C.
    """
    generator = np.random.default_rng(seed)
    here = inside_points(problem, points, generator)
    if problem.minimiser is not None:
        near = problem.minimiser + 1e-3 * generator.standard_normal((4, here.shape[1]))
        here = np.concatenate([here, near[problem.inside(near)]])
    measured = quantities(problem, here)
    size = float(np.linalg.norm(here - problem.start, axis=1).mean()) / np.sqrt(here.shape[1])
    for number in range(rounds):
        best = np.repeat([here[int(np.argmax(values))] for values in measured.values()], 4, axis=0)
        moved = best + size * 0.6**number * generator.standard_normal(best.shape)
        for _ in range(20):
            outside = ~problem.inside(moved)
            moved[outside] = problem.start + 0.9 * (moved[outside] - problem.start)
        moved = moved[problem.inside(moved)]
        here = np.concatenate([here, moved])
        new = quantities(problem, moved)
        measured = {name: np.concatenate([values, new[name]]) for name, values in measured.items()}
    return {name: float(values.max()) for name, values in measured.items()}


def certified(problem: Problem) -> dict[str, float]:
    """The constants under the names of `quantities`."""
    count = len(problem.sizes)
    constants = {"L": problem.L, "-mu": -problem.mu}
    for i in range(count):
        constants |= {f"L_{i}{j}": float(problem.L_ij[i, j]) for j in range(i, count)}
    constants["Lambda"] = triangular_constant(problem, range(count))
    return {**constants, "-pl": -problem.pl, "-f_star": -problem.f_star}


def compare(problem: Problem, **options: int) -> Iterator[tuple[str, float, float]]:
    """Name, certified and sampled value of every constant."""
    largest = sampled(problem, **options)
    for name, value in certified(problem).items():
        yield name, value, largest[name]
