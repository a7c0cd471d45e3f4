"""Finetuning a language model: the loss on answers, held-out loss, and exact match of generated answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from bcd.checks import require_whole
from bcd.execution import linear_cross_entropy
from experiments.data import IGNORED, Batch, Example, collate
from experiments.errors import UserError
from experiments.workloads.generation import generate


def answer_loss(model: Any, batch: Batch, reduction: str = "mean") -> Tensor:
    """Cross-entropy of the answer tokens given everything before them.

        loss = mean over tokens s with a label of -log p(token_s | tokens_<s)

    The head runs only on the columns in which some example has a label: most tokens belong to prompts, and the
    logits of a large vocabulary are the dearest part of a small model.

    Args:
        model: takes `input_ids` and `logits_to_keep`.
        batch: right-padded, so causal attention needs no mask, or packed.
        reduction: "mean" or "sum".
    """
    logits, labels = answer_logits(model, batch)
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction=reduction)


def answer_logits(model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Logits (examples, columns, vocabulary) and labels (examples, columns) of the columns that have a label."""
    columns = (batch.labels[:, 1:] != IGNORED).any(dim=0).nonzero().squeeze(1)
    logits = model(input_ids=batch.tokens, logits_to_keep=columns, **placed(batch)).logits
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # never less precise than float32
    return logits, batch.labels[:, 1:][:, columns]


def placed(batch: Batch) -> dict[str, Any]:
    """What a model must be told of packed examples, see `Batch.positions`; nothing where there are none.

    Models of transformers keep attention inside an example where positions begin anew and there is no cache: kernels
    for varying lengths by themselves, the others by a mask of (rows, 1, tokens, tokens).
    """
    return {} if batch.positions is None else {"position_ids": batch.positions, "use_cache": False}


def require_apart(model: Any) -> None:
    """Raise UserError unless packed examples do not see each other in the model; it is tried on a few tokens.

    The logits of two packed examples must be nearer to those of each alone than to those of one example of both.
    """
    if next(model.parameters()).device.type == "meta":
        return
    ids = (torch.arange(3, 19, device=model.device) % model.config.vocab_size)[None]
    positions = torch.arange(8, device=model.device).repeat(2)[None]
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            alone = model(input_ids=ids[:, 8:]).logits
            packed = model(input_ids=ids, **placed(Batch(ids, ids, positions))).logits[:, 8:]
            mixed = model(input_ids=ids).logits[:, 8:]
    finally:
        model.train(was_training)
    if (packed - alone).abs().max() > 0.1 * (mixed - alone).abs().max():
        raise UserError(
            f"data.packing=true is not possible: in {type(model).__name__} packed examples see each other; give false"
        )


def answer_sums(logits: Tensor, labels: Tensor) -> Tensor:
    """Nats of each answer, (examples,) in double precision, from what `answer_logits` gives."""
    flat = (logits.flatten(0, 1), labels.flatten())
    return F.cross_entropy(*flat, ignore_index=IGNORED, reduction="none").view_as(labels).double().sum(1)


@dataclass(frozen=True)
class Evaluation:
    """Held-out loss and exact match.

    Attributes:
        batch_size: examples a forward pass.
        max_new_tokens: longest generated answer.
    """

    batch_size: int
    max_new_tokens: int

    def __post_init__(self) -> None:
        for name in ("batch_size", "max_new_tokens"):
            require_whole(f"evaluation.{name}", getattr(self, name), least=1)

    def __call__(self, model: Any, tokenizer: Any, examples: Sequence[Example], label: str) -> dict[str, float | int]:
        """`heldout_loss` (nats per answer token), `exact_match` (share of examples) and `items`.

        Answers are decoded greedily, so the result is deterministic. `label` names the progress bar.
        """
        return self.scores(model, tokenizer, examples, label).means()

    def scores(self, model: Any, tokenizer: Any, examples: Sequence[Example], label: str) -> "Scores":
        """Loss, tokens and exact match of each example.

        Raises:
            UserError: for examples without a prompt, which ask for no answer.
        """
        if not all(example.prompt for example in examples):
            raise UserError("there is no answer to generate for a text without a prompt; give evaluation=loss")
        was_training = model.training
        model.eval()
        # Similar lengths together: less padding, and the same grouping at every call.
        ordered = sorted(range(len(examples)), key=lambda i: len(examples[i].prompt))
        total, losses, tokens = 0.0, [0.0] * len(examples), [0] * len(examples)
        right = [False] * len(examples)
        with torch.no_grad(), tqdm(total=len(ordered), desc=label, unit="item", leave=False) as bar:
            for start in range(0, len(ordered), self.batch_size):
                places = ordered[start : start + self.batch_size]
                group = [examples[i] for i in places]
                logits, labels = answer_logits(model, collate(group, tokenizer.pad_token_id).to(model.device))
                flat = (logits.flatten(0, 1), labels.flatten())
                total += F.cross_entropy(*flat, ignore_index=IGNORED, reduction="sum").item()
                each = answer_sums(logits, labels)
                answers = generate(model, tokenizer, [example.prompt for example in group], self.max_new_tokens)
                for row, (i, example, answer) in enumerate(zip(places, group, answers, strict=True)):
                    losses[i], tokens[i] = each[row].item(), int((labels[row] != IGNORED).sum())
                    right[i] = example.score(answer)
                bar.update(len(group))
        model.train(was_training)
        return Scores(total / sum(tokens), losses, tokens, right)


