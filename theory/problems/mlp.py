"""One hidden layer of tanh with weight decay: the smallest network that is trained block by block."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from theory.numbers import dot, tanh
from theory.problems.certified import OUTWARD, Certified
from theory.problems.family import Family
from theory.problems.problem import Array
from theory.problems.validation import at_least, choice, positive_integer

SLACK = 1.2
"""Squared radius of C in units of that of the ball that certainly contains the sublevel set of x^0."""

BEND = 4 / (3 * math.sqrt(3))
"""max |tanh''|, at tanh^2 = 1/3."""


class MLP(Certified):
    """f(W, v) = (1/2n) sum_s r_s^2 + lam (||W||^2 + ||v||^2)/2, r_s = v'tanh(W a_s) - y_s, W (h, p), on a ball C.

    x = (W by rows, v). C = {||x||^2 <= rho^2}, rho^2 = 1.2 * 2 f(x^0)/lam: f(x) <= f(x^0) implies
    ||x||^2 <= 2 f(x^0)/lam, and a descent step from there stays in C, as along it the descent lemma gives f <= f(x^0)
    for as long as the segment is in C.

    On C with ||v|| <= beta: |v'tanh(W a)| <= beta min(sqrt(h), ||a|| sqrt(rho^2 - beta^2)); |tanh z| <= min(1, |z|);
    R_s = |y_s| + that, for a fixed beta or its maximum (the second factor gives ||a|| rho^2/2). With
    c_2 = max|tanh''| and m(.) the mean over s:
      L_W <= max_beta m(||a||^2 (beta^2 + c_2 beta R)) + lam, by cells of [0, rho]; single rows of W the same;
      L_v <= min(h, rho^2 lambda_max(m(aa'))) + lam;
      rows k != l: m(||a||^2) rho^2/2, as |v_k v_l| <= rho^2/2;
      L_Wv <= m(||a|| (R - |y| + R));
    the parts with R belong to r_s d2 r_s, the others to a positive semidefinite Gauss-Newton matrix, so that
    mu >= lam - || [[max_beta m(||a||^2 c_2 beta R), m(||a|| R)], [m(||a|| R), 0]] ||_2.
    f* by t = ||x||^2: f >= g(t) = lam t/2 + (1/2n) sum_s max(|y_s| - ||a_s|| t/2, 0)^2, convex, from its tangent.

    Args:
        num_blocks: 1, 2 (W and v) or h + 1 (rows of W, and v).
        inputs: p.
        hidden: h.
        samples: n.
        lam: > 0.
        seed: for a_s (normal, E||a||^2 = 1), y_s (sine of a direction) and the start (entries of size 1/2).

    Raises:
        ValueError: when an argument is outside its range.
    """

    data = ("features", "labels", "lam")

    def __init__(self, *, num_blocks: int, inputs: int, hidden: int, samples: int, lam: float, seed: int = 0) -> None:
        p, h = positive_integer("inputs", inputs), positive_integer("hidden", hidden)
        n = self.samples = positive_integer("samples", samples)
        choice("num_blocks", num_blocks, sorted({1, 2, h + 1}))
        self.hidden, self.lam = h, at_least("lam", lam, 0, strict=True)
        generator = np.random.default_rng(seed)
        self.features = generator.standard_normal((n, p)) / math.sqrt(p)
        self.labels = np.sin(2 * self.features @ generator.standard_normal(p))
        self._tensors = torch.from_numpy(self.features), torch.from_numpy(self.labels)
        start = generator.standard_normal(h * p + h) / 2
        self.limit = SLACK * 2 * float(self.value(start)) / lam

        reach = np.linalg.norm(self.features, axis=1)
        rho2, output = self.limit, np.minimum(math.sqrt(h * self.limit), reach * self.limit / 2)
        residual = np.abs(self.labels) + output
        both, second = self._row_curvature()
        cross, cross_second = float((reach * (output + residual)).mean()), float((reach * residual).mean())
        covariance = np.linalg.norm(self.features, 2) ** 2 / n
        head = min(float(h), rho2 * covariance) + lam
        pair = np.array([[both + lam, cross], [cross, head]])
        sizes, L_ij = [h * p, h], pair
        L = float(np.linalg.norm(pair, 2))
        if num_blocks == 1:
            sizes, L_ij = [h * p + h], np.array([[L]])
        elif num_blocks == h + 1 > 2:
            L_ij = np.full((h + 1, h + 1), float((reach**2).mean()) * rho2 / 2)
            L_ij[np.arange(h), np.arange(h)] = both + lam
            L_ij[:h, h] = L_ij[h, :h] = cross
            sizes, L_ij[h, h] = [p] * h + [h], head
        self.certify(
            parameters={
                "num_blocks": num_blocks,
                "block_sizes": sizes,
                "inputs": inputs,
                "hidden": hidden,
                "samples": samples,
                "lam": lam,
                "seed": seed,
            },
            sizes=sizes,
            start=start,
            L=L,
            mu=lam - float(np.linalg.norm([[second, cross_second], [cross_second, 0]], 2)),
            L_ij=L_ij,
            f_star=self._lower_bound(),
            convex=False,
        )

    def _row_curvature(self, cells: int = 500) -> tuple[float, float]:
        """Bounds of max_beta m(||a||^2 (beta^2 + c_2 beta R)) and of its second part; R with the cell's extremes."""
        ends = math.sqrt(self.limit) * np.linspace(0, 1, cells + 1)[:, None]
        reach = np.linalg.norm(self.features, axis=1)
        inner = reach * np.sqrt(np.maximum(self.limit - ends[:-1] ** 2, 0))
        beta = ends[1:]
        second = BEND * beta * (np.abs(self.labels) + beta * np.minimum(math.sqrt(self.hidden), inner))
        both = (reach**2 * (beta**2 + second)).mean(axis=1)
        return float(both.max()), float((reach**2 * second).mean(axis=1).max())

    def _lower_bound(self) -> float:
        reach, y = np.linalg.norm(self.features, axis=1), np.abs(self.labels)
        largest = float(y @ y) / self.samples / self.lam  # g(t) > g(0) beyond

        def residuals(t: float) -> Array:
            return np.maximum(y - reach * t / 2, 0)

        def derivative(t: float) -> float:
            return self.lam / 2 - float((residuals(t) * reach).mean()) / 2

        low, high = 0.0, largest
        for _ in range(60):
            low, high = (low, (low + high) / 2) if derivative((low + high) / 2) > 0 else ((low + high) / 2, high)
        value = self.lam * low / 2 + float((residuals(low) ** 2).mean()) / 2
        downhill = low if derivative(low) > 0 else largest - low  # how far the tangent may fall in [0, largest]
        return max(0.0, (value - abs(derivative(low)) * downhill) * (1 - OUTWARD))

    def _weights(self, x: Array) -> tuple[Array, Array]:
        """W (..., h, p) and v (..., 1, h)."""
        h = self.hidden
        return x[..., :-h].reshape(*x.shape[:-1], h, -1), x[..., None, -h:]

    def _forward(self, x: Array) -> tuple[Array, Array, Array]:
        """tanh(W a_s) (..., n, h), v (..., 1, h) and r (..., n)."""
        W, v = self._weights(x)
        units = tanh(self.features @ np.swapaxes(W, -1, -2))
        return units, v, (units * v).sum(axis=-1) - self.labels

    def value(self, x: Array) -> Array:
        _, _, r = self._forward(x)
        return (dot(r, r) / self.samples + self.lam * dot(x, x)) / 2

    def gradient(self, x: Array) -> Array:
        units, v, r = self._forward(x)
        by_v = (r[..., None] * units).sum(axis=-2)
        by_w = np.swapaxes(r[..., None] * (1 - units * units) * v, -1, -2) @ self.features
        flat = np.concatenate([by_w.reshape(*x.shape[:-1], -1), by_v], axis=-1)
        return flat / self.samples + self.lam * x

    def decrease(self, x: Array, y: Array) -> Array:
        """Differences of squares, with tanh a - tanh b = tanh(a - b)(1 - tanh a tanh b)."""
        (units, v, r), (other, _, r_y) = self._forward(x), self._forward(y)
        dW, dv = self._weights(x - y)
        moved = tanh(self.features @ np.swapaxes(dW, -1, -2)) * (1 - units * other)
        change = (moved * v + other * dv).sum(axis=-1)
        return (dot(change, r + r_y) / self.samples + self.lam * dot(x - y, x + y)) / 2

    def gradient_scale(self, x: Array) -> Array:
        reach = np.linalg.norm(x, axis=-1)
        a, residual = float(np.linalg.norm(self.features, axis=1).max()), self._residual_scale(reach)
        return residual * (math.sqrt(self.hidden) + a * reach) * (1 + a * reach) + self.lam * reach

    def _residual_scale(self, reach: Array) -> Array:
        return reach * math.sqrt(self.hidden) + float(np.abs(self.labels).max())

    def value_scale(self, x: Array) -> Array:
        reach = np.linalg.norm(x, axis=-1)
        return self._residual_scale(reach) ** 2 / 2 + self.lam * reach**2 / 2

    def inside(self, x: Array) -> Array:
        return np.asarray(dot(x, x) <= self.limit, dtype=bool)

    def objective(self, blocks: Sequence[Tensor]) -> Tensor:
        features, labels = self._tensors
        x = torch.cat(list(blocks))
        W, v = x[: -self.hidden].reshape(self.hidden, -1), x[-self.hidden :]
        r = torch.tanh(features @ W.T) @ v - labels
        return ((r @ r) / self.samples + self.lam * (x @ x)) / 2


@dataclass(frozen=True, kw_only=True)
class MLPFamily(Family):
    """Sweep over `MLP`.

    Attributes:
        num_blocks: values of the number of blocks.
        lam: values of lam.
        inputs: p.
        hidden: h.
        samples: n.
    """

    problem = MLP
    num_blocks: Sequence[int]
    lam: Sequence[float]
    inputs: int
    hidden: int
    samples: int
