"""Blocks of vectors and of symmetric matrices, for sizes (d_1, ..., d_D)."""

import itertools
from collections.abc import Sequence

import numpy as np

Array = np.ndarray


def slices(sizes: Sequence[int]) -> list[slice]:
    """Where each block lies in a flat vector.

    >>> slices([1, 2])
    [slice(0, 1, None), slice(1, 3, None)]
    """
    ends = itertools.accumulate(sizes)
    return [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]


def block_norms(matrix: Array, sizes: Sequence[int]) -> Array:
    """||M_ij||_2 of every block: (..., d, d) -> (..., D, D).

    >>> block_norms(np.diag([3.0, 4.0, 5.0]), [1, 2]).tolist()
    [[3.0, 0.0], [0.0, 5.0]]
    """
    parts = slices(sizes)
    rows = [np.stack([np.linalg.norm(matrix[..., a, b], 2, axis=(-2, -1)) for b in parts], axis=-1) for a in parts]
    return np.stack(rows, axis=-2)


def strictly_lower(matrix: Array, sizes: Sequence[int], order: Sequence[int]) -> Array:
    """The strictly lower block triangle, blocks in this order: (..., d, d) -> (..., d, d), of any number type."""
    position = np.empty(len(sizes), dtype=int)
    position[list(order)] = np.arange(len(sizes))
    rank = np.repeat(position, sizes)
    return matrix * (rank[:, None] > rank).astype(int)
