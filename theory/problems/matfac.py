"""Regularised matrix factorisation: two layers of a linear network, nonconvex and not smooth globally."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from theory.numbers import dot
from theory.problems.certified import OUTWARD, Certified
from theory.problems.family import Family
from theory.problems.problem import Array
from theory.problems.validation import at_least, block_sizes, choice, positive_integer

SLACK = 1.2
"""Squared radius of C in units of that of the ball that certainly contains the sublevel set of x^0."""


class MatrixFactorisation(Certified):
    """f(U, V) = ||UV' - M||^2/2 + lam (||U||^2 + ||V||^2)/2, U (p, r), V (q, r), on a ball C.

    x = (columns of U, columns of V). C = {||x||^2 <= rho^2}, rho^2 = 1.2 * 2 f(x^0)/lam: f(x) <= f(x^0) implies
    ||x||^2 <= 2 f(x^0)/lam, and a descent step from there stays in C, as along it the descent lemma gives f <= f(x^0)
    for as long as the segment is in C.

    With E = UV' - M, the second derivative along (P, Q) is ||PV' + UQ'||^2 + 2 <E, PQ'> + lam ||(P, Q)||^2, and
    ||U|| ||V|| <= rho^2/2, so ||E||_2 <= e = rho^2/2 + ||M||_2. Hence L <= rho^2 + e + lam and mu >= lam - e; blocks
    U and V: L_i <= rho^2 + lam, L_UV <= rho^2/2 + e; columns: u_k, u_l have ||v_k|| ||v_l|| <= rho^2/2, and u_k, v_l
    too, plus e if k = l. All are attained on C for a suitable M.
    f* = sum_k of min_s (s - sigma_k)^2/2 + lam s over s >= 0 for k <= r (at s = max(sigma_k - lam, 0)), and
    sigma_k^2/2 for k > r: ||U||^2 + ||V||^2 >= 2 ||UV'||_* and von Neumann's trace inequality.

    f is rational.

    Args:
        shape: (p, q) of M.
        rank: r.
        lam: > 0.
        num_blocks: 1, 2 (U and V) or 2r (columns).
        seed: for M (rank r plus noise, ||M||_2 = 1) and the start (normal, entries of size 1/2).

    Raises:
        ValueError: when an argument is outside its range.
    """

    data = ("target", "lam")

    def __init__(self, *, num_blocks: int, shape: Sequence[int], rank: int, lam: float, seed: int = 0) -> None:
        if isinstance(shape, int | float | str) or len(shape) != 2:
            raise ValueError(f"shape={shape!r} is not possible: a matrix has two sizes")
        p, q = block_sizes(shape)
        r = self.rank = positive_integer("rank", rank)
        choice("num_blocks", num_blocks, sorted({1, 2, 2 * r}))
        self.lam = at_least("lam", lam, 0, strict=True)
        generator = np.random.default_rng(seed)
        signal = generator.standard_normal((p, r)) @ generator.standard_normal((r, q))
        target = signal + 0.3 * generator.standard_normal((p, q))
        self.target = target / np.linalg.norm(target, 2)
        start = generator.standard_normal((p + q) * r) / 2
        norm = float(np.linalg.norm(self.target, 2))
        square = SLACK * 2 * float(self.value(start)) / lam
        self.limit = square
        residual = square / 2 + norm
        if num_blocks == 1:
            sizes, L_ij = [(p + q) * r], np.array([[square + residual + lam]])
        elif num_blocks == 2:
            sizes = [p * r, q * r]
            L_ij = np.array([[square + lam, square / 2 + residual]] * 2)
            L_ij[1] = L_ij[1, ::-1]
        else:
            sizes = [p] * r + [q] * r
            same = np.eye(r, dtype=bool)
            diagonal, other = np.where(same, square + lam, square / 2), np.full((r, r), square / 2) + residual * same
            L_ij = np.block([[diagonal, other], [other, diagonal]])
        self.certify(
            parameters={
                "num_blocks": num_blocks,
                "block_sizes": sizes,
                "shape": [p, q],
                "rank": rank,
                "lam": lam,
                "seed": seed,
            },
            sizes=sizes,
            start=start,
            L=square + residual + lam,
            mu=lam - residual,
            L_ij=L_ij,
            f_star=self._minimum(),
            convex=False,
        )
        self._target = torch.from_numpy(self.target)

    def _minimum(self) -> float:
        sigma = np.linalg.svd(self.target, compute_uv=False)
        shrunk = np.maximum(sigma[: self.rank] - self.lam, 0)
        terms = (shrunk - sigma[: self.rank]) ** 2 / 2 + self.lam * shrunk
        return (float(terms.sum()) + float(sigma[self.rank :] @ sigma[self.rank :]) / 2) * (1 - OUTWARD)

    def _factors(self, x: Array) -> tuple[Array, Array]:
        """U' (..., r, p) and V' (..., r, q)."""
        p, q = self.target.shape
        first, second = x[..., : p * self.rank], x[..., p * self.rank :]
        return (
            first.reshape(*first.shape[:-1], self.rank, p),
            second.reshape(*second.shape[:-1], self.rank, q),
        )

    def value(self, x: Array) -> Array:
        U, V = self._factors(x)
        error = np.swapaxes(U, -1, -2) @ V - self.target
        return ((error * error).sum(axis=(-1, -2)) + self.lam * dot(x, x)) / 2

    def gradient(self, x: Array) -> Array:
        U, V = self._factors(x)
        error = np.swapaxes(U, -1, -2) @ V - self.target
        by_u, by_v = V @ np.swapaxes(error, -1, -2), U @ error
        flat = [part.reshape(*x.shape[:-1], -1) for part in (by_u, by_v)]
        return np.concatenate(flat, axis=-1) + self.lam * x

    def decrease(self, x: Array, y: Array) -> Array:
        """<E - F, E + F>/2 of the two errors, E - F = (U - Y)V' + Y(V - Z)'."""
        (U, V), (Y, Z), (dU, dV) = self._factors(x), self._factors(y), self._factors(x - y)
        change = np.swapaxes(dU, -1, -2) @ V + np.swapaxes(Y, -1, -2) @ dV
        both = np.swapaxes(U, -1, -2) @ V + np.swapaxes(Y, -1, -2) @ Z - 2 * self.target
        return ((change * both).sum(axis=(-1, -2)) + self.lam * dot(x - y, x + y)) / 2

    def gradient_scale(self, x: Array) -> Array:
        reach = np.linalg.norm(x, axis=-1)
        return reach * (reach**2 / 2 + np.linalg.norm(self.target) + self.lam)

    def value_scale(self, x: Array) -> Array:
        square = dot(x, x)
        return (square / 2 + np.linalg.norm(self.target)) ** 2 / 2 + self.lam * square / 2

    def inside(self, x: Array) -> Array:
        return np.asarray(dot(x, x) <= self.limit, dtype=bool)

    def objective(self, blocks: Sequence[Tensor]) -> Tensor:
        x = torch.cat(list(blocks))
        p, q = self._target.shape
        U, V = x.split([p * self.rank, q * self.rank])
        error = U.reshape(self.rank, p).T @ V.reshape(self.rank, q) - self._target
        return ((error**2).sum() + self.lam * (x @ x)) / 2


@dataclass(frozen=True, kw_only=True)
class MatrixFactorisationFamily(Family):
    """Sweep over `MatrixFactorisation`.

    Attributes:
        num_blocks: values of the number of blocks.
        lam: values of lam.
        shape: (p, q), one pair for all instances and not an axis.
        rank: r.
    """

    problem = MatrixFactorisation
    num_blocks: Sequence[int]
    lam: Sequence[float]
    shape: tuple[int, int]
    rank: int
