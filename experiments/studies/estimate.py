"""Estimated seconds of a run, from the arithmetic that it must do and a short measurement of this machine."""

import time
from collections.abc import Iterable
from functools import cache
from statistics import median

import torch

from experiments.methods import Trainable
from experiments.training.run import Run


def seconds(run: Run) -> float:
    """Seconds of the run: measured if it is finished, else `estimated`."""
    return record.measurements["seconds"] if (record := run.finished) else estimated(run)


def estimated(run: Run) -> float:
    """Seconds that the run needs, from the arithmetic and this machine's rate."""
    plan, tokens = run.plan, run.plan.tokens_per_step
    step, forward = plan.shared.once(
        "flops",
        (plan.form, tokens),
        lambda: (step_flops(plan.skeleton, tokens), forward_flops(plan.skeleton, tokens)),
    )
    # The evaluation before training is shared by the runs of a study.
    evaluations = 1 + (plan.config.steps - 1) // (plan.config.evaluate_every or plan.config.steps)
    evaluations *= plan.workload.forward_passes
    size = plan.shared.once("heldout", plan.data_key, lambda: plan.workload.data.heldout_size)
    flops = plan.config.steps * step + evaluations * forward * size / plan.config.batch_size
    return flops / rate(run)


def rate(run: Run) -> float:
    """FLOP/s of the run: `how.tflops` if it is given, else measured on this machine."""
    given = run.plan.config.how.get("tflops")
    return flops_per_second(run.plan.device.type, run.plan.tokens_per_step) if given is None else given * 1e12


def rate_in_words(run: Run) -> str:
    """The rate and where it is from."""
    origin = "measured here in float32" if run.plan.config.how.get("tflops") is None else "as tflops= says"
    return f"{rate(run) / 1e12:.3g} TFLOP/s, {origin}"


def forward_flops(trainable: Trainable, tokens: int) -> float:
    """Matrix arithmetic of one forward pass: 2 tokens N, N counted as in `step_flops`."""
    return 2.0 * tokens * sum(p.numel() for p in trainable.model.parameters() if p.ndim > 1)


def step_flops(trainable: Trainable, tokens: int) -> float:
    """Matrix arithmetic of one training step, averaged over the visits.

        forward            2 tokens N
        weight gradients   2 tokens N_active
        input gradients    2 tokens N_above, parameters registered at or after the lowest active one

    N counts matrices, without the embedding look-up, which multiplies nothing (a tied one is the head).
    Attention scores are left out: short sequences make them small.
    """
    places = {id(p): i for i, p in enumerate(trainable.model.parameters())}
    matrices = {id(p): p.numel() for p in trainable.model.parameters() if p.ndim > 1}
    forward = sum(matrices.values())
    total = 0.0
    for visit in trainable.visits:
        active = [id(part.parameter) for part in visit]
        lowest = min(places[i] for i in active)
        above = sum(size for i, size in matrices.items() if places[i] >= lowest)
        total += 2 * tokens * (forward + sum(matrices.get(i, 0) for i in active) + above)
    return total / len(trainable.visits)


def spread(runs: Iterable[Run]) -> tuple[float, float]:
    """What the least and the most that the runs take may be over `estimated`: the machine is not always as fast.

    A rate that is given has no spread.
    """
    measured = (run.plan for run in runs if run.plan.config.how.get("tflops") is None)
    places = {(plan.device.type, plan.tokens_per_step) for plan in measured}
    ratios = [flops_per_second(*place) / rate for place in places for rate in rates(*place)]
    return min(ratios, default=1.0), max(ratios, default=1.0)


def flops_per_second(device: str, tokens: int) -> float:
    """The median of `rates`, so that a disturbance of the machine counts little."""
    return median(rates(device, tokens))


@cache
def rates(device: str, tokens: int, width: int = 576, seconds: float = 0.1, rounds: int = 7) -> tuple[float, ...]:
    """Sustained rates of float32 matrix products of a step's shape, (tokens, width) x (width, 3 width).

    Args:
        device: "cpu" or "cuda".
        tokens: of a step.
        width: of the matrices.
        seconds: of a round.
        rounds: measured one after the other, after one product that is not timed.
    """
    generator = torch.Generator(device).manual_seed(0)
    a = torch.randn(tokens, width, device=device, generator=generator)
    b = torch.randn(width, 3 * width, device=device, generator=generator)
    (a @ b).sum().item()
    measured = []
    for _ in range(rounds):
        count, begin = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - begin) < seconds:
            (a @ b).sum().item()  # item() waits for the device
            count += 1
        measured.append(count * 2 * tokens * width * 3 * width / elapsed)
    return tuple(measured)
