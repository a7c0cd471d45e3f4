"""Procedurally generated mathematics from the library reasoning-gym, with the library's own scorer."""

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import reasoning_gym
from reasoning_gym.factory import DATASETS

from bcd.checks import require_flag, require_whole
from experiments.data import Dataset, Example
from experiments.data.bucketing import require_bucket
from experiments.data.chat import system_text, tokenize
from experiments.errors import UserError
from records import digest


class ReasoningGym:
    """Questions of several tasks, the same number of each; train, held-out (validation) and test are disjoint.

    reasoning-gym seeds question n with seed + n, so the three seeds must lie further apart than the sizes. Besides, a
    train question that equals a held-out one is replaced by the next, and so is a test question that equals one of
    either.

    Args:
        tasks: task name -> options of that task's reasoning-gym configuration.
        train_size: number of questions to train on in all; the tasks take turns.
        heldout_size: number of held-out questions in all.
        train_seed: of the questions to train on.
        heldout_seed: of the held-out questions.
        system: system message of every prompt; it replaces the chat template's own.
        max_tokens: longest allowed example, prompt and answer together.
        test: whether the final evaluation asks the test questions; before, they are not made.
        test_size: number of test questions in all.
        test_seed: of the test questions.
        bucket: see `experiments.data.bucketing.groups`.

    Raises:
        UserError: for an unknown task or option, or seeds whose ranges overlap.
        ValueError: for sizes and a bucket that are no whole numbers of at least 1, and a test that is no flag.
    """

    asks = True
    room = None  # every example has a row of its own

    def __init__(
        self,
        tasks: Mapping[str, Mapping[str, Any]],
        train_size: int,
        heldout_size: int,
        train_seed: int,
        heldout_seed: int,
        system: str,
        max_tokens: int,
        test: bool = False,
        test_size: int = 64,
        test_seed: int = 2_000_000,
        bucket: int = 1,
    ) -> None:
        if not tasks:
            raise UserError("data.tasks is empty; name at least one reasoning-gym task")
        for name in tasks:
            if name not in DATASETS:
                raise UserError(
                    f"data.tasks has {name!r}, which reasoning-gym lacks; it has {', '.join(sorted(DATASETS))}"
                )
        seeds = {"train": train_seed, "heldout": heldout_seed, "test": test_seed}
        sizes = {"train": train_size, "heldout": heldout_size, "test": test_size}
        for name, size in sizes.items():
            require_whole(f"data.{name}_size", size, least=1)
        require_bucket(bucket)
        require_flag("data.test", test)
        self.tasks = tasks
        self.train_size = train_size
        self.heldout_size = heldout_size
        self.train_seed = train_seed
        self.heldout_seed = heldout_seed
        self.system = system_text(system)
        self.max_tokens = self.tokens_per_example = max_tokens
        self.test, self.test_size, self.test_seed, self.bucket = test, test_size, test_seed, bucket
        for one, other in itertools.combinations(sorted(seeds, key=lambda name: seeds[name]), 2):
            # Duplicates are skipped, so leave room for as many again.
            if seeds[other] - seeds[one] < (needed := 2 * sizes[one]):
                raise UserError(
                    f"data.{one}_seed={seeds[one]} and data.{other}_seed={seeds[other]} are closer than {needed}, "
                    f"so {one} and {other} questions would share seeds; set them further apart"
                )

    def _questions(self, seed: int, size: int, taken: set[str]) -> list[tuple[Any, dict[str, Any]]]:
        """`size` (generator, entry) pairs whose questions are not in `taken`; adds them to it."""
        streams = [self._stream(name, options, seed, size) for name, options in self.tasks.items()]
        questions: list[tuple[Any, dict[str, Any]]] = []
        while len(questions) < size:
            generator, entry = next(streams[len(questions) % len(streams)])
            if entry["question"] not in taken:
                taken.add(entry["question"])
                questions.append((generator, entry))
        return questions

    def _stream(
        self, name: str, options: Mapping[str, Any], seed: int, size: int
    ) -> Iterator[tuple[Any, dict[str, Any]]]:
        try:
            generator = reasoning_gym.create_dataset(name, seed=seed, size=2 * size, **options)
        except (TypeError, AssertionError, ValueError) as error:
            raise UserError(f"data.tasks.{name}={dict(options)} is refused by reasoning-gym: {error}") from error
        for entry in generator:
            yield generator, entry
        raise UserError(
            f"data.tasks.{name} has too few different questions for {size}; ask for fewer or widen its options"
        )

    def _splits(self) -> tuple[list[tuple[Any, dict[str, Any]]], list[tuple[Any, dict[str, Any]]]]:
        taken: set[str] = set()
        heldout = self._questions(self.heldout_seed, self.heldout_size, taken)
        return self._questions(self.train_seed, self.train_size, taken), heldout

    def fingerprint(self) -> str:
        return digest(list(self.texts().values()))

    def texts(self) -> dict[str, list[tuple[str, str]]]:
        train, heldout = ([(e["question"], e["answer"]) for _, e in split] for split in self._splits())
        return {"train": train, "heldout": heldout}

    def load(self, tokenizer: Any) -> Dataset:
        train, heldout = self._splits()
        return Dataset(self._examples(train, tokenizer), self._examples(heldout, tokenizer))

    def load_test(self, tokenizer: Any) -> list[Example]:
        taken = {entry["question"] for part in self._splits() for _, entry in part}
        return self._examples(self._questions(self.test_seed, self.test_size, taken), tokenizer)

    def _examples(self, entries: Sequence[tuple[Any, dict[str, Any]]], tokenizer: Any) -> list[Example]:
        pairs = tokenize(tokenizer, self.system, [(entry["question"], entry["answer"]) for _, entry in entries])
        examples = []
        for (prompt, answer), (generator, entry) in zip(pairs, entries, strict=True):
            if (length := len(prompt) + len(answer)) > self.max_tokens:
                raise UserError(
                    f"a question of {length} tokens exceeds data.max_tokens={self.max_tokens}: {entry['question']!r}; "
                    "raise max_tokens or narrow the task's options"
                )
            examples.append(Example(prompt, answer, functools.partial(_right, generator, entry)))
        return examples


def _right(generator: Any, entry: dict[str, Any], answer: str) -> bool:
    try:
        return generator.score_answer(answer, entry) == 1.0
    except Exception:  # the library's scorers take text apart; what they cannot take apart is no right answer
        return False
