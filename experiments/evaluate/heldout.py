"""Held-out loss and exact match of a saved model on the data that training holds out, with standard errors."""

from pathlib import Path
from typing import Any

import numpy as np

from experiments.data import DataSource
from experiments.evaluate import Evaluation
from experiments.evaluate.significance import share
from records import digest


class HeldOut:
    """The same evaluation as before and after training.     data, evaluation: as in training."""

    def __init__(self, data: DataSource, evaluation: Evaluation) -> None:
        self.data = data
        self.evaluation = evaluation

    def fingerprint(self) -> str:
        return self.data.fingerprint()

    def __call__(self, model: Any, tokenizer: Any, place: Path, label: str) -> dict[str, Any]:
        """Returns `loss` (nats per answer token, with its linearised standard error) and `exact_match` (a `share`).

        `losses` and `tokens` are those of each answer, so that two models can be compared item by item.
        """
        examples = self.data.load(tokenizer).heldout
        scores = self.evaluation.scores(model, tokenizer, examples, label)
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
