"""One's own file of chats, of prompts with completions, or of texts."""

import functools
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from bcd.checks import require_choice, require_flag, require_whole
from experiments.data import Dataset, Example
from experiments.data.bucketing import require_bucket
from experiments.data.chat import system_text, tokenize_dialogue, tokenize_plain
from experiments.data.faults import Faults
from experiments.data.formats import FORMATS, Dialogue, Plain, RowError, convert, detect, extra_keys, used
from experiments.data.reading import Rows, read
from experiments.data.splits import first, identity, require_shares, split, with_least
from experiments.data.supervised import BYTES_PER_TOKEN
from experiments.errors import UserError
from records import digest


@dataclass(frozen=True)
class Item:
    """A row that can be trained on.

    Attributes:
        content: of the row.
        place: file and row, for messages.
    """

    content: Dialogue | Plain
    place: str


@dataclass(frozen=True)
class Parts:
    """Items of the three parts, which share no prompt, and what was counted."""

    train: list[Item]
    heldout: list[Item]
    test: list[Item]
    about: dict[str, int]


class File:
    """Rows of a file, a folder or a hub name, in one of the formats of `experiments.data.formats`.

    Rows that are there twice count once. A part that has a file of its own is that file; rows of train whose prompt is
    in another part are left out, as are those of validation whose prompt is in test. A validation part without a file
    is a share of train, by a hash of the question, so that dialogues that begin alike are in one part.

    Args:
        path: see `experiments.data.reading.read`.
        format: a key of `FORMATS`, or "auto", by the fields that there are.
        loss_on: "answers" of a dialogue or the completion, "last" answer, or "all" tokens; a text is trained on whole.
        system: system message of dialogues without one; None keeps the chat template's own.
        max_tokens: the longest example.
        truncate: what becomes of longer ones, in all parts: "drop" leaves them out, "left" and "right" cut tokens off
            that end; one that keeps no trained token is left out.
        validation_share: of train, where there is no validation file; at least `LEAST` examples.
        test_share: of train, where there is no test file.
        test: whether the final evaluation reads the test part.
        train_size: the first n of the part to train on; None: all of it.
        heldout_size: at most so many of the validation part; None: all of it.
        test_size: at most so many of the test part; None: all of it.
        split_seed: of the parts, the same for all runs that are compared.
        bucket: see `experiments.data.bucketing.groups`.
        packing: put the examples of a batch into rows of at most `max_tokens`, each seeing itself alone; the loss is
            the same up to rounding, with less padding.
        subset: of a data set on the hub.
        revision: of a data set on the hub.

    Raises:
        ValueError: for impossible values.
        UserError: from reading, with a line for each bad row.
    """

    def __init__(
        self,
        path: str | None,
        *,
        format: str = "auto",  # noqa: A002
        loss_on: str = "answers",
        system: str | None = None,
        max_tokens: int = 1024,
        truncate: str = "drop",
        validation_share: float = 0.05,
        test_share: float = 0.0,
        test: bool = False,
        train_size: int | None = None,
        heldout_size: int | None = None,
        test_size: int | None = None,
        split_seed: int = 0,
        bucket: int = 1,
        packing: bool = False,
        subset: str | None = None,
        revision: str | None = None,
    ) -> None:
        require_choice("data.format", format, ("auto", *FORMATS))
        require_choice("data.loss_on", loss_on, ("answers", "last", "all"))
        require_choice("data.truncate", truncate, ("drop", "left", "right"))
        require_shares(validation_share, test_share)
        require_bucket(bucket)
        for name, value in (("train_size", train_size), ("heldout_size", heldout_size), ("test_size", test_size)):
            require_whole(f"data.{name}", value, least=1, or_none=True)
        require_whole("data.max_tokens", max_tokens, least=2)
        require_flag("data.test", test)
        require_flag("data.packing", packing)
        self.path, self.format, self.loss_on, self.truncate = path, format, loss_on, truncate
        self.system, self.max_tokens, self.test, self.bucket = system_text(system), max_tokens, test, bucket
        self.room = max_tokens if packing else None
        self._shares, self._seed = (validation_share, test_share), split_seed
        self._sizes = (train_size, heldout_size, test_size)
        self._hub = (subset, revision)

    @functools.cached_property
    def _parts(self) -> Parts:
        files = read(self.path, *self._hub)
        form = self._form(files)
        about = {"rows": sum(len(rows) for named in files.values() for _, rows in named), "empty": 0, "duplicates": 0}
        items = {part: self._items(files.get(part, ()), form, about) for part in ("train", "validation", "test")}
        if self.test and not items["test"] and not self._shares[1]:
            raise UserError("data.test=true is not possible: there is no test file; give data.test_share=0.1")
        seen, elsewhere = set[str](), 0
        for part in ("test", "validation", "train"):  # what is in two parts stays where it is not trained on
            kept = [item for item in items[part] if _prompt(item) not in seen]
            elsewhere += len(items[part]) - len(kept)
            items[part] = kept
            seen |= {_prompt(item) for item in kept}
        about["in_another_part"] = elsewhere
        parts = zip(("validation", "test"), self._shares, strict=True)
        validation, test = (0.0 if part in files else share for part, share in parts)
        train, heldout, held = split(items["train"], _question, validation, test, self._seed)
        if validation:
            train, heldout = with_least(train, heldout, _question, f"data.validation_share={validation}")
        if test and self.test and not held:
            raise UserError(f"data.test_share={test} gives no example; give more rows or a larger share")
        if not validation and not items["validation"]:
            raise UserError(f"{self.path}: every example of the validation file is empty or in the test file too")
        train_size, heldout_size, test_size = self._sizes
        return Parts(
            first(train, train_size, "train_size"),
            (heldout or _ordered(items["validation"], self._seed))[:heldout_size],
            (held or _ordered(items["test"], self._seed))[:test_size],
            about,
        )

    def _form(self, files: dict[str, list[tuple[str, Rows]]]) -> str:
        rows = [row for named in files.values() for _, rows in named for row in rows]
        fields = dict.fromkeys(field for row in rows for field in row)
        form = detect(fields, self.format, self.path)
        unused = [field for field in fields if field not in used(form)]
        unused += sorted(set[str]().union(*(extra_keys(row, form) for row in rows)))
        _say(f"{self.path}: read as {form}" + (f"; not used: {', '.join(unused)}" if unused else ""))
        return form

    def _items(self, named: Iterable[tuple[str, Rows]], form: str, about: dict[str, int]) -> list[Item]:
        """The rows of a part, each once; what is left out is counted."""
        items, faults = dict[Dialogue | Plain, Item](), Faults()
        for name, rows in named:
            for number, row in enumerate(rows, 1):
                try:
                    content = convert(row, form, self.system)
                except RowError as error:
                    faults.add(f"{name}, row {number}", str(error))
                    continue
                about["empty"] += content is None
                about["duplicates"] += content in items
                if content is not None:
                    items.setdefault(content, Item(content, f"{name}, row {number}"))
        faults.check()
        return list(items.values())

    @property
    def train_size(self) -> int:
        return len(self._parts.train)

    @property
    def heldout_size(self) -> int:
        return len(self._parts.heldout)

    @property
    def asks(self) -> bool:
        return all(item.content.prompt for item in self._parts.heldout)

    @property
    def tokens_per_example(self) -> int:
        texts = self.texts()["train"]
        mean = sum(len(prompt.encode()) + len(answer.encode()) for prompt, answer in texts) / len(texts)
        return min(self.max_tokens, round(mean / BYTES_PER_TOKEN) + 16)

    def texts(self) -> dict[str, list[tuple[str, str]]]:
        """All that comes before the last answer, and that answer; of texts an empty prompt and the text."""
        named = {"train": self._parts.train, "heldout": self._parts.heldout}
        return {name: [(item.content.prompt, item.content.answer) for item in part] for name, part in named.items()}

    def fingerprint(self) -> str:
        return digest([[_values(item.content) for item in part] for part in (self._parts.train, self._parts.heldout)])

    def load(self, tokenizer: Any) -> Dataset:
        """Tokenized examples, those that are too long left out or cut.

        Raises:
            UserError: with a line for each row that the chat template would change, and when nothing is left.
        """
        if tokenizer.chat_template and any(
            isinstance(i.content, Plain) and i.content.prompt for i in self._parts.train
        ):
            _say(
                f"{self.path}: prompt and completion are texts, so they are taken as they are; as lists of messages "
                "they go through the chat template"
            )
        counts = {"too_long": 0, "cut": 0}
        train = self._examples(self._parts.train, tokenizer, counts, "train")
        heldout = self._examples(self._parts.heldout, tokenizer, counts, "validation")
        sizes = {"train_examples": len(train), "heldout_examples": len(heldout)}
        return Dataset(train, heldout, self._parts.about | sizes | counts)

    def load_test(self, tokenizer: Any) -> list[Example]:
        return self._examples(self._parts.test, tokenizer, {"too_long": 0, "cut": 0}, "test")

    def _examples(self, items: Sequence[Item], tokenizer: Any, counts: dict[str, int], part: str) -> list[Example]:
        examples, faults = list[Example](), Faults()
        for item in items:
            try:
                ids, trained = self._tokens(item.content, tokenizer)
            except UserError as error:
                faults.add(item.place, str(error))
                continue
            if len(ids) > self.max_tokens:
                ids, trained = self._cut(ids, trained)
                counts["cut" if ids else "too_long"] += 1
            if ids:
                *earlier, (begin, _) = trained
                score = functools.partial(_same, item.content.answer)
                examples.append(Example(ids[:begin], ids[begin:], score, earlier=tuple(earlier)))
        faults.check()
        if not examples:
            raise UserError(
                f"{self.path}: all {len(items)} examples of the part {part} are longer than "
                f"data.max_tokens={self.max_tokens}; give more, or data.truncate=right"
            )
        return examples

    def _tokens(self, content: Dialogue | Plain, tokenizer: Any) -> tuple[list[int], list[tuple[int, int]]]:
        if isinstance(content, Plain):
            ids, trained = tokenize_plain(tokenizer, content.prompt, content.answer)
        else:
            answers = content.answers if self.loss_on == "answers" else content.answers[-1:]
            messages = [{"role": role, "content": text} for role, text in content.messages]
            ids, trained = tokenize_dialogue(tokenizer, messages, answers)
        return ids, [(0, len(ids))] if self.loss_on == "all" else trained

    def _cut(self, ids: list[int], trained: list[tuple[int, int]]) -> tuple[list[int], list[tuple[int, int]]]:
        """At most `max_tokens` of the ids, up to the last that is trained on; nothing where none is left."""
        begin = len(ids) - self.max_tokens if self.truncate == "left" else 0
        end = begin + self.max_tokens
        left = [(max(a, begin) - begin, min(b, end) - begin) for a, b in trained if a < end and b > begin]
        # The first token is predicted from nothing, so it is no loss.
        if self.truncate == "drop" or not left or left[-1][1] < 2:
            return [], []
        return ids[begin:end][: left[-1][1]], left


def _prompt(item: Item) -> str:
    return identity(item.content.prompt or item.content.answer)


def _question(item: Item) -> str:
    return item.content.question


def _ordered(items: list[Item], seed: int) -> list[Item]:
    """In the order of `split`, whatever that of the file is."""
    return split(items, _question, 0.0, 0.0, seed)[0]


def _values(content: Dialogue | Plain) -> list[Any]:
    if isinstance(content, Plain):
        return [content.prompt, content.answer]
    return [content.messages, content.asked]


def _same(truth: str, answer: str) -> bool:
    return answer.strip() == truth.strip()


@functools.cache
def _say(line: str) -> None:
    print(line, file=sys.stderr)
