"""A data set that is not there, as large as it is said to be: for the list of a study's runs, which trains nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Assumed:
    """What a plan asks of its data, without a row of them.

    Attributes:
        train_size: examples to train on.
        heldout_size: examples held out.
        tokens_per_example: of the mean example.
        max_tokens: of the longest example.
        test: whether the final evaluation reads the test part.
    """

    train_size: int
    heldout_size: int
    tokens_per_example: int
    max_tokens: int
    test: bool


def assumed(config: Mapping[str, Any], rows: int, tokens: int) -> Assumed:
    """The parts that `experiments.data.supervised.Supervised` would make of so many rows, about.

    Args:
        config: of the data set, as conf/data has it.
        rows: in all parts together.
        tokens: of the mean example.
    """
    validation = round(rows * config["validation_share"])
    train = rows - validation - round(rows * config["test_share"])
    sizes = [(config["train_size"], train), (config["heldout_size"], validation)]
    train, heldout = (there if wanted is None else min(wanted, there) for wanted, there in sizes)
    return Assumed(train, heldout, tokens, config["max_tokens"], config["test"])
