"""Held-out loss and exact match of a saved model on the data that training holds out, with standard errors."""

from typing import Any

import numpy as np

from experiments.data import DataSource
from experiments.evaluate.significance import ALPHA, mean_difference, share, shares, verdict
from experiments.evaluate.subject import Subject
from experiments.workloads.language import Evaluation
from records import digest


class HeldOut:
    """The same evaluation as before and after training.

    Args:
        data: as in training.
        evaluation: as in training.
    """

    def __init__(self, data: DataSource, evaluation: Evaluation) -> None:
        self.data = data
        self.evaluation = evaluation

    def fingerprint(self) -> str:
        return self.data.fingerprint()

    def size(self) -> dict[str, int]:
        return {"examples": self.data.heldout_size}

    def __call__(self, subject: Subject) -> dict[str, Any]:
        """`loss` (nats per answer token, with its linearised standard error) and `exact_match` (a `share`).

        `losses` and `tokens` are those of each answer, so that two models can be compared item by item.
        """
        examples = self.data.load(subject.tokenizer).heldout
        scores = self.evaluation.scores(subject.model, subject.tokenizer, examples, subject.name)
        losses, tokens = np.asarray(scores.losses), np.asarray(scores.tokens)
        n = len(examples)
        error = np.sqrt(n / (n - 1) * np.square(losses - scores.loss * tokens).sum()) / tokens.sum() if n > 1 else None
        rows = digest([[example.prompt, example.answer] for example in examples])
        return {
            "loss": {
                "value": scores.loss,
                "standard_error": None if error is None else float(error),
                "losses": [round(loss, 5) for loss in scores.losses],
                "tokens": scores.tokens,
                "rows": rows,
            },
            "exact_match": share(scores.right, chance=0.0) | {"rows": rows},
        }

    def compare(self, before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
        """Differences of loss and exact match, each tested at half of `ALPHA`.

        Raises:
            ValueError: when the held-out examples are not the same.
        """
        first, second = before["loss"], after["loss"]
        if first["rows"] != second["rows"]:
            raise ValueError("the two records are of different held-out examples")
        alpha = ALPHA / 2
        loss = mean_difference(first["losses"], second["losses"], first["tokens"], alpha)
        loss["verdict"] = verdict(loss, alpha, larger_is_better=False)
        return {"loss": loss, "exact_match": shares(before["exact_match"], after["exact_match"], alpha)}
