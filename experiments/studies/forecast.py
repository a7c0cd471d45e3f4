"""What a study needs, before any weight is there: the peak memory of its runs, and whether a card holds it."""

import sys
from collections.abc import Sequence

import torch
from tqdm import tqdm

from experiments.cost.predict import predict
from experiments.errors import UserError
from experiments.training.planning import Plan
from experiments.training.run import Run

GB = 1e9
RESERVE = 10**9
"""Bytes of a card left for the CUDA context, workspaces of the libraries and fragmentation."""


def peaks(listed: Sequence[Run]) -> dict[str, int]:
    """Form of a run -> predicted bytes at its peak, for runs with `how.card`; each form once.

    Assumed is the worst batch: every example as long as `data.max_tokens`.

    Raises:
        UserError: for a workload without sequences.
    """
    plans = {run.plan.form: run.plan for run in listed if run.plan.config.how.get("card") is not None}
    with tqdm(plans.items(), desc="predict memory", unit="method", leave=False, file=sys.stderr) as bar:
        return {form: _peak(plan) for form, plan in bar}


def _peak(plan: Plan) -> int:
    sequence = plan.workload.sequence
    if sequence is None:
        raise UserError("how.card is not possible with this workload: memory is predicted for sequences of tokens")
    accumulation = plan.config.get("accumulation", 1)
    prediction = predict(
        plan.workload.model.skeleton(getattr(torch, plan.config.dtype)),
        plan.method(),
        plan.execution(),
        batch=plan.config.batch_size // accumulation,
        sequence=sequence,
        limit=int(plan.config.how.card * GB) - RESERVE,
        accumulated=accumulation > 1,
    )
    return prediction.phases.peak


def fits(run: Run, peak: int) -> bool:
    """Whether the card of the run holds the peak beside what is left free of it."""
    return peak + RESERVE <= run.plan.config.how.card * GB