@dataclass(frozen=True)
class HeldOutLoss:
    """Held-out loss alone, see `Evaluation`.

    Attributes:
        batch_size: examples a forward pass.
        chunk: tokens whose logits exist at the same time (`bcd.execution.linear_cross_entropy`), for models whose
            logits are their head on their decoder; None: the model's own logits, all of a batch.
    """

    batch_size: int
    chunk: int | None = None

    def __post_init__(self) -> None:
        require_whole("evaluation.batch_size", self.batch_size, least=1)
        require_whole("evaluation.chunk", self.chunk, least=1, or_none=True)

    def __call__(self, model: Any, tokenizer: Any, examples: Sequence[Example], label: str) -> dict[str, float | int]:
        """`heldout_loss` (nats per answer token) and `items`; `label` names the progress bar."""
        was_training = model.training
        model.eval()
        ordered = sorted(examples, key=lambda example: example.length)
        groups = [ordered[i : i + self.batch_size] for i in range(0, len(ordered), self.batch_size)]
        sums, tokens = [], 0
        with torch.no_grad():
            for group in tqdm(groups, desc=label, unit="batch", leave=False):
                batch = collate(group, tokenizer.pad_token_id)
                tokens += batch.terms
                # Sums stay on the device until all batches are queued; in double precision they add up exactly enough.
                sums.append(self._sum(model, batch.to(model.device)).double())
        model.train(was_training)
        return {"heldout_loss": torch.stack(sums).sum().item() / tokens, "items": len(examples)}

    def each(self, model: Any, tokenizer: Any, examples: Sequence[Example]) -> tuple[list[float], list[int]]:
        """Nats and number of tokens of each answer, in the order of the examples, by the model's own logits."""
        was_training = model.training
        model.eval()
        ordered = sorted(range(len(examples)), key=lambda i: examples[i].length)
        losses, tokens = torch.zeros(len(examples), dtype=torch.float64), [0] * len(examples)
        with torch.no_grad():
            for start in range(0, len(ordered), self.batch_size):
                places = ordered[start : start + self.batch_size]
                batch = collate([examples[i] for i in places], tokenizer.pad_token_id).to(model.device)
                logits, labels = answer_logits(model, batch)
                losses[places] = answer_sums(logits, labels).cpu()
                for i, count in zip(places, (labels != IGNORED).sum(1).tolist(), strict=True):
                    tokens[i] = count
        model.train(was_training)
        return losses.tolist(), tokens

    def _sum(self, model: Any, batch: Batch) -> Tensor:
        if self.chunk is None:
            return answer_loss(model, batch, "sum")
        hidden = model.get_decoder()(input_ids=batch.tokens, use_cache=False)[0]
        wanted = batch.labels[:, 1:] != IGNORED
        head = model.get_output_embeddings()
        return linear_cross_entropy(
            hidden[:, :-1][wanted],
            head.weight,
            batch.labels[:, 1:][wanted],
            bias=getattr(head, "bias", None),
            count=1,
            chunk=self.chunk,
        )


@dataclass(frozen=True)
class Scores:
    """Scores of examples, in their order.

    Attributes:
        loss: nats per answer token, over all examples.
        losses: nats of each answer.
        tokens: number of tokens of each answer.
        right: whether the generated answer of each is right.
    """

    loss: float
    losses: list[float]
    tokens: list[int]
    right: list[bool]

    def means(self) -> dict[str, float | int]:
        """`heldout_loss`, `exact_match` and `items`, as metrics of a run."""
        items = len(self.right)
        return {"heldout_loss": self.loss, "exact_match": sum(self.right) / items, "items": items}
