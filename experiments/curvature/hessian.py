"""Second derivatives of a loss, block by block, as products with vectors (double backward).

For f = loss and blocks x_1, ..., x_D the Hessian has the blocks H_ij = d^2 f/(dx_i dx_j). A product H_ij v is the
gradient with respect to x_i of <grad_j f, v> for a fixed v (Pearlmutter, Neural Computation 6, 1994). The graph of the
gradients is made once and kept, so a product costs one backward pass through it.

Norms come from power iteration: every value is ||H v|| at a unit v, so it is at most the norm, whatever the number of
iterations.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bcd.checks import require_number, require_whole

Vector = list[Tensor]
"""One tensor for each parameter of a block, of the parameter's shape."""


def dot(x: Sequence[Tensor], y: Sequence[Tensor]) -> float:
    """<x, y>, summed in float64."""
    return math.fsum((a.double() * b.double()).sum().item() for a, b in zip(x, y, strict=True))


def norm(x: Sequence[Tensor]) -> float:
    """Euclidean norm, summed in float64."""
    return math.sqrt(dot(x, x))


def unit(x: Sequence[Tensor]) -> Vector:
    """x/||x||, and x itself when it is zero."""
    size = norm(x)
    return [a / size for a in x] if size else list(x)


def draw(like: Sequence[Tensor], generator: torch.Generator) -> Vector:
    """A random direction of norm one; drawn on the CPU, so that it is the same on every device."""
    return unit([torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p) for p in like])


class Hessian:
    """The Hessian of one loss at the present weights, as products with vectors.

    `gradient` holds grad_i f for each block. Changing the weights makes the products wrong: make a new one.

    Args:
        loss: scalar, made with the parameters below requiring gradients and kernels that can be differentiated twice
            (attention "eager").
        blocks: the parameters of each block.
    """

    def __init__(self, loss: Tensor, blocks: Sequence[Sequence[Tensor]]) -> None:
        self.blocks = [list(block) for block in blocks]
        flat = torch.autograd.grad(loss, [p for block in self.blocks for p in block], create_graph=True)
        rest = iter(flat)
        self._graph = [[next(rest) for _ in block] for block in self.blocks]
        self.gradient = [[g.detach() for g in block] for block in self._graph]

    def product(self, rows: Sequence[int], vectors: dict[int, Vector]) -> list[Vector]:
        """sum_j H_ij v_j for some blocks i.

        Args:
            rows: the blocks i.
            vectors: block j -> v_j.
        """
        wanted = [p for i in rows for p in self.blocks[i]]
        seeds = [v for vector in vectors.values() for v in vector]
        outputs = [g for j in vectors for g in self._graph[j]]
        products = iter(torch.autograd.grad(outputs, wanted, seeds, retain_graph=True, materialize_grads=True))
        return [[next(products) for _ in self.blocks[i]] for i in rows]


@dataclass(frozen=True)
class Estimate:
    """A lower estimate of a norm.

    Attributes:
        value: the largest ||H v|| seen.
        iterations: products made, or pairs of products for a coupling.
        change: relative change of the last iteration; what is left to gain is seldom less than it.
    """

    value: float
    iterations: int
    change: float


def power(
    step: Callable[[Vector], tuple[float, Vector]], start: Vector, iterations: int, tolerance: float
) -> Estimate:
    """Iterate (value, v) = step(v) until the value changes by less than tolerance, relatively.

    Raises:
        ValueError: unless iterations >= 1 and 0 <= tolerance < infinity.
    """
    require_whole("iterations", iterations, least=1)
    require_number("tolerance", tolerance, least=0)
    best, v, change, made = 0.0, start, 1.0, 0
    for made in range(1, iterations + 1):  # noqa: B007, read after the loop
        value, v = step(v)
        change = abs(value - best) / value if value else 0.0
        best = max(best, value)
        if change <= tolerance:
            break
    return Estimate(best, made, change)


def curvature(
    hessian: Hessian, blocks: Sequence[int], generator: torch.Generator, iterations: int, tolerance: float
) -> Estimate:
    """||H_SS||_2 of the set S of blocks together, that is L_i for one block and L for all."""
    sizes = [len(hessian.blocks[i]) for i in blocks]

    def step(v: Vector) -> tuple[float, Vector]:
        rest = iter(v)
        vectors = {i: [next(rest) for _ in range(n)] for i, n in zip(blocks, sizes, strict=True)}
        image = [t for part in hessian.product(blocks, vectors) for t in part]
        return norm(image), unit(image)

    start = draw([p for i in blocks for p in hessian.blocks[i]], generator)
    return power(step, start, iterations, tolerance)


def coupling(
    hessian: Hessian, i: int, j: int, generator: torch.Generator, iterations: int, tolerance: float
) -> Estimate:
    """||H_ij||_2 of two different blocks: v -> H_ij v -> H_ji H_ij v.

    Raises:
        ValueError: when i = j.
    """
    if i == j:
        raise ValueError(f"i=j={i} is not possible: the norm of a diagonal block is `curvature`")

    def step(v: Vector) -> tuple[float, Vector]:
        across = unit(hessian.product([i], {j: v})[0])
        back = hessian.product([j], {i: across})[0]
        return norm(back), unit(back)

    return power(step, draw(hessian.blocks[j], generator), iterations, tolerance)
