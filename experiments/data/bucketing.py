"""Which examples share a batch, and what padding them costs.

A batch is as wide as its longest example, so examples of similar length waste less together. The loss stays exact:
padding comes after the answers, has no label, and causal attention never looks ahead at it.
"""

from collections.abc import Iterable, Iterator, Sequence

import torch

from bcd.checks import require_whole
from experiments.errors import UserError


def groups(lengths: Sequence[int], batch_size: int, seed: int, start: int = 0, bucket: int = 1) -> Iterator[list[int]]:
    """An endless stream of batches, each a list of places in `lengths`.

    Each epoch is a fresh permutation, its last short batch dropped.

    Args:
        lengths: tokens of each example.
        batch_size: examples of a batch.
        seed: of the stream's own generator.
        start: batches to leave out, for a run that goes on; they cost nothing but their permutations.
        bucket: batches that are made together: bucket * batch_size consecutive examples of the permutation are sorted
            by length and cut into batches, which come in a seeded order. 1: batches as the permutation has them.

    Raises:
        UserError: when there are fewer examples than one batch has.
        ValueError: for a bucket that is no whole number of at least 1.
    """
    if len(lengths) < batch_size:
        raise UserError(f"batch_size={batch_size} exceeds the {len(lengths)} training examples")
    require_bucket(bucket)
    generator = torch.Generator().manual_seed(seed)
    whole = len(lengths) // batch_size
    while True:
        permutation = torch.randperm(len(lengths), generator=generator).tolist()[: whole * batch_size]
        if bucket > 1:
            permutation = list(_bucketed(permutation, lengths, batch_size, bucket, generator))
        for i in range(min(start, whole), whole):
            yield permutation[i * batch_size : (i + 1) * batch_size]
        start = max(0, start - whole)


def _bucketed(
    permutation: Sequence[int], lengths: Sequence[int], batch_size: int, bucket: int, generator: torch.Generator
) -> Iterator[int]:
    for first in range(0, len(permutation), bucket * batch_size):
        together = sorted(permutation[first : first + bucket * batch_size], key=lambda i: lengths[i])
        for batch in torch.randperm(len(together) // batch_size, generator=generator).tolist():
            yield from together[batch * batch_size : (batch + 1) * batch_size]


def require_bucket(bucket: object) -> None:
    """Raise ValueError unless `bucket` is a whole number of at least 1."""
    require_whole("data.bucket", bucket, least=1, why="it must be a whole number of batches, at least 1")


def parts(lengths: Sequence[int], count: int) -> list[list[int]]:
    """Places in `lengths` cut into `count` parts of one size, similar lengths together; one part keeps the order."""
    if count == 1:
        return [list(range(len(lengths)))]
    size = len(lengths) // count
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    return [order[i * size : (i + 1) * size] for i in range(count)]


def rows_of(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Places in `lengths` put into rows of at most `room` tokens, each whole: first fit, the longest first.

    >>> rows_of([3, 8, 2, 5], 10)
    [[1, 2], [3, 0]]

    Raises:
        ValueError: for a length that exceeds the room.
    """
    if max(lengths) > room:
        raise ValueError(f"an example of {max(lengths)} tokens does not fit into a row of {room}")
    rows: list[list[int]] = []
    left: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        row = next((row for row, free in enumerate(left) if lengths[i] <= free), len(rows))
        if row == len(rows):
            rows.append([])
            left.append(room)
        rows[row].append(i)
        left[row] -= lengths[i]
    return rows


def padding_waste(
    lengths: Sequence[int], batches: Iterable[Sequence[int]], accumulation: int, room: int | None = None
) -> tuple[int, float]:
    """Tokens of the examples in `batches`, and the share of what is computed that is padding.

        waste = 1 - tokens / sum over forward passes of (examples x longest example)

    Args:
        lengths: tokens of each example.
        batches: lists of places in `lengths`.
        accumulation: forward passes that each batch is cut into.
        room: of the rows that examples are packed into, see `rows_of`; None: a row has one example.
    """
    tokens = computed = 0
    for batch in batches:
        of_batch = [lengths[i] for i in batch]
        tokens += sum(of_batch)
        if room is not None:
            rows = rows_of(of_batch, room)
            computed += len(rows) * max(sum(of_batch[i] for i in row) for row in rows)
            continue
        computed += sum(len(part) * max(of_batch[i] for i in part) for part in parts(of_batch, accumulation))
    return tokens, 1 - tokens / computed
