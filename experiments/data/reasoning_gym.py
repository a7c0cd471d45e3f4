"""Procedurally generated mathematics from the library reasoning-gym, with the library's own scorer."""

from collections.abc import Iterator, Mapping
from typing import Any

import reasoning_gym
from reasoning_gym.factory import DATASETS

from experiments.data import Dataset, Example
from experiments.errors import UserError
from records import digest


class ReasoningGym:
    """Questions of several tasks, the same number of each, train and held-out disjoint.

    tasks: task name -> options of that task's reasoning-gym configuration.
    train_size, heldout_size: number of questions in all; the tasks take turns.
    train_seed, heldout_seed: reasoning-gym seeds question n with seed + n, so the two must lie further apart than the
        sizes; besides, a train question that equals a held-out one is replaced by the next.
    system: system message of every prompt; it replaces the chat template's own.
    max_tokens: longest allowed example, prompt and answer together.

    Raises UserError for an unknown task or option, sizes below 1, or seeds whose ranges overlap.
    """

    def __init__(
        self,
        tasks: Mapping[str, Mapping[str, Any]],
        train_size: int,
        heldout_size: int,
        train_seed: int,
        heldout_seed: int,
        system: str,
        max_tokens: int,
    ) -> None:
        if not tasks:
            raise UserError("data.tasks is empty; name at least one reasoning-gym task")
        for name in tasks:
            if name not in DATASETS:
                raise UserError(
                    f"data.tasks has {name!r}, which reasoning-gym lacks; it has {', '.join(sorted(DATASETS))}"
                )
        for name, size in (("train_size", train_size), ("heldout_size", heldout_size)):
            if size < 1:
                raise UserError(f"data.{name}={size} is not possible: at least one question is needed")
        self.tasks = tasks
        self.train_size = train_size
        self.heldout_size = heldout_size
        self.train_seed = train_seed
        self.heldout_seed = heldout_seed
        self.system = system
        self.max_tokens = self.tokens_per_example = max_tokens
        # Duplicates are skipped, so leave room for as many again.
        low, high = sorted((train_seed, heldout_seed))
        needed = 2 * (train_size if low == train_seed else heldout_size)
        if high - low < needed:
            raise UserError(
                f"data.train_seed={train_seed} and data.heldout_seed={heldout_seed} are closer than {needed}, "
                "so train and held-out questions would share seeds; set them further apart"
            )

    def _questions(self, seed: int, size: int, taken: set[str]) -> list[tuple[Any, dict[str, Any]]]:
        """`size` (generator, entry) pairs whose questions are not in `taken`; adds them to it."""
        streams = [self._stream(name, options, seed, size) for name, options in self.tasks.items()]
        found: list[tuple[Any, dict[str, Any]]] = []
        while len(found) < size:
            generator, entry = next(streams[len(found) % len(streams)])
            if entry["question"] not in taken:
                taken.add(entry["question"])
                found.append((generator, entry))
        return found

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
        return digest([[(e["question"], e["answer"]) for _, e in split] for split in self._splits()])

    def load(self, tokenizer: Any) -> Dataset:
        train, heldout = self._splits()
        return Dataset(
            [self._example(generator, entry, tokenizer) for generator, entry in train],
            [self._example(generator, entry, tokenizer) for generator, entry in heldout],
        )

    def _example(self, generator: Any, entry: dict[str, Any], tokenizer: Any) -> Example:
        turns = [
            {"role": "system", "content": self.system},
            {"role": "user", "content": entry["question"]},
            {"role": "assistant", "content": entry["answer"]},
        ]
        prompt = tokenizer.apply_chat_template(turns[:2], add_generation_prompt=True, return_dict=False)
        whole = tokenizer.apply_chat_template(turns, return_dict=False)
        if whole[: len(prompt)] != prompt or tokenizer.eos_token_id not in whole[len(prompt) :]:
            raise UserError("the chat template does not put the answer and an end-of-turn token after the prompt")
        end = whole.index(tokenizer.eos_token_id, len(prompt)) + 1
        if end > self.max_tokens:
            raise UserError(
                f"a question of {end} tokens exceeds data.max_tokens={self.max_tokens}: {entry['question']!r}; "
                "raise max_tokens or narrow the task's options"
            )
        return Example(prompt, whole[len(prompt) : end], lambda text: generator.score_answer(text, entry) == 1.0)
