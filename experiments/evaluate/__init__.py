"""Evaluation on held-out examples: loss on the answers, and exact match of generated answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from experiments.data import IGNORED, Batch, Example, collate
from experiments.errors import UserError


def answer_loss(model: Any, batch: Batch, reduction: str = "mean") -> Tensor:
    """Cross-entropy of the answer tokens given everything before them.

        loss = mean over tokens s with a label of -log p(token_s | tokens_<s)

    The head runs only on the columns in which some example has a label: most tokens belong to prompts, and the
    logits of a large vocabulary are the dearest part of a small model.

    batch: right-padded, so causal attention needs no mask.     reduction: "mean" or "sum".
    """
    columns = (batch.labels[:, 1:] != IGNORED).any(dim=0).nonzero().squeeze(1)
    logits = model(input_ids=batch.tokens, logits_to_keep=columns).logits
    labels = batch.labels[:, 1:][:, columns]
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # never less precise than float32
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction=reduction)


@dataclass(frozen=True)
class Evaluation:
    """Held-out loss and exact match.

    batch_size: examples a forward pass.     max_new_tokens: longest generated answer.
    """

    batch_size: int
    max_new_tokens: int

    def __post_init__(self) -> None:
        for name in ("batch_size", "max_new_tokens"):
            if getattr(self, name) < 1:
                raise UserError(f"evaluation.{name}={getattr(self, name)} is not possible: it must be at least 1")

    def __call__(self, model: Any, tokenizer: Any, examples: Sequence[Example], label: str) -> dict[str, float | int]:
        """Returns `heldout_loss` (nats per answer token), `exact_match` (share of examples) and `items`.

        Answers are decoded greedily, so the result is deterministic. `label` names the progress bar.
        """
        was_training = model.training
        model.eval()
        # Similar lengths together: less padding, and the same grouping at every call.
        ordered = sorted(examples, key=lambda example: len(example.prompt))
        total, tokens, right = 0.0, 0, 0
        with torch.no_grad(), tqdm(total=len(ordered), desc=label, unit="item", leave=False) as bar:
            for start in range(0, len(ordered), self.batch_size):
                group = ordered[start : start + self.batch_size]
                batch = collate(group, tokenizer.pad_token_id).to(model.device)
                total += answer_loss(model, batch, reduction="sum").item()
                tokens += int((batch.labels != IGNORED).sum())
                right += sum(e.score(a) for e, a in zip(group, self._generate(model, tokenizer, group), strict=True))
                bar.update(len(group))
        model.train(was_training)
        return {"heldout_loss": total / tokens, "exact_match": right / len(ordered), "items": len(ordered)}

    def _generate(self, model: Any, tokenizer: Any, group: Sequence[Example]) -> list[str]:
        width = max(len(example.prompt) for example in group)
        tokens = torch.full((len(group), width), tokenizer.pad_token_id)
        mask = torch.zeros_like(tokens)
        for i, example in enumerate(group):
            tokens[i, width - len(example.prompt) :] = torch.tensor(example.prompt)
            mask[i, width - len(example.prompt) :] = 1
        output = model.generate(
            input_ids=tokens.to(model.device),
            attention_mask=mask.to(model.device),
            max_new_tokens=self.max_new_tokens,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
        return [text.strip() for text in tokenizer.batch_decode(output[:, width:], skip_special_tokens=True)]
