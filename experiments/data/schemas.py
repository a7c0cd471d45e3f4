"""Schemas: which fields of a row are the prompt and the answer, and when an answer is right."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from experiments.data.answers import same_expression, same_number


@dataclass(frozen=True)
class Text:
    """One question with its answer; a frozen text of the file, scored by its schema."""

    prompt: str
    answer: str


class Schema(Protocol):
    """What a data set asks of its rows. Frozen and hashable, because what was read is kept."""

    @property
    def fields(self) -> tuple[str, ...]:
        """Fields that every row must have."""
        ...

    @property
    def optional(self) -> tuple[str, ...]:
        """Fields that are texts where a row has them."""
        ...

    def text(self, row: Mapping[str, str]) -> Text: ...

    def right(self, answer: str, truth: str) -> bool:
        """Whether a generated answer is as good as the row's."""
        ...


@dataclass(frozen=True)
class Alpaca:
    """Instruction, optional input, output (vicgalle/alpaca-gpt4, yahma/alpaca-cleaned); right means the same text."""

    fields = ("instruction", "output")
    optional = ("input",)

    def text(self, row: Mapping[str, str]) -> Text:
        parts = [row["instruction"].strip(), row.get("input", "").strip()]
        return Text("\n\n".join(part for part in parts if part), row["output"].strip())

    def right(self, answer: str, truth: str) -> bool:
        return answer.strip() == truth


@dataclass(frozen=True)
class Instruction:
    """Instruction and output (TIGER-Lab/MathInstruct); right means the same last number, or the same text if none."""

    fields = ("instruction", "output")
    optional = ()

    def text(self, row: Mapping[str, str]) -> Text:
        return Text(row["instruction"].strip(), row["output"].strip())

    def right(self, answer: str, truth: str) -> bool:
        return answer.strip() == truth or same_number(answer, truth)


@dataclass(frozen=True)
class GSM8K:
    """Question, and an answer that ends with ``#### number`` (openai/gsm8k); right means the same last number.

    Attributes:
        annotations: keep the calculator's ``<<48/2=24>>``, which is no part of the text that a reader wants.
    """

    annotations: bool = False
    fields = ("question", "answer")
    optional = ()

    def text(self, row: Mapping[str, str]) -> Text:
        answer = row["answer"] if self.annotations else re.sub(r"<<[^<>]*>>", "", row["answer"])
        return Text(row["question"].strip(), answer.strip())

    def right(self, answer: str, truth: str) -> bool:
        return same_number(answer, truth)


@dataclass(frozen=True)
class MATH:
    """Problem, and a solution that boxes its result (EleutherAI/hendrycks_math); right means the same result."""

    fields = ("problem", "solution")
    optional = ()

    def text(self, row: Mapping[str, str]) -> Text:
        return Text(row["problem"].strip(), row["solution"].strip())

    def right(self, answer: str, truth: str) -> bool:
        return same_expression(answer, truth)
