"""Predicted peak memory of the runs of a study, without weights, data or a GPU."""

import torch

from experiments.cost.predict import Prediction, predict
from experiments.errors import UserError
from experiments.training.run import Run

GB = 1e9
RESERVE = 1.0
"""GB of a card left for the CUDA context, the libraries' workspaces and fragmentation, as conf/profile.yaml has it."""


def card(run: Run) -> float | None:
    """GB of the card that memory is predicted for; None where none is asked for, and for a run that is not listed."""
    how = run.plan.config.how
    return how.get("card") if how.get("dry") else None


def batch(run: Run) -> tuple[int, int]:
    """Sequences of a forward and backward pass, and tokens of the longest one."""
    config, longest = run.plan.config, run.plan.workload.sequence
    if longest is None:
        raise UserError(f"card={card(run)} is not possible: {run.name} trains on no token sequences; drop card")
    return config.batch_size // config.get("accumulation", 1), longest


def prediction(run: Run) -> Prediction:
    """Bytes at the peak of a step of the longest batch, see `experiments.cost.predict`; once for each method.

    Raises:
        UserError: for what the prediction does not cover.
    """
    plan, (sequences, longest) = run.plan, batch(run)
    execution = plan.execution()
    if execution.autocast is not None:
        raise UserError(
            f"card={card(run)} is not possible with execution.autocast={execution.autocast}, whose copies are not "
            "predicted; drop card, or give execution.autocast=null dtype=bfloat16"
        )
    limit = None if (size := card(run)) is None else int(size * GB)

    def make() -> Prediction:
        return predict(
            plan.workload.model.skeleton(getattr(torch, plan.config.dtype)),
            plan.method(),
            execution,
            batch=sequences,
            sequence=longest,
            limit=limit,
            accumulated=plan.config.get("accumulation", 1) > 1,
        )

    return plan.shared.once("peak", (plan.form, sequences, longest, limit), make)


def fits(run: Run) -> bool:
    """Whether the card holds the run, with `RESERVE` kept free."""
    size = card(run)
    return size is None or prediction(run).phases.peak / GB + RESERVE <= size
