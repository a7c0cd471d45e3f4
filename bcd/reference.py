"""The published algorithm line by line, without classes and without torch: the oracle of the tests.

Transcribed from Algorithm 1 of BAdam (arXiv 2404.02827) over plain lists of numbers. The number type is
whatever the start point holds: float (IEEE float64), fractions.Fraction for SGD's rule, or a multi-precision
type for Adam's rule when `sqrt` of that type is given.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

Number = Any  # float, Fraction, mpmath.mpf, ...: anything with field arithmetic
Vector = list[Number]


def block_adam(
    gradient: Callable[[int, list[Vector]], Vector],
    start: Sequence[Vector],
    blocks: Iterable[int],
    *,
    inner_steps: int,
    lr: Number,
    beta1: Number = 0.9,
    beta2: Number = 0.999,
    eps: Number = 1e-8,
    weight_decay: Number = 0.0,
    sqrt: Callable[[Number], Number] = math.sqrt,
) -> list[list[Vector]]:
    """BAdam: K Adam steps with fresh moments on each block of `blocks`; returns the iterate after every step.

    gradient: (i, x) -> gradient of block i at x.          blocks: the block index of each visit, in order.
    """
    x = [list(block) for block in start]
    iterates = []
    for i in blocks:
        m = [0 * number for number in x[i]]
        v = [0 * number for number in x[i]]
        for k in range(1, inner_steps + 1):
            g = gradient(i, x)
            for c in range(len(x[i])):
                g_c = g[c] + weight_decay * x[i][c]
                m[c] = beta1 * m[c] + (1 - beta1) * g_c
                v[c] = beta2 * v[c] + (1 - beta2) * g_c * g_c
                m_hat = m[c] / (1 - beta1**k)
                v_hat = v[c] / (1 - beta2**k)
                x[i][c] = x[i][c] - lr * m_hat / (sqrt(v_hat) + eps)
            iterates.append([list(block) for block in x])
    return iterates


def block_sgd(
    gradient: Callable[[int, list[Vector]], Vector],
    start: Sequence[Vector],
    blocks: Iterable[int],
    *,
    inner_steps: int,
    lr: Number,
    weight_decay: Number = 0,
) -> list[list[Vector]]:
    """BCD with SGD's rule: K gradient steps on each block of `blocks`; returns the iterate after every step."""
    x = [list(block) for block in start]
    iterates = []
    for i in blocks:
        for _ in range(inner_steps):
            g = gradient(i, x)
            x[i] = [x_c - lr * (g_c + weight_decay * x_c) for x_c, g_c in zip(x[i], g, strict=True)]
            iterates.append([list(block) for block in x])
    return iterates
