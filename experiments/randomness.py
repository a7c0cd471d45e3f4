"""Random numbers of a run: a seed for each of its streams, and the global generators of torch, which libraries use."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch

DATA_ORDER = "data order"  # the stream of the batches
DROPOUT = "dropout"  # the stream of the global generators; everything else has a generator of its own


def stream_seed(seed: int, stream: str) -> int:
    """A seed of its own for each named random stream of a run, so that streams never share numbers."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{stream}".encode()).digest()[:4])


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside the block the global generators start from `seed`; after it they are as before.

    Those of the CPU and, where this process uses one, of the current GPU; by default torch would make contexts on all
    GPUs, to restore all.
    """
    with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_initialized() else []):
        torch.manual_seed(seed)
        yield
