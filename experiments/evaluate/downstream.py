"""Downstream tasks by the library lm-eval: its prompts are `tasks/*.yaml`, its data the hub's or a local folder's."""

import functools
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.utils import get_method

from bcd.checks import require_whole
from experiments.configuration import input_path
from experiments.data.chat import of_one_day, require_template
from experiments.errors import UserError
from experiments.evaluate.documents import Source
from experiments.evaluate.significance import ALPHA, share, shares
from experiments.evaluate.subject import PartialError, Subject
from experiments.evaluate.subsets import chosen
from records import digest

TASKS = Path(__file__).parent / "tasks"


class Downstream:
    """Exact match on fixed subsets, zero-shot, through the model's chat template, decoded greedily.

    Args:
        tasks: names of files in `tasks`; null: all.
        items: most items of a task, see `subsets.chosen`.
        max_new_tokens: of a generated answer.
        batch_size: of a forward pass that scores given answers, which holds the logits of every token.
        folder: local folder with the test sets in the hub's schema; null: the hub. Never the one in place of the
            other.
        system: system message; null: what the chat template puts there itself.
        generation_batch_size: of a generation, which holds those of the last token alone; null: the same.

    Raises:
        UserError: for an unknown task or a folder that is not there.
        ValueError: for numbers that are not whole or below 1.
    """

    def __init__(
        self,
        tasks: Sequence[str] | None,
        items: int,
        max_new_tokens: int,
        batch_size: int,
        folder: str | None,
        system: str | None,
        generation_batch_size: int | None = None,
    ) -> None:
        names = sorted(path.stem for path in TASKS.glob("*.yaml"))
        if isinstance(tasks, str):
            raise UserError(f"downstream.tasks={tasks} is not possible: give a list, for example [{tasks}]")
        for name in tasks or ():
            if name not in names:
                raise UserError(f"downstream.tasks has {name!r}; there are {', '.join(names)}")
        generation_batch_size = batch_size if generation_batch_size is None else generation_batch_size
        numbers = {"items": items, "max_new_tokens": max_new_tokens, "batch_size": batch_size}
        for name, value in (numbers | {"generation_batch_size": generation_batch_size}).items():
            require_whole(f"downstream.{name}", value, least=1)
        if folder is not None and not input_path(folder).is_dir():
            raise UserError(f"downstream.folder={folder} is no folder")
        self.tasks = list(tasks or names)
        self.items = items
        self.max_new_tokens = max_new_tokens
        self.batch_size = batch_size
        self.generation_batch_size = generation_batch_size
        self.folder = input_path(folder) if folder is not None else None
        self.system = system

    def fingerprint(self) -> str:
        """SHA-256 of the tasks' files and of the chosen rows."""
        files = [(TASKS / f"{name}.yaml").read_text(encoding="utf-8") for name in self.tasks]
        return digest([[file, self.rows(name)[0]] for file, name in zip(files, self.tasks, strict=True)])

    def size(self) -> dict[str, int]:
        return {task: len(self.rows(task)[0]) for task in self.tasks}

    def rows(self, task: str) -> tuple[list[Mapping[str, Any]], str]:
        """The chosen rows of a task, and where they are from."""
        about = definition(task)["metadata"]
        rows, origin = _read(self.folder, task)
        return chosen(rows, about["identity"], self.items), f"{origin}, {len(rows)} rows"

    def __call__(self, subject: Subject) -> dict[str, Any]:
        """task -> `share` of the right answers with `metric`, `source`, `rows` (a hash) and `cut` prompts.

        Raises:
            PartialError: naming the tasks that failed; the others are measured.
        """
        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        results: dict[str, Any] = {}
        failed: dict[str, list[str]] = {}  # error -> tasks
        for task in self.tasks:
            path = subject.place / f"{task}.json"
            if not path.exists():
                try:
                    measured = self._measure(subject, task)
                except Exception as failure:  # whatever stops a task is its result; the others do not depend on it
                    failed.setdefault(f"{type(failure).__name__}: {failure}", []).append(task)
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                partial = path.with_suffix(".partial")
                partial.write_text(json.dumps(measured), encoding="utf-8")
                partial.replace(path)
            results[task] = json.loads(path.read_text(encoding="utf-8"))
        if failed:
            told = "; ".join(f"{', '.join(tasks)} ({error})" for error, tasks in failed.items())
            number = len(self.tasks) - len(results)
            raise PartialError(f"{number} of {len(self.tasks)} tasks failed: {told}", results)
        return results

    def compare(self, before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
        """Every task that both have, each tested at `ALPHA` divided by their number."""
        both = [task for task in after if task in before]
        return {task: shares(before[task], after[task], ALPHA / len(both)) for task in both}

    def _measure(self, subject: Subject, name: str) -> dict[str, Any]:
        from datasets import Dataset
        from lm_eval.api.task import ConfigurableTask
        from lm_eval.evaluator import evaluate
        from lm_eval.models.huggingface import HFLM

        require_template(subject.tokenizer)
        rows, origin = self.rows(name)
        options = definition(name)
        about, generates = options["metadata"], options["output_type"] == "generate_until"
        language_model: Any = HFLM(
            pretrained=subject.model,  # pyright: ignore[reportCallIssue]
            tokenizer=subject.tokenizer,  # pyright: ignore[reportCallIssue]
            batch_size=self.generation_batch_size if generates else self.batch_size,  # pyright: ignore[reportCallIssue]
            chat_template_args=of_one_day(subject.tokenizer),  # pyright: ignore[reportCallIssue]
        )
        if generates:
            options["generation_kwargs"] |= {"max_gen_toks": self.max_new_tokens}
        fields = about["fields"]
        options["custom_dataset"] = lambda **_: {
            "test": Dataset.from_list([{field: row[field] for field in fields} for row in rows])
        }
        task = ConfigurableTask(config=options | {"num_fewshot": 0})
        result: Any = evaluate(
            language_model,
            {"tasks": {name: task}, "groups": {}, "group_map": {}},  # pyright: ignore[reportArgumentType]
            bootstrap_iters=0,
            apply_chat_template=True,
            system_instruction=self.system,
        )
        samples: list[dict[str, Any]] = sorted(result["samples"][name], key=lambda sample: sample["doc_id"])
        right = [sample[about["metric"]] == 1 for sample in samples]
        chance, constant = 0.0, None
        if not generates:
            chance = sum(1 / len(task.doc_to_choice(sample["doc"])) for sample in samples) / len(samples)
            constant = max(Counter(int(sample["target"]) for sample in samples).values()) / len(samples)
        room = language_model.max_length - (self.max_new_tokens if generates else 1)
        lengths = [len(language_model.tok_encode(sample["arguments"][0][0])) for sample in samples]
        return share(right, chance=chance, constant=constant) | {
            "metric": about["metric"],
            "source": origin,
            "rows": digest(rows),
            "cut": sum(length > room for length in lengths),  # prompts that lost their beginning
        }


class _Loader(yaml.SafeLoader):
    """YAML with lm-eval's tag ``!function module.name``."""


_Loader.add_constructor("!function", lambda _, node: get_method(node.value))


def definition(task: str) -> dict[str, Any]:
    """The content of `tasks/<task>.yaml`, its functions imported."""
    return yaml.load((TASKS / f"{task}.yaml").read_text(encoding="utf-8"), Loader=_Loader)


@functools.cache
def _read(folder: Path | None, task: str) -> tuple[list[dict[str, Any]], str]:
    about = definition(task)["metadata"]
    return Source(**about["source"]).rows(folder, about["fields"])
