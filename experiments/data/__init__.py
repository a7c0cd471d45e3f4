"""Data: examples with a prompt and an answer, and batches of them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

IGNORED = -100
"""Label of a token that the loss leaves out (torch.nn.functional.cross_entropy's default ignore_index)."""


@dataclass(frozen=True)
class Example:
    """One question with its answer, tokenized.

    prompt, answer: token ids; the answer ends with the end-of-turn token.
    score: answer text -> True when it is right.
    """

    prompt: list[int]
    answer: list[int]
    score: Callable[[str], bool]


@dataclass(frozen=True)
class Dataset:
    """Examples to train on, and held-out examples that training never sees."""

    train: list[Example]
    heldout: list[Example]


class DataSource(Protocol):
    """What the training loop asks of a data set."""

    train_size: int
    heldout_size: int
    tokens_per_example: int  # a rough upper figure, for estimates of time

    def fingerprint(self) -> str:
        """SHA-256 of the texts of all examples."""
        ...

    def load(self, tokenizer: Any) -> Dataset:
        """Tokenized examples. Raises UserError when one would have to be truncated."""
        ...


@dataclass(frozen=True)
class Batch:
    """Right-padded token ids and labels, both of shape (examples, tokens); labels are not shifted."""

    tokens: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> "Batch":
        return Batch(self.tokens.to(device), self.labels.to(device))


def collate(examples: Sequence[Example], pad: int) -> Batch:
    """Pad `examples` to the longest of them; only answer tokens have a label."""
    rows = [example.prompt + example.answer for example in examples]
    width = max(len(row) for row in rows)
    tokens = torch.full((len(rows), width), pad)
    labels = torch.full((len(rows), width), IGNORED)
    for i, (row, example) in enumerate(zip(rows, examples, strict=True)):
        tokens[i, : len(row)] = torch.tensor(row)
        labels[i, len(example.prompt) : len(row)] = torch.tensor(example.answer)
    return Batch(tokens, labels)


def batches(examples: Sequence[Example], batch_size: int, pad: int, seed: int, start: int = 0) -> Iterator[Batch]:
    """An endless stream of batches: each epoch is a fresh permutation of `examples`, the last short batch dropped.

    seed: of the stream's own generator; the same seed gives every method the same data in the same order.
    start: batches to leave out, for a run that goes on; they cost nothing but their permutations.
    """
    generator = torch.Generator().manual_seed(seed)
    whole = len(examples) // batch_size
    while True:
        permutation = torch.randperm(len(examples), generator=generator).tolist()
        for i in range(min(start, whole), whole):
            yield collate([examples[j] for j in permutation[i * batch_size : (i + 1) * batch_size]], pad)
        start = max(0, start - whole)
