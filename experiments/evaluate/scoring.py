"""Exact match of generated answers: lm-eval's `process_results` of the tasks that generate.

Each takes the row and the list of one generated text and returns ``{"exact_match": 0 or 1}``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.data.answers import number, numbers, same_expression


def last_number(text: str, gold: object) -> dict[str, int]:
    """Whether the last number of `text` is the number `gold` (exactly, as decimals: 5.50 is 5.5).

    Raises:
        ValueError: when `gold` is not one number.
    """
    wanted = numbers(str(gold))
    if len(wanted) != 1 or wanted[0] is None:
        raise ValueError(f"the answer {gold!r} is not one number")
    return {"exact_match": int(number(text) == wanted[0])}


def gsm8k(row: Mapping[str, Any], results: Sequence[str]) -> dict[str, int]:
    return last_number(results[0], row["answer"].rpartition("####")[2])


def svamp(row: Mapping[str, Any], results: Sequence[str]) -> dict[str, int]:
    return last_number(results[0], row["Answer"])


def mawps(row: Mapping[str, Any], results: Sequence[str]) -> dict[str, int]:
    return last_number(results[0], row["target"])


def mathematics(row: Mapping[str, Any], results: Sequence[str]) -> dict[str, int]:
    """Equality of the results, see `same_expression`."""
    return {"exact_match": int(same_expression(results[0], row["solution"]))}
