"""Questions with answers from rows of text: instruction data, GSM8K, MATH and whatever has one of the schemas."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bcd.checks import require_choice, require_flag, require_whole
from experiments.configuration import input_path
from experiments.data import Dataset, Example
from experiments.data.bucketing import require_bucket
from experiments.data.chat import system_text, tokenize
from experiments.data.schemas import Schema, Text
from experiments.data.source import Source
from experiments.data.splits import at_most, first, identity, require_shares, split
from experiments.errors import UserError
from records import digest

BYTES_PER_TOKEN = 3  # of mathematical English, roughly; for estimates of time only


@dataclass(frozen=True)
class Parts:
    """Texts of the three parts.

    Attributes:
        train: to train on.
        heldout: of the validation part.
        test: None when it is a split of its own.
        excluded: left out of train.
        empty: rows without a prompt or an answer, left out of all parts.
    """

    train: list[Text]
    heldout: list[Text]
    test: list[Text] | None
    excluded: int
    empty: int


class Supervised:
    """Rows of a source under a schema, in three disjoint parts, see `experiments.data.splits.split`.

    Args:
        source: where the rows are.
        schema: which fields are prompt and answer.
        validation_share: of the train split, held out for the loss before and after training.
        test_share: of the train split, for the final test. 0: the source has a split of the name test, which is not
            opened before the final evaluation.
        max_tokens: longer examples, prompt and answer together, are left out of train and validation and counted;
            nothing is truncated, and nothing is left out of the test part.
        test: whether the final evaluation reads the test part; runs with a seed for tuning must not.
        train_size: the first n of the part to train on; None: all of it.
        heldout_size: the first n of the validation part; None: all of it.
        test_size: the first n of the test part; None: all of it.
        split_seed: of the parts, the same for all runs that are compared.
        loss_on: "answers", or "all" tokens, as a model that is trained from scratch wants it.
        system: system message of every prompt; None keeps the chat template's own.
        bucket: see `experiments.data.bucketing.groups`.
        exclude: file of `experiments.overlap`, one `identity` of a prompt a line, that are left out of train.

    Raises:
        ValueError: for impossible values.
        UserError: from reading, when data are missing or not as the schema says.
    """

    asks = True
    room = None  # every example has a row of its own

    def __init__(
        self,
        source: Source,
        schema: Schema,
        *,
        validation_share: float,
        test_share: float,
        max_tokens: int,
        test: bool = False,
        train_size: int | None = None,
        heldout_size: int | None = None,
        test_size: int | None = None,
        split_seed: int = 0,
        loss_on: str = "answers",
        system: str | None = None,
        bucket: int = 1,
        exclude: str | None = None,
    ) -> None:
        require_shares(validation_share, test_share)
        require_bucket(bucket)
        for name, value in (("train_size", train_size), ("heldout_size", heldout_size), ("test_size", test_size)):
            require_whole(f"data.{name}", value, least=1, or_none=True)
        require_whole("data.max_tokens", max_tokens, least=1)
        require_flag("data.test", test)
        require_choice("data.loss_on", loss_on, ("answers", "all"))
        self.source, self.schema, self.loss_on = source, schema, loss_on
        self.validation_share, self.test_share, self.split_seed = validation_share, test_share, split_seed
        self._sizes = (train_size, heldout_size, test_size)
        self.test, self.max_tokens, self.bucket, self.exclude = test, max_tokens, bucket, exclude
        self.system = system_text(system)

    def _parts(self) -> Parts:
        rows = self.source.rows("train", self.schema.fields, self.schema.optional)
        excluded = _identities(self.exclude) if self.exclude is not None else frozenset()
        shares = (self.validation_share, self.test_share)
        # rows of one reading are one object, which the cache of `read_file` keeps
        parts = _split(_Rows(rows), self.schema, *shares, self.split_seed, excluded)
        if self.exclude is not None and not parts.excluded:
            raise UserError(f"data.exclude={self.exclude} names no example of {self.source.name('train')}")
        train_size, heldout_size, test_size = self._sizes
        return Parts(
            first(parts.train, train_size, "train_size"),
            at_most(parts.heldout, heldout_size, "heldout_size", f"validation_share={self.validation_share}"),
            at_most(parts.test, test_size, "test_size", f"test_share={self.test_share}")
            if parts.test is not None and self.test
            else parts.test,
            parts.excluded,
            parts.empty,
        )

    @property
    def train_size(self) -> int:
        return len(self._parts().train)

    @property
    def heldout_size(self) -> int:
        return len(self._parts().heldout)

    @property
    def tokens_per_example(self) -> int:
        train = self._parts().train
        mean = sum(len(text.prompt.encode()) + len(text.answer.encode()) for text in train) / len(train)
        return min(self.max_tokens, round(mean / BYTES_PER_TOKEN) + 16)

    def texts(self) -> dict[str, list[tuple[str, str]]]:
        parts = self._parts()
        named = {"train": parts.train, "heldout": parts.heldout}
        return {name: [(text.prompt, text.answer) for text in part] for name, part in named.items()}

    def fingerprint(self) -> str:
        return digest(list(self.texts().values()))

    def load(self, tokenizer: Any) -> Dataset:
        parts = self._parts()
        counted = {"train_examples": parts.train, "heldout_examples": parts.heldout}
        short = {name: self._short(self._examples(texts, tokenizer), name) for name, texts in counted.items()}
        about = {name: len(examples) for name, examples in short.items()}
        too_long = len(parts.train) + len(parts.heldout) - sum(about.values())
        about |= {"too_long": too_long, "empty": parts.empty, "excluded": parts.excluded}
        return Dataset(short["train_examples"], short["heldout_examples"], about)

    def load_test(self, tokenizer: Any) -> list[Example]:
        test = self._parts().test
        if test is None:
            rows = self.source.rows("test", self.schema.fields, self.schema.optional)
            _, _, ordered = split([self.schema.text(row) for row in rows], _prompt, 0, 1, self.split_seed)
            test = at_most(ordered, self._sizes[2], "test_size", "the split of the name test")
        return self._examples(test, tokenizer)

    def _examples(self, texts: Sequence[Text], tokenizer: Any) -> list[Example]:
        pairs = tokenize(tokenizer, self.system, [(text.prompt, text.answer) for text in texts])
        return [
            Example(prompt, answer, functools.partial(self._right, text.answer), self.loss_on == "all")
            for (prompt, answer), text in zip(pairs, texts, strict=True)
        ]

    def _right(self, truth: str, answer: str) -> bool:
        return self.schema.right(answer, truth)

    def _short(self, examples: list[Example], name: str) -> list[Example]:
        short = [example for example in examples if example.length <= self.max_tokens]
        if not short:
            raise UserError(
                f"{self.source.name('train')}: all {len(examples)} {name.replace('_', ' ')} are longer than "
                f"data.max_tokens={self.max_tokens}"
            )
        return short


def _prompt(text: Text) -> str:
    return text.prompt


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows that are equal when they are the same object, so that a split of them can be kept."""

    rows: list[dict[str, Any]]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Rows) and self.rows is other.rows

    def __hash__(self) -> int:
        return id(self.rows)


@functools.lru_cache(maxsize=8)
def _split(rows: _Rows, schema: Schema, validation: float, test: float, seed: int, excluded: frozenset[str]) -> Parts:
    every = [schema.text(row) for row in rows.rows]
    texts = [text for text in every if text.prompt and text.answer]
    train, heldout, held = split(texts, _prompt, validation, test, seed)
    remaining = [text for text in train if identity(text.prompt) not in excluded] if excluded else train
    return Parts(remaining, heldout, held if test else None, len(train) - len(remaining), len(every) - len(texts))


def _identities(path: str) -> frozenset[str]:
    try:
        lines = input_path(path).read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"data.exclude={path} cannot be read: {getattr(error, 'strerror', error)}") from error
    if not lines or any(len(line) != 64 for line in lines):
        raise UserError(f"data.exclude={path} is no list that experiments.overlap wrote: one SHA-256 a line")
    return frozenset(lines)
