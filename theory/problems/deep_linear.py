"""Deep linear network: one block a layer, nonconvex and not smooth globally."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from theory.numbers import dot
from theory.problems.certified import OUTWARD, Certified
from theory.problems.family import Family
from theory.problems.problem import Array
from theory.problems.validation import at_least, positive_integer

SLACK = 1.2
"""Squared radius of C in units of that of the ball that certainly contains the sublevel set of x^0."""


def largest_monomial(exponents: Sequence[int], radius: float) -> float:
    """max prod_k p_k^e_k over p >= 0, ||p|| <= radius: at p_k = radius sqrt(e_k/N), N = sum e_k (weighted AM-GM).

    >>> round(largest_monomial([1, 1], 2.0), 9), largest_monomial([0], 2.0)
    (2.0, 1.0)
    """
    total = sum(exponents)
    return math.prod(((radius * math.sqrt(e / total)) ** e for e in exponents if e), start=1.0)


class DeepLinear(Certified):
    """f(W_1, ..., W_D) = ||W_D ... W_1 - M||^2/2 + lam sum_k ||W_k||^2/2, W_k (w, w), on a ball C.

    x = (W_1, ..., W_D) by rows. C = {||x||^2 <= rho^2}, rho^2 = 1.2 * 2 f(x^0)/lam: f(x) <= f(x^0) implies
    ||x||^2 <= 2 f(x^0)/lam, and a descent step from there stays in C, as along it the descent lemma gives f <= f(x^0)
    for as long as the segment is in C.

    With p_k = ||W_k||, sum p_k^2 <= rho^2 (`largest_monomial` has the extremes):
      L_i <= prod_{k != i} p_k^2 + lam,
      L_ij <= p_i p_j prod_{k != i,j} p_k^2 + S_ij, S_ij = (prod_k p_k + ||M||_2) prod_{k != i,j} p_k,
    the first part from the square of the first derivative, which is >= 0, so that mu >= lam - ||(S_ij)_{i != j}||_2.
    f* >= sum_k min_s (s - sigma_k)^2/2 + (lam D/2) s^{2/D} over 0 <= s <= sigma_k, by sum_k ||W_k||^2 >=
    D sum_k s_k^{2/D} for the singular values s of the product (Horn) and von Neumann's trace inequality; the minima
    by cells, with the first term at the upper and the second at the lower end.

    f is rational.

    Args:
        num_blocks: D >= 2.
        width: w.
        lam: > 0.
        seed: for M (||M||_2 = 1) and the start (I + normal of size 1/2).

    Raises:
        ValueError: when an argument is outside its range.
    """

    data = ("target", "lam")

    def __init__(self, *, num_blocks: int, width: int, lam: float, seed: int = 0) -> None:
        D, w = positive_integer("num_blocks", num_blocks), positive_integer("width", width)
        if D < 2:
            raise ValueError(f"num_blocks={num_blocks!r} is not possible: a deep network has at least 2 layers")
        self.depth, self.width, self.lam = D, w, at_least("lam", lam, 0, strict=True)
        generator = np.random.default_rng(seed)
        target = generator.standard_normal((w, w))
        self.target = target / np.linalg.norm(target, 2)
        norm = float(np.linalg.norm(self.target, 2))  # 1 up to rounding
        start = (np.eye(w) + generator.standard_normal((D, w, w)) / 2).ravel()
        self.limit = SLACK * 2 * float(self.value(start)) / lam
        rho = math.sqrt(self.limit)
        layer = largest_monomial([2] * (D - 1), rho) + lam
        first = largest_monomial([1, 1] + [2] * (D - 2), rho)
        second = first + norm * largest_monomial([1] * (D - 2), rho)
        off = 1 - np.eye(D)
        self.certify(
            parameters={"num_blocks": D, "block_sizes": [w * w] * D, "width": w, "lam": lam, "seed": seed},
            sizes=[w * w] * D,
            start=start,
            mu=lam - second * (D - 1),
            L_ij=layer * np.eye(D) + (first + second) * off,
            f_star=self._minimum(),
            convex=False,
        )
        self._target = torch.from_numpy(self.target)

    def _minimum(self, cells: int = 20000) -> float:
        sigma = np.linalg.svd(self.target, compute_uv=False)[:, None]
        ends = sigma * np.linspace(0, 1, cells + 1)
        low, high = ends[:, :-1], ends[:, 1:]
        terms = (sigma - high) ** 2 / 2 + self.lam * self.depth / 2 * low ** (2 / self.depth)
        return float(terms.min(axis=1).sum()) * (1 - OUTWARD)

    def _layers(self, x: Array) -> list[Array]:
        shaped = x.reshape(*x.shape[:-1], self.depth, self.width, self.width)
        return [shaped[..., k, :, :] for k in range(self.depth)]

    def _products(self, layers: Sequence[Array]) -> list[Array]:
        """W_1, W_2 W_1, ..., W_D ... W_1."""
        return list(itertools.accumulate(layers, lambda before, W: W @ before))

    def value(self, x: Array) -> Array:
        error = self._products(self._layers(x))[-1] - self.target
        return ((error * error).sum(axis=(-1, -2)) + self.lam * dot(x, x)) / 2

    def gradient(self, x: Array) -> Array:
        layers = self._layers(x)
        before = self._products(layers)
        back = before[-1] - self.target  # (W_D ... W_{k+1})' E
        parts = []
        for k in reversed(range(self.depth)):
            parts.insert(0, back @ np.swapaxes(before[k - 1], -1, -2) if k else back)
            back = np.swapaxes(layers[k], -1, -2) @ back
        return np.stack(parts, axis=-3).reshape(x.shape) + self.lam * x

    def decrease(self, x: Array, y: Array) -> Array:
        """<E - F, E + F>/2 of the two errors; the products differ by dP_k = dW_k P_{k-1}(x) + W_k(y) dP_{k-1}."""
        before, other = self._products(self._layers(x)), self._layers(y)
        steps = self._layers(x - y)
        change = steps[0]
        for k in range(1, self.depth):
            change = steps[k] @ before[k - 1] + other[k] @ change
        both = before[-1] + self._products(other)[-1] - 2 * self.target
        return ((change * both).sum(axis=(-1, -2)) + self.lam * dot(x - y, x + y)) / 2

    def gradient_scale(self, x: Array) -> Array:
        norms = np.linalg.norm(np.stack(self._layers(x)), axis=(-2, -1))
        others = np.stack([np.delete(norms, k, axis=0).prod(axis=0) for k in range(self.depth)])
        error = norms.prod(axis=0) + np.linalg.norm(self.target)
        return self.depth * np.linalg.norm(others, axis=0) * error + self.lam * np.linalg.norm(x, axis=-1)

    def value_scale(self, x: Array) -> Array:
        norms = np.linalg.norm(np.stack(self._layers(x)), axis=(-2, -1))
        return (norms.prod(axis=0) + np.linalg.norm(self.target)) ** 2 / 2 + self.lam * dot(x, x) / 2

    def inside(self, x: Array) -> Array:
        return np.asarray(dot(x, x) <= self.limit, dtype=bool)

    def objective(self, blocks: Sequence[Tensor]) -> Tensor:
        x = torch.cat(list(blocks))
        product = torch.eye(self.width, dtype=x.dtype)
        for layer in x.reshape(self.depth, self.width, self.width):
            product = layer @ product
        return (((product - self._target) ** 2).sum() + self.lam * (x @ x)) / 2


@dataclass(frozen=True, kw_only=True)
class DeepLinearFamily(Family):
    """Sweep over `DeepLinear`.

    Attributes:
        num_blocks: values of D.
        lam: values of lam.
        width: w.
    """

    problem = DeepLinear
    num_blocks: Sequence[int]
    lam: Sequence[float]
    width: int
