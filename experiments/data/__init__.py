"""Data: examples with a prompt and an answer, and batches of them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from experiments.data.bucketing import groups, parts, rows_of

IGNORED = -100
"""Label of a token that the loss leaves out (torch.nn.functional.cross_entropy's default ignore_index)."""


@dataclass(frozen=True)
class Example:
    """One question with its answer, tokenized.

    Attributes:
        prompt: token ids; of a dialogue, all that comes before its last answer.
        answer: token ids; the last is the end-of-turn token.
        score: answer text -> True when it is right.
        whole: whether the loss is on the prompt too.
        earlier: first place and place after the last of each stretch of the prompt that the loss is on too, such as
            the earlier answers of a dialogue.
    """

    prompt: list[int]
    answer: list[int]
    score: Callable[[str], bool]
    whole: bool = False
    earlier: tuple[tuple[int, int], ...] = ()

    @property
    def length(self) -> int:
        """Tokens of the whole example."""
        return len(self.prompt) + len(self.answer)

    @property
    def trained(self) -> list[tuple[int, int]]:
        """First place and place after the last of each stretch that the loss is on; the last one ends the example."""
        return [(0, self.length)] if self.whole else [*self.earlier, (len(self.prompt), self.length)]


@dataclass(frozen=True)
class Dataset:
    """Examples to train on, and held-out ones (the validation part) that training never sees.

    Attributes:
        train: examples to train on.
        heldout: examples of the validation part.
        about: what was counted while loading, numbers by name.
    """

    train: list[Example]
    heldout: list[Example]
    about: dict[str, int] = field(default_factory=dict)


class DataSource(Protocol):
    """What the training loop asks of a data set."""

    @property
    def train_size(self) -> int: ...

    @property
    def heldout_size(self) -> int: ...

    @property
    def max_tokens(self) -> int: ...  # of the longest example to train on

    @property
    def tokens_per_example(self) -> int: ...  # a rough figure, for estimates of time

    @property
    def bucket(self) -> int: ...  # see `experiments.data.bucketing.groups`

    @property
    def asks(self) -> bool: ...  # whether every example has a prompt, to which an answer can be generated

    @property
    def room(self) -> int | None: ...  # tokens of a row that several examples share; None: each has its own row

    @property
    def test(self) -> bool: ...  # whether the final evaluation reads the test part

    def fingerprint(self) -> str:
        """SHA-256 of the texts to train on and to validate with; the test part is not read for it."""
        ...

    def texts(self) -> dict[str, list[tuple[str, str]]]:
        """Prompt and answer of every example: those to train on by the name train, the others by heldout."""
        ...

    def load(self, tokenizer: Any) -> Dataset:
        """Tokenized examples, none of them truncated.

        Raises:
            UserError: when there are none or the rows are wrong.
        """
        ...

    def load_test(self, tokenizer: Any) -> list[Example]:
        """The test part, disjoint from the others. Called once, after training."""
        ...


@dataclass(frozen=True)
class Batch:
    """Examples that go forward together, right-padded.

    Attributes:
        tokens: token ids of shape (examples, tokens), of packed examples (rows, tokens).
        labels: of the same shape, `IGNORED` where the loss leaves a token out; not shifted.
        positions: of the same shape, the place of each token in its example, where a row has several of them: they
            begin anew at 0, and attention stays inside an example. None: a row has one example.
    """

    tokens: Tensor
    labels: Tensor
    positions: Tensor | None = None

    @property
    def terms(self) -> int:
        """Tokens that the loss is a mean over."""
        return int((self.labels[:, 1:] != IGNORED).sum())

    def parts(self, count: int) -> "list[Batch]":
        """The batch in `count` parts with the same number of examples, each no wider than its longest example.

        Packed examples are cut by rows into at most `count` parts, as even as the rows allow.

        Raises:
            ValueError: when the examples cannot be divided so.
        """
        if self.positions is not None:
            tensors = (self.tokens, self.labels, self.positions)
            cuts = (tensor.tensor_split(min(count, len(self.tokens))) for tensor in tensors)
            return [Batch(*part) for part in zip(*cuts, strict=True)]
        if len(self.tokens) % count:
            raise ValueError(f"{len(self.tokens)} examples cannot be divided into {count} parts")
        if count == 1:
            return [self]
        # The last token of an example has a label, so this is its length.
        lengths = [int(row.nonzero()[-1]) + 1 for row in (self.labels != IGNORED)]
        cut = [(places, max(lengths[i] for i in places)) for places in parts(lengths, count)]
        return [Batch(self.tokens[places, :width], self.labels[places, :width]) for places, width in cut]

    def to(self, device: torch.device) -> "Batch":
        positions = None if self.positions is None else self.positions.to(device)
        return Batch(self.tokens.to(device), self.labels.to(device), positions)


def collate(examples: Sequence[Example], pad: int) -> Batch:
    """Pad `examples` to the longest of them; tokens have a label where `Example.trained` says so."""
    rows = [example.prompt + example.answer for example in examples]
    width = max(len(row) for row in rows)
    tokens = torch.full((len(rows), width), pad)
    labels = torch.full((len(rows), width), IGNORED)
    for i, (row, example) in enumerate(zip(rows, examples, strict=True)):
        tokens[i, : len(row)] = torch.tensor(row)
        for first, end in example.trained:
            labels[i, first:end] = torch.tensor(row[first:end])
    return Batch(tokens, labels)


def collate_packed(examples: Sequence[Example], pad: int, room: int) -> Batch:
    """Put `examples` into rows of at most `room` tokens, see `rows_of`, with the labels that `collate` gives them.

    The first token of an example has none: alone it is predicted from nothing, so here it must not be either.
    """
    rows = [[examples[i] for i in row] for row in rows_of([example.length for example in examples], room)]
    width = max(sum(example.length for example in row) for row in rows)
    shape = (len(rows), width)
    tokens, labels, positions = (
        torch.full(shape, pad),
        torch.full(shape, IGNORED),
        torch.zeros(shape, dtype=torch.long),
    )
    for i, row in enumerate(rows):
        begin = 0
        for example in row:
            ids = torch.tensor(example.prompt + example.answer)
            tokens[i, begin : begin + len(ids)] = ids
            positions[i, begin : begin + len(ids)] = torch.arange(len(ids))
            for first, end in example.trained:
                labels[i, begin + max(first, 1) : begin + end] = ids[max(first, 1) : end]
            begin += len(ids)
    return Batch(tokens, labels, positions)


def batches(
    examples: Sequence[Example],
    batch_size: int,
    pad: int,
    seed: int,
    start: int = 0,
    bucket: int = 1,
    room: int | None = None,
) -> Iterator[Batch]:
    """The batches of `experiments.data.bucketing.groups`, packed where there is `room`; the same for every method."""
    for places in groups([example.length for example in examples], batch_size, seed, start, bucket):
        of_batch = [examples[i] for i in places]
        yield collate(of_batch, pad) if room is None else collate_packed(of_batch, pad, room)
