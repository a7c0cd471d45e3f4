"""Single-answer grading of MT-bench by a judge, with the prompts and the record format of FastChat.

For each question and turn the judge gets one prompt and ends its judgment with ``[[rating]]``, 1 to 10. Questions of
the categories `REFERENCED` are judged beside a reference answer. A judgment without a rating has score -1 in the
record, as in FastChat, and counts in no mean.
"""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.errors import UserError
from experiments.evaluate.endpoint import Endpoint, NoReplyError
from experiments.evaluate.journal import Journal

REFERENCED = ("math", "reasoning", "coding")
UNRATED = -1
REFUSED = 3
CHARACTERS_PER_TOKEN = 4  # of English text, for estimates only
RATINGS = (re.compile(r"\[\[(\d+(?:\.\d+)?)\]\]"), re.compile(r"\[(\d+(?:\.\d+)?)\]"))


def rating(judgment: str) -> float:
    """The number in double (else single) brackets, `UNRATED` when there is none from 1 to 10."""
    for pattern in RATINGS:
        if found := pattern.search(judgment):
            value = float(found.group(1))
            return value if 1 <= value <= 10 else UNRATED
    return UNRATED


@dataclass(frozen=True)
class Task:
    """One judgment to be made.

    Attributes:
        question_id: of the question.
        turn: from 1 on.
        prompt: name of the judge's prompt.
        system: system message that is sent.
        user: user message that is sent.
    """

    question_id: int
    turn: int
    prompt: str
    system: str
    user: str


def tasks(
    questions: Sequence[Mapping[str, Any]],
    answers: Mapping[int, Sequence[str]],
    prompts: Mapping[str, Mapping[str, Any]],
    references: Mapping[int, Sequence[str]],
) -> list[Task]:
    """Every judgment to be made of the answers, turn after turn of each question.

    Args:
        questions: rows of FastChat's question.jsonl.
        answers: question_id -> the answer of each turn.
        prompts: name -> row of FastChat's judge_prompts.jsonl.
        references: question_id -> turns of the reference.

    Raises:
        UserError: when a prompt or a reference is missing, or a prompt has a field that is not known.
    """
    judgments = []
    for question in questions:
        number, category = question["question_id"], question["category"]
        if category in REFERENCED and number not in references:
            raise UserError(f"question {number} ({category}) needs a reference answer; give mt_bench.references=FILE")
        fields = {}
        for turn, (asked, answered) in enumerate(zip(question["turns"], answers[number], strict=True), 1):
            fields |= {f"question_{turn}": asked, f"answer_{turn}": answered}
            if category in REFERENCED:
                fields[f"ref_answer_{turn}"] = references[number][turn - 1]
            name = ("single-math-v1" if category in REFERENCED else "single-v1") + ("-multi-turn" if turn > 1 else "")
            if name not in prompts:
                raise UserError(f"mt_bench.prompts has no {name!r}; it has {', '.join(prompts)}")
            try:
                user = prompts[name]["prompt_template"].format(question=asked, answer=answered, **fields)
            except (KeyError, IndexError, ValueError) as error:
                raise UserError(f"the judge's prompt {name!r} cannot be filled in: {error!r}") from None
            judgments.append(Task(number, turn, name, prompts[name]["system_prompt"], user))
    return judgments


@dataclass(frozen=True)
class Prices:
    """US dollars for a million tokens; None: not known."""

    input: float | None = None
    output: float | None = None

    def dollars(self, tokens: tuple[int, int]) -> float | None:
        if self.input is None or self.output is None:
            return None
        return (tokens[0] * self.input + tokens[1] * self.output) / 1e6


@dataclass(frozen=True)
class Judge:
    """A judge whose judgments are kept.

    Attributes:
        endpoint: that answers.
        journal: of this judge, in FastChat's format; what it holds is not asked again.
        prices: of the endpoint's tokens.
        max_cost: in dollars; None: no limit.
    """

    endpoint: Endpoint
    journal: Journal
    prices: Prices
    max_cost: float | None

    def missing(self, wanted: Sequence[Task], model: str) -> list[Task]:
        """The tasks without a judgment of the very same prompt."""
        judgments = self._kept(model)
        return [task for task in wanted if (task.question_id, task.turn, task.user) not in judgments]

    def estimate(self, wanted: Sequence[Task]) -> tuple[tuple[int, int], float | None]:
        """Tokens that go in and at most come out, and their price in dollars (None: unknown)."""
        letters = sum(len(task.system) + len(task.user) for task in wanted)
        tokens = (letters // CHARACTERS_PER_TOKEN, len(wanted) * self.endpoint.max_tokens)
        return tokens, self.prices.dollars(tokens)

    def judge(self, wanted: Sequence[Task], model: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """FastChat's records of all tasks, those of the journal included, and what was spent now.

        Prints the estimate before the first request. A judgment that the endpoint refuses to give counts as unrated,
        with the reason in its place, once the endpoint has given another one.

        Raises:
            UserError: when the estimate exceeds `max_cost`, and when the endpoint fails or refuses the first `REFUSED`
                judgments; every judgment made until then is kept.
        """
        missing = self.missing(wanted, model)
        tokens, dollars = self.estimate(missing)
        price = "no price is set" if dollars is None else f"at most ${dollars:.2f}"
        print(
            f"judge {self.endpoint.model}: {len(missing)} of {len(wanted)} judgments to be made, "
            f"about {tokens[0]} tokens in, at most {tokens[1]} out, {price}",
            flush=True,
        )
        if self.max_cost is not None and missing and (dollars is None or dollars > self.max_cost):
            raise UserError(f"mt_bench.judge.max_cost={self.max_cost} forbids the judgments: {price}")
        spent, answers = [0, 0], len(wanted) - len(missing)
        refused: list[tuple[Task, NoReplyError]] = []
        for done, task in enumerate(missing):
            try:
                reply = self.endpoint.ask(task.system, task.user)
            except NoReplyError as error:
                refused.append((task, error))
                if not answers and len(refused) == min(REFUSED, len(missing)):
                    raise  # no text is special: it is the request
                continue
            except UserError as error:
                raise UserError(
                    f"{error}; {done} of {len(missing)} judgments were made and are kept in {self.journal.path}, "
                    "and the same command goes on"
                ) from None
            answers += 1
            spent = [spent[0] + reply.tokens[0], spent[1] + reply.tokens[1]]
            self._keep(task, model, reply.text)
        for task, error in refused:
            print(f"question {task.question_id}, turn {task.turn}: unrated, {error}", flush=True)
            self._keep(task, model, str(error), UNRATED)
        judgments = self._kept(model)
        rows = [judgments[task.question_id, task.turn, task.user] for task in wanted]
        used = (spent[0], spent[1])
        return rows, {"requests": len(missing), "tokens": list(used), "dollars": self.prices.dollars(used)}

    def _keep(self, task: Task, model: str, text: str, score: float | None = None) -> None:
        self.journal.append(
            {
                "question_id": task.question_id,
                "model": model,
                "judge": [self.endpoint.model, task.prompt],
                "user_prompt": task.user,
                "judgment": text,
                "score": rating(text) if score is None else score,
                "turn": task.turn,
                "tstamp": time.time(),
            }
        )

    def _kept(self, model: str) -> dict[tuple[int, int, str], dict[str, Any]]:
        rows = [row for row in self.journal.read() if row.get("model") == model]
        mine = [row for row in rows if row["judge"][0] == self.endpoint.model]
        return {(row["question_id"], row["turn"], row["user_prompt"]): row for row in mine}
