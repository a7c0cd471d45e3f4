"""Exact match of generated answers: lm-eval's `process_results` of the tasks that generate.

Each takes the row and the list of one generated text and returns ``{"exact_match": 0 or 1}``.
"""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

NUMBER = re.compile(r"[-−]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?")


def numbers(text: str) -> list[Decimal]:
    """The decimal numbers in a text, in order; thousands may be set apart by commas."""
    matches = (match.replace(",", "").replace("−", "-") for match in NUMBER.findall(text))
    return [Decimal(value) for value in matches if any(character.isdigit() for character in value)]


def last_number(text: str, gold: object) -> dict[str, int]:
    """Whether the last number of `text` is the number `gold` (exactly, as decimals: 5.50 is 5.5)."""
    wanted = numbers(str(gold))
    if len(wanted) != 1:
        raise ValueError(f"the answer {gold!r} is not one number")
    values = numbers(text)
    return {"exact_match": int(bool(values) and values[-1] == wanted[0])}


def gsm8k(row: Mapping[str, Any], results: Sequence[str]) -> dict[str, int]:
    return last_number(results[0], row["answer"].rpartition("####")[2])


def svamp(row: Mapping[str, Any], results: Sequence[str]) -> dict[str, int]:
    return last_number(results[0], row["Answer"])


def mawps(row: Mapping[str, Any], results: Sequence[str]) -> dict[str, int]:
    return last_number(results[0], row["target"])


def mathematics(row: Mapping[str, Any], results: Sequence[str]) -> dict[str, int]:
    """Equality of the boxed answers by the library math-verify.

    The generated text is read from its last ``\\boxed{...}``; without one its last expression counts.
    """
    from math_verify import parse, verify

    gold, answer = (parse(text, raise_on_error=False) for text in (boxed(row["solution"]), boxed(results[0])))
    return {"exact_match": int(bool(gold) and bool(answer) and verify(gold, answer, raise_on_error=False))}


def boxed(text: str) -> str:
    r"""``$\boxed{...}$``, the last one in `text` with its braces balanced; `text` itself when there is none."""
    begin = max(text.rfind(r"\boxed{"), text.rfind(r"\fbox{"))
    if begin < 0:
        return text
    begin, depth = text.index("{", begin), 0
    for end in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        if depth == 0:
            return rf"$\boxed{{{text[begin + 1 : end]}}}$"
    return text
