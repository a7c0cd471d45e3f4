"""Studies and records as text."""

from collections.abc import Sequence
from dataclasses import asdict

import torch

from experiments.studies import estimate, memory
from experiments.training.run import Run
from records import Record

HOURS = 7200
"""Seconds from which the time of a run is in hours."""


def table(listed: Sequence[Run]) -> str:
    """The study as text: run, state, time (measured or estimated), and the predicted peak where a card is given."""
    width = max(len(run.name) for run in listed)
    cards = any(memory.card(run) is not None for run in listed)
    rows = [f"{'run':{width}}  {'state':11}  {'time':>12}" + ("  predicted peak" if cards else "")]
    for run in listed:
        about, seconds = "" if run.state == "finished" else "about ", estimate.seconds(run)
        time = left(seconds) if seconds >= HOURS else f"{seconds:.0f} s"
        rows.append(f"{run.name:{width}}  {run.state:11}  {about + time:>12}" + _memory(run))
    todo = [run for run in listed if run.state != "finished"]
    seconds = sum(map(estimate.estimated, todo))
    rows.append(f"left: {len(todo)} runs, about {between(*(share * seconds for share in estimate.spread(todo)))}")
    rates = [estimate.rate_in_words(run) for run in todo]
    rows += [f"time at {rate}" for rate in dict.fromkeys(rates)] if any(_is_given(run) for run in todo) else []
    if cards:
        rows.append(
            f"peak: weights, gradients, state and activations of the longest batch, GB = 10^9 bytes; a card holds it "
            f"with {memory.RESERVE:g} GB to spare"
        )
    rows += dict.fromkeys(line for run in listed for line in run.plan.absent)
    return "\n".join(rows)


def _is_given(run: Run) -> bool:
    """Whether the list says at which rate the time is."""
    return run.plan.config.how.get("tflops") is not None or bool(run.plan.absent)


def _memory(run: Run) -> str:
    size = memory.card(run)
    if size is None:
        return ""
    sequences, longest = memory.batch(run)
    peak, holds = memory.prediction(run).phases.peak, "fits" if memory.fits(run) else "TOO MUCH for"
    return f"  {peak / memory.GB:.1f} GB at {sequences} x {longest} tokens, {holds} {size:g} GB"


def plan(run: Run) -> list[str]:
    """What a run would be, in lines: steps, time, predicted memory, data, and an example as it is trained on.

    Data and tokenizer are loaded, no weights.

    Raises:
        UserError: for data that cannot be trained on, or are longer than the model has positions.
    """
    planned = run.plan
    config, expected = planned.config, planned.expected
    processor = planned.workload.model.processor()
    task = planned.workload.task(processor, planned.workload.data.load(processor), planned.setting)
    task.require_model(planned.workload.model.skeleton(getattr(torch, config.dtype)))
    sizes = ", ".join(f"{name} {size / 1e9:.3f}" for name, size in asdict(expected).items())
    time = between(*(share * estimate.estimated(run) for share in estimate.spread([run])))
    return [
        f"{run.name}: {run.state}, nothing is trained with dry=true",
        f"steps: {config.steps} of {config.batch_size} examples on {planned.device.type}, about {time}",
        f"memory: {sizes} GB predicted in {config.dtype}, and activations (experiments.profile has those)",
        *task.shown(),
    ]


def left(seconds: float) -> str:
    """A time for readers.

    >>> left(59), left(3000), left(30000)
    ('59 s', '50 min', '8.3 h')
    """
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )


def between(least: float, most: float) -> str:
    """A range of times for readers, one where both are the same in print.

    >>> between(3000, 7300), between(3000, 3001)
    ('50 min to 2.0 h', '50 min')
    """
    return left(least) if left(least) == left(most) else f"{left(least)} to {left(most)}"


def summary(record: Record) -> str:
    """One line of a record: what it was and what came out."""
    if record.error:
        return f"{record.name}: FAILED, {record.error}"
    if record.status == "interrupted":
        return f"{record.name}: interrupted after {len(record.measurements.get('steps', {}).get('lr', []))} steps"
    before, after = record.measurements["before"], record.measurements["after"]
    line = f"{record.name}: held-out loss {before['heldout_loss']:.4f} -> {after['heldout_loss']:.4f}"
    if "exact_match" in after:
        line += f", exact match {before['exact_match']:.3f} -> {after['exact_match']:.3f}"
    return f"{line} on {after['items']} items"
