"""The global generators of torch, which libraries draw from."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside the block the global generators start from `seed`; after it they are as before.

    Those of the CPU and of the current GPU; by default torch would make contexts on all GPUs, to restore all.
    """
    with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_available() else []):
        torch.manual_seed(seed)
        yield
