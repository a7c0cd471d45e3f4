"""The floor of stochastic BAdam (Theorem D3): where the mean field vanishes, and where simulated runs stay.

f(x) = x^2/2 in every coordinate, two-point noise of variance 1. Adam's rule acts on every coordinate by itself, so a
vector of d coordinates with independent noise is d independent runs of one variable: one run of bcd gives d samples.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from bcd import Adam, BlockCoordinateDescent, Cyclic
from bcd.blocks import Block, Partition
from theory.bounds.d3 import BETAS, first_order, floor
from theory.mean_field import parts, zero
from theory.noise import TwoPoint

RELAXATIONS = 6
"""Time in which a run forgets its start, in units of 1/alpha steps, besides the time that it needs to the floor."""


def predicted(chances: Sequence[float], steps: Sequence[int], eps: float) -> dict[str, Any]:
    """|g*|/sigma, its lower bound c_K, and the first-order h_K, for every p."""
    return {
        "inner_steps": list(steps),
        "eps": eps,
        "zero": {f"{p:g}": [zero(TwoPoint.of(p, 1.0), K, BETAS, eps) for K in steps] for p in chances},
        "bound": {f"{p:g}": [floor(p, K) for K in steps] for p in chances},
        "first_order": {f"{p:g}": [first_order(p, K) for K in steps] for p in chances},
    }


def simulate(p: float, inner_steps: int, alpha: float, *, eps: float, runs: int, seed: int) -> tuple[float, float]:
    """Mean of the gradient x at the starts of visits, over the second half of `runs` independent runs from 0.

    Returns:
        The mean and its standard error over the runs.

    Raises:
        ValueError: when p or alpha is not possible.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha={alpha!r} is not possible: a simulated step size is a number in (0, 1)")
    noise = TwoPoint.of(p, 1.0)
    (up, down), (chance, _) = noise.outcomes(torch.ones(1, dtype=torch.float64).numpy())
    generator = torch.Generator().manual_seed(seed)
    x = torch.nn.Parameter(torch.zeros(runs, dtype=torch.float64))
    optimizer = BlockCoordinateDescent(
        Partition((Block("x", {"x": x}),), {}, {}),
        rule=Adam(betas=BETAS, eps=eps),
        order=Cyclic(),
        inner_steps=inner_steps,
        lr=alpha,
    )
    positive, negative = parts(0.0, noise, inner_steps, BETAS, eps)
    distance = zero(noise, inner_steps, BETAS, eps)
    arrival = distance * inner_steps / (negative - positive) if distance else 0.0
    visits = max(2, round((RELAXATIONS + 2 * arrival) / alpha / inner_steps))
    total, counted = torch.zeros_like(x.detach()), 0
    for visit in range(visits):
        if visit >= visits // 2:
            total, counted = total + x.detach(), counted + 1
        for _ in range(inner_steps):
            draw = torch.rand(runs, generator=generator, dtype=torch.float64)
            x.grad = x.detach() + torch.where(draw < chance, up, down)
            optimizer.step()
    means = total / counted
    return float(means.mean()), float(means.std() / runs**0.5)


def simulated(
    alphas: Mapping[str, Sequence[float]], steps: Sequence[int], *, eps: float, runs: int
) -> list[dict[str, float]]:
    """`simulate` for every p, K and alpha.

    Args:
        alphas: p -> step sizes.
    """
    cases = [(float(p), K, alpha) for p, chosen in alphas.items() for K in steps for alpha in chosen]
    rows = []
    for seed, (p, K, alpha) in enumerate(cases):
        mean, error = simulate(p, K, alpha, eps=eps, runs=runs, seed=seed)
        rows.append({"p": p, "inner_steps": K, "alpha": alpha, "mean": mean, "error": error})
    return rows
