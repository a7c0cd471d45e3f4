"""Finetuning a language model on prompts and answers, as a workload."""

import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from tqdm import tqdm

from bcd.execution import Execution
from experiments.data import Batch, Dataset, DataSource, Example, batches
from experiments.data.bucketing import groups, padding_waste
from experiments.data.marks import BEGIN, END, marked
from experiments.errors import UserError
from experiments.methods import Trainable
from experiments.models import ModelSource
from experiments.randomness import DATA_ORDER, stream_seed
from experiments.workloads.interface import Setting
from experiments.workloads.language import Evaluation, HeldOutLoss, answer_loss, placed, require_apart
from experiments.workloads.target import Target
from records import digest


@dataclass(frozen=True)
class Finetuning:
    """A language model, prompts with answers, the loss on the answers, and how it is evaluated.

    Attributes:
        model: where weights and tokenizer come from.
        data: where the examples come from.
        evaluation: held-out loss, with or without exact match of generated answers.
        target: see `Target`; None for runs that end after their steps.
    """

    model: ModelSource
    data: DataSource
    evaluation: Evaluation | HeldOutLoss
    target: Target | None = None

    @property
    def forward_passes(self) -> int:
        """One for the loss, and about one more where answers are generated."""
        return 2 if isinstance(self.evaluation, Evaluation) else 1

    @property
    def sequence(self) -> int:
        """Tokens of the longest example."""
        return self.data.max_tokens

    def require(self, config: Any) -> None:
        """Raise UserError where answers are to be generated and examples have no prompt."""
        if isinstance(self.evaluation, Evaluation) and not self.data.asks:
            raise UserError("evaluation=exact_match generates answers, and a text has no prompt; give evaluation=loss")

    def task(self, processor: Any, dataset: Dataset, setting: Setting) -> "FinetuningTask":
        """Batches, loss and metrics of one run; `processor` is the tokenizer."""
        return FinetuningTask(self, processor, dataset, setting)


class FinetuningTask:
    """The batches, loss and metrics of one run, see `experiments.workloads.Task`."""

    def __init__(self, workload: Finetuning, tokenizer: Any, dataset: Dataset, setting: Setting) -> None:
        self._workload, self._tokenizer, self._dataset, self._setting = workload, tokenizer, dataset, setting
        self._seed = stream_seed(setting.seed, DATA_ORDER)
        lengths = [example.length for example in dataset.train]
        stream = groups(lengths, setting.batch_size, self._seed, bucket=workload.data.bucket)
        drawn = list(itertools.islice(stream, setting.steps))
        tokens, waste = padding_waste(lengths, drawn, setting.accumulation, workload.data.room)
        self._tokens = list(itertools.accumulate((sum(lengths[i] for i in batch) for batch in drawn), initial=0))
        self.about = dataset.about | {"tokens": tokens, "padding_waste": waste}

    def announce(self, name: str) -> None:
        """Say what was counted of the data."""
        tqdm.write(f"{name}: {self._counts()}", file=sys.stderr)

    def _counts(self) -> str:
        counts = ", ".join(f"{number} {what.replace('_', ' ')}" for what, number in self._dataset.about.items())
        setting = self._setting
        epochs = setting.steps / (len(self._dataset.train) // setting.batch_size)
        return (
            f"{counts or 'data'}; {self.about['tokens']} tokens in {setting.steps} steps ({epochs:.3g} epochs), "
            f"{self.about['padding_waste']:.1%} padding besides (data.bucket={self._workload.data.bucket})"
        )

    def shown(self) -> list[str]:
        """What was counted, and the first example with marks around what the loss is on."""
        example = self._dataset.train[0]
        trained = sum(end - begin for begin, end in example.trained)
        return [
            f"data: {self._counts()}",
            f"example: {example.length} tokens, {trained} of them trained on, between {BEGIN} and {END}:",
            marked(self._tokenizer, example),
        ]

    def require_model(self, model: nn.Module) -> None:
        """Raise UserError for an example that is longer than the model has positions, or packed for one that mixes.

        Learned positions would end the run in an index, and rotary ones would be computed beyond what was trained.
        """
        limit = getattr(model.config, "max_position_embeddings", None)
        longest = max(example.length for example in (*self._dataset.train, *self._dataset.heldout))
        if limit is not None and longest > limit:
            raise UserError(
                f"the longest example has {longest} tokens and the model {limit} positions (max_position_embeddings); "
                f"give data.max_tokens={limit}"
            )
        if self._workload.data.room is not None:
            require_apart(model)

    def batches(self, start: int) -> Iterator[Batch]:
        """The stream of batches after the first `start`."""
        pad, bucket = self._tokenizer.pad_token_id, self._workload.data.bucket
        room = self._workload.data.room
        stream = batches(self._dataset.train, self._setting.batch_size, pad, self._seed, start, bucket, room)
        return (batch.to(self._setting.device) for batch in stream)

    def seen(self, steps: int) -> dict[str, int]:
        """Tokens of the first `steps` batches, padding left out."""
        return {"tokens": self._tokens[steps]}

    def loss(self, model: nn.Module, batch: Batch, execution: Execution) -> Tensor:
        """Cross-entropy of the answer tokens, see `answer_loss`."""
        with execution.autocasting(batch.tokens.device):
            if execution.loss != "plain":  # the model itself computes it, from its hidden states
                return model(input_ids=batch.tokens, labels=batch.labels, **placed(batch)).loss
            return answer_loss(model, batch)

    def evaluate(self, model: nn.Module, label: str) -> dict[str, float | int]:
        """Metrics of the workload's evaluation on the held-out examples."""
        return self._workload.evaluation(model, self._tokenizer, self._dataset.heldout, label)

    def test(self, model: nn.Module, label: str) -> tuple[dict[str, Any], str]:
        """The same on the test part, and the SHA-256 of its rows.

        `losses` (nats, 5 decimals), `tokens` and, where answers are generated, `right` are those of each answer, so
        that runs can be compared item by item.
        """
        examples: list[Example] = self._workload.data.load_test(self._tokenizer)
        rows = digest([[example.prompt, example.answer] for example in examples])
        evaluation = self._workload.evaluation
        if isinstance(evaluation, HeldOutLoss):
            metrics: dict[str, Any] = evaluation(model, self._tokenizer, examples, label)
            losses, tokens = evaluation.each(model, self._tokenizer, examples)
        else:
            scores = evaluation.scores(model, self._tokenizer, examples, label)
            metrics = scores.means() | {"right": scores.right}
            losses, tokens = scores.losses, scores.tokens
        return metrics | {"losses": [round(loss, 5) for loss in losses], "tokens": tokens}, rows

    def export(self, trainable: Trainable, folder: Path) -> None:
        """Config, safetensors, tokenizer and chat template in the Hugging Face format; adapters are merged."""
        trainable.merged().save_pretrained(folder)
        self._tokenizer.save_pretrained(folder)
