"""MT-bench: two-turn answers of a model, judged through an OpenAI-compatible endpoint where one is set.

Questions, reference answers and the judge's prompts are FastChat's files, given by the user; answers and judgments are
written in FastChat's formats and folders, so that its own tools read them. Answers are decoded greedily in every
category. Without a judge there are answers and no score.
"""

import time
import urllib.parse
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from bcd.checks import require_choice, require_number, require_positive, require_whole
from experiments import configuration
from experiments.data.chat import encode
from experiments.data.source import read_file
from experiments.errors import UserError
from experiments.evaluate import endpoint
from experiments.evaluate.documents import Source
from experiments.evaluate.journal import Journal
from experiments.evaluate.judge import UNRATED, Judge, Prices, tasks
from experiments.evaluate.significance import ALPHA, mean_difference, verdict
from experiments.evaluate.subject import Subject
from experiments.workloads.generation import generate
from records import digest

NOT_JUDGED = "not judged"
LIMIT_NAMES = ("max_tokens", "max_completion_tokens")


class MTBench:
    """Answers to two-turn questions and their scores, 1 to 10.

    Args:
        questions: FastChat's question.jsonl (may be xz-compressed), or the hub's HuggingFaceH4/mt_bench_prompts.
        references: FastChat's reference answers of one model, for the categories that need them.
        prompts: FastChat's judge_prompts.jsonl.
        max_new_tokens: of an answer.
        batch_size: questions answered at once.
        folder: gets model_answer/ and model_judgment/.
        judge: `requests_per_minute`, `attempts`, `timeout` (seconds), `max_tokens`, `prices` (dollars for a million
            tokens, `input` and `output`), `max_cost` (dollars; null: no limit). Which judge it is, the environment
            says: JUDGE_BASE_URL, JUDGE_MODEL, JUDGE_API_KEY.

    Raises:
        UserError: for a file that is missing or has another format.
        ValueError: for a number that is not possible.
    """

    def __init__(
        self,
        questions: str | None,
        references: str | None,
        prompts: str | None,
        max_new_tokens: int,
        batch_size: int,
        folder: str,
        judge: Mapping[str, Any],
    ) -> None:
        for name, value in (("max_new_tokens", max_new_tokens), ("batch_size", batch_size)):
            require_whole(f"mt_bench.{name}", value, least=1)
        if questions is None:
            raise UserError("mt_bench.questions=FILE is missing: FastChat's question.jsonl, or a name on the hub")
        self.max_new_tokens, self.batch_size = max_new_tokens, batch_size
        self.questions = read_questions(questions)
        self.references = read_references(references) if references else {}
        self.folder = configuration.output_path(folder)
        options = dict(judge)
        self.prices, self.max_cost = Prices(**options.pop("prices")), options.pop("max_cost")
        require_choice("mt_bench.judge.limit_name", options.get("limit_name", "max_tokens"), LIMIT_NAMES)
        require_number("mt_bench.judge.temperature", options.get("temperature"), least=0, or_none=True)
        for name, value in options.items():
            if name not in ("limit_name", "temperature"):
                require_positive(f"mt_bench.judge.{name}", value)
        self.endpoint = endpoint.from_environment(**options)
        self.prompts: dict[str, dict[str, Any]] = {}
        if self.endpoint is not None:
            if prompts is None:
                raise UserError("a judge is set, but mt_bench.prompts=FILE is missing: FastChat's judge_prompts.jsonl")
            self.prompts = {row["name"]: row for row in checked(prompts, ("name", "system_prompt", "prompt_template"))}
            # What the judge would be asked of empty answers: a missing reference should be told before any generation.
            empty = {question["question_id"]: [""] * len(question["turns"]) for question in self.questions}
            tasks(self.questions, empty, self.prompts, self.references)

    def fingerprint(self) -> str:
        judge = None if self.endpoint is None else self.endpoint.model
        references = {str(number): turns for number, turns in self.references.items()}
        return digest([self.questions, references, self.prompts, judge])

    def size(self) -> dict[str, int]:
        return {"answers": sum(len(question["turns"]) for question in self.questions)}

    def __call__(self, subject: Subject) -> dict[str, Any]:
        answers = self.answer(subject)
        result: dict[str, Any] = {
            "questions": len(self.questions),
            "rows": digest(self.questions),
            "model_id": subject.name,
            "decoding": "greedy",
            "answers": digest([answers[question["question_id"]] for question in self.questions]),
        }
        if self.endpoint is None:
            return result | {"verdict": f"{NOT_JUDGED}: {endpoint.URL} and {endpoint.MODEL} name no judge"}
        name = f"{self.endpoint.model.replace('/', '_')}_single.jsonl"
        judge = Judge(self.endpoint, Journal(self.folder / "model_judgment" / name), self.prices, self.max_cost)
        wanted = tasks(self.questions, answers, self.prompts, self.references)
        judgments, spent = judge.judge(wanted, subject.name)
        host = urllib.parse.urlsplit(self.endpoint.url).hostname
        about = {"model": self.endpoint.model, "host": host, "prompts": digest(self.prompts), "spent": spent}
        return result | {"judge": about} | self._scores(judgments)

    def _scores(self, judgments: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Means over the rated judgments; the standard errors take the turns of a question together."""
        category = {question["question_id"]: question["category"] for question in self.questions}
        parts: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for row in judgments:
            for part in ("score", f"turn {row['turn']}", f"category {category[row['question_id']]}"):
                parts[part].append(row)
        return {part: _mean(rows) for part, rows in parts.items()} | {
            "unrated": sum(row["score"] == UNRATED for row in judgments),
            "scores": [[row["question_id"], row["turn"], row["score"]] for row in judgments],
        }

    def compare(self, before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
        """Paired over the questions, on the turns rated in both; `NOT_JUDGED` where one was not judged."""
        if "judge" not in before or "judge" not in after:
            return {"score": {"verdict": NOT_JUDGED}}
        judges = [(record["judge"]["model"], record["judge"]["prompts"]) for record in (before, after)]
        if judges[0] != judges[1] or before["rows"] != after["rows"]:
            raise ValueError(
                "the two records have different questions, judges or prompts, so their scores do not compare"
            )
        first, second = ({(q, t): s for q, t, s in record["scores"] if s != UNRATED} for record in (before, after))
        sums: dict[int, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
        for question, turn in first.keys() & second.keys():
            for i, value in enumerate((first[question, turn], second[question, turn], 1.0)):
                sums[question][i] += value
        if len(sums) < 2:
            return {"score": {"verdict": f"{NOT_JUDGED}: fewer than two questions have a rating in both"}}
        columns = [[sums[question][i] for question in sorted(sums)] for i in range(3)]
        difference = mean_difference(columns[0], columns[1], columns[2])
        return {"score": difference | {"verdict": verdict(difference, ALPHA)}}

    def answer(self, subject: Subject) -> dict[int, list[str]]:
        """question_id -> the answer of each turn; kept in model_answer/, batch after batch, and not made twice."""
        journal = Journal(self.folder / "model_answer" / f"{subject.name}.jsonl")
        turns_by_id = {row["answer_id"]: row["choices"][0]["turns"] for row in journal.read()}
        answers: dict[int, list[str]] = {}
        for start in tqdm(range(0, len(self.questions), self.batch_size), desc=subject.name, leave=False):
            group = self.questions[start : start + self.batch_size]
            # A batch is made as a whole, because padding moves roundings: what is continued is what is uninterrupted.
            batch = [subject.fingerprint, self.max_new_tokens, [question["turns"] for question in group]]
            identities = [digest([batch, i])[:22] for i in range(len(group))]
            if any(identity not in turns_by_id for identity in identities):
                rows = [
                    {
                        "question_id": question["question_id"],
                        "answer_id": identity,
                        "model_id": subject.name,
                        "choices": [{"index": 0, "turns": turns}],
                        "tstamp": time.time(),
                    }
                    for question, identity, turns in zip(
                        group, identities, self._dialogues(subject, group), strict=True
                    )
                ]
                journal.append(*rows)
                turns_by_id |= {row["answer_id"]: row["choices"][0]["turns"] for row in rows}
            for question, identity in zip(group, identities, strict=True):
                answers[question["question_id"]] = turns_by_id[identity]
        return answers

    def _dialogues(self, subject: Subject, group: Sequence[Mapping[str, Any]]) -> list[list[str]]:
        """The answers to each question of the group; all of a group have as many turns."""
        said: list[list[dict[str, str]]] = [[] for _ in group]
        limit = getattr(subject.model.config, "max_position_embeddings", None)
        for turn in range(len(group[0]["turns"])):
            prompts = []
            for messages, question in zip(said, group, strict=True):
                messages.append({"role": "user", "content": question["turns"][turn]})
                prompt = encode(subject.tokenizer, messages)
                if limit is not None and len(prompt) + self.max_new_tokens > limit:
                    raise UserError(
                        f"question {question['question_id']} needs {len(prompt)} + {self.max_new_tokens} tokens, and "
                        f"the model has {limit}; lower mt_bench.max_new_tokens"
                    )
                prompts.append(prompt)
            answers = generate(subject.model, subject.tokenizer, prompts, self.max_new_tokens)
            for messages, answer in zip(said, answers, strict=True):
                messages.append({"role": "assistant", "content": answer})
        return [[message["content"] for message in messages[1::2]] for messages in said]


def _mean(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    sums: dict[int, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for row in rows:
        if row["score"] != UNRATED:
            sums[row["question_id"]][0] += row["score"]
            sums[row["question_id"]][1] += 1
    if not sums:
        return {"value": None, "standard_error": None, "judgments": 0}
    scores, counts = np.asarray(list(sums.values())).T
    value, n = scores.sum() / counts.sum(), len(scores)
    error = np.sqrt(n / (n - 1) * np.square(scores - value * counts).sum()) / counts.sum() if n > 1 else None
    return {
        "value": float(value),
        "standard_error": None if error is None else float(error),
        "judgments": int(counts.sum()),
    }


def checked(path: str, fields: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of a JSON Lines file.

    Raises:
        UserError: when it is missing, empty or a row lacks one of `fields`.
    """
    file = configuration.input_path(path)
    if not file.is_file():
        raise UserError(f"{path} is no file")
    rows = read_file(file)
    for number, row in enumerate(rows, 1):
        if missing := [name for name in fields if name not in row]:
            raise UserError(f"{path}, line {number}: the field {', '.join(missing)} is missing (FastChat's format)")
    if not rows:
        raise UserError(f"{path} is empty")
    return rows


def read_questions(name: str) -> list[dict[str, Any]]:
    """question_id, category and turns of each question, from a file or the hub; all have the same number of turns."""
    if configuration.input_path(name).is_file():
        rows = checked(name, ("question_id", "category", "turns"))
    elif name.count("/") == 1 and not name.startswith((".", "~", "/")) and "." not in name.rpartition("/")[2]:
        source_rows, _ = Source(local=name, hub=name, split="train", option="mt_bench.questions").rows(
            None, ("prompt_id", "category", "prompt")
        )
        rows = [{"question_id": row["prompt_id"], "turns": row["prompt"]} | row for row in source_rows]
    else:
        raise UserError(f"mt_bench.questions={name} is no file, and no name on the hub")
    questions = [{"question_id": r["question_id"], "category": r["category"], "turns": list(r["turns"])} for r in rows]
    if len({len(question["turns"]) for question in questions}) != 1:
        raise UserError(f"{name}: the questions have different numbers of turns")
    if len({question["question_id"] for question in questions}) != len(questions):
        raise UserError(f"{name}: a question_id occurs twice")
    return questions


def read_references(path: str) -> dict[int, list[str]]:
    """question_id -> the turns of its reference answer, from FastChat's model_answer format."""
    rows = checked(path, ("question_id", "choices"))
    return {row["question_id"]: row["choices"][0]["turns"] for row in rows}
