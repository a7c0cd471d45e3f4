"""Train, validation and test: disjoint, fixed, and which runs may look at which.

Tuning uses the validation part and seeds from `TUNING_SEEDS` on; reported runs use smaller seeds, and only they may
read the test part, once, after training.
"""

import functools
import hashlib
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

from bcd.checks import require_number
from experiments.errors import UserError

TUNING_SEEDS = 1000

LEAST = 2
"""Examples of a validation part that a share of few rows makes, so that ten rows are enough."""

Item = TypeVar("Item")


def identity(prompt: str) -> str:
    """SHA-256 of a prompt up to case and white space, by which equal questions are recognised."""
    return hashlib.sha256(" ".join(prompt.lower().split()).encode()).hexdigest()


def place(prompt: str, seed: int) -> float:
    """A number in [0, 1) of the prompt, uniform over prompts, another one for each seed."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{identity(prompt)}".encode()).digest()[:8]) / 2**64


def split(
    items: Sequence[Item], prompt: Callable[[Item], str], validation: float, test: float, seed: int
) -> tuple[list[Item], list[Item], list[Item]]:
    """Train, validation and test part, each in an order of its own.

        test: place < test      validation: test <= place < test + validation      train: the rest

    Equal questions share a place and so a part: the parts are disjoint. The order is that of the places, so the first
    n of a part are the same whatever the order of `items` is, and a larger n only adds to them.

    Args:
        items: what is split.
        prompt: item -> its question.
        validation: share of the examples.
        test: share of the examples.
        seed: of the split, the same for every run that is compared.
    """
    parts: tuple[list[tuple[float, Item]], ...] = ([], [], [])
    for item in items:
        where = place(prompt(item), seed)
        parts[2 if where < test else 1 if where < test + validation else 0].append((where, item))
    train, valid, held = ([item for _, item in sorted(part, key=lambda pair: pair[0])] for part in parts)
    return train, valid, held


def with_least(
    train: Sequence[Item], validation: Sequence[Item], prompt: Callable[[Item], str], origin: str
) -> tuple[list[Item], list[Item]]:
    """Train and validation part of `split`, with `LEAST` examples to validate with, or half of the questions.

    The first questions of train move where the share gives fewer, as with a larger share; it is said.

    Args:
        train: of `split`.
        validation: of `split`.
        prompt: item -> its question.
        origin: what made the part, for messages.

    Raises:
        UserError: when there is one question only.
    """
    questions = list(dict.fromkeys(identity(prompt(item)) for item in (*validation, *train)))
    if len(questions) < 2:
        raise UserError(
            f"{origin}: all {len(train) + len(validation)} examples begin with the same question, which is in one "
            "part; give more rows, or a folder with a file for train and one for validation"
        )
    count = len({identity(prompt(item)) for item in validation})
    if not train:
        raise UserError(f"{origin} leaves nothing to train on; give a smaller share")
    if count >= min(LEAST, len(questions) // 2):
        return list(train), list(validation)
    held = set(questions[: min(LEAST, len(questions) // 2)])
    parts: tuple[list[Item], list[Item]] = ([], list(validation))
    for item in train:
        parts[identity(prompt(item)) in held].append(item)
    _say_least(origin, len(validation), len(train) + len(validation), len(parts[1]))
    return parts


@functools.cache
def _say_least(origin: str, gives: int, of: int, held: int) -> None:
    print(f"{origin} gives {gives} of {of} examples: {held} are held out", file=sys.stderr)


def first(items: Sequence[Item], size: int | None, name: str) -> list[Item]:
    """The first items of a part.

    Args:
        items: of the part.
        size: how many; None: all.
        name: of the size in the configuration, for messages.

    Raises:
        UserError: when there are fewer, or none at all.
    """
    if size is not None and size > len(items):
        raise UserError(f"data.{name}={size} is not possible: there are {len(items)} examples")
    if not items:
        raise UserError(f"data.{name}: there are no examples in this part; change the shares")
    return list(items[:size])


def at_most(items: Sequence[Item], size: int | None, name: str, origin: str) -> list[Item]:
    """The first items of a part, or all where there are fewer, which is said.

    Args:
        items: of the part.
        size: the most; None: all.
        name: of the size in the configuration, for messages.
        origin: what made the part, for messages.

    Raises:
        UserError: when there are none at all.
    """
    if not items:
        raise UserError(f"data.{name}: {origin} gives no example; give more rows or a larger share")
    if size is not None and size > len(items):
        _say_fewer(name, size, len(items), origin)
    return list(items[:size])


@functools.cache
def _say_fewer(name: str, size: int, there: int, origin: str) -> None:
    print(f"data.{name}={size}, but {origin} gives {there} examples: all of them are taken", file=sys.stderr)


def require_shares(validation: float, test: float) -> None:
    """Raise ValueError unless both are shares that leave something to train on."""
    for name, share in (("validation_share", validation), ("test_share", test)):
        require_number(f"data.{name}", share, least=0, below=1, why="it must be a share, at least 0 and below 1")
    if validation == 0:
        raise UserError("data.validation_share=0 is not possible: the held-out loss is of the validation part")
    if validation + test >= 1:
        raise UserError(f"data.validation_share={validation} and data.test_share={test} leave nothing to train on")


def require_tuning(seed: int, *, test: bool) -> None:
    """Raise UserError unless a run of a study with ``tuning: true`` has a seed for tuning and reads no test part."""
    if test:
        raise UserError(
            "data.test=true is not possible in a study with tuning: true; it sees the validation part only"
        )
    if seed < TUNING_SEEDS:
        raise UserError(
            f"seed={seed} is not possible in a study with tuning: true; seeds below {TUNING_SEEDS} are for reported "
            "runs"
        )


def require_seed(seed: int, *, test: bool) -> None:
    """Raise UserError when a run with a seed for tuning would read the test part."""
    if test and seed >= TUNING_SEEDS:
        raise UserError(
            f"seed={seed} with data.test=true is not possible: seeds from {TUNING_SEEDS} on are for tuning, which "
            "sees the validation part only"
        )
