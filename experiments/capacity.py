"""What to say when a device has no memory for a run: what was asked for, and what would fit."""

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from experiments.run import Plan


def out_of_memory(planned: "Plan", failure: BaseException) -> str:
    """The message of a run that ran out of memory: the first sentence of `failure` and the batch size that would fit.

    Batch sizes are halved until the prediction of `experiments.prediction` is below the memory of the device.
    """
    from experiments.prediction import (
        predict,
    )  # imports transformers' attention, which a wrong value need not wait for

    capacity, config = device_bytes(planned.device), planned.config
    reason = f"OutOfMemoryError: {str(failure).split('. ')[0]}"
    batch = config.batch_size
    while batch > 1:
        batch //= 2
        model = planned.model.skeleton(getattr(torch, config.dtype))
        sequence = planned.data.tokens_per_example
        peak = predict(model, planned.method(), batch=batch, sequence=sequence, recompute=False).phases.peak
        if peak <= capacity:
            return (
                f"{reason}; batch_size={config.batch_size} is too much here: batch_size={batch} is predicted to need "
                f"{peak / 1e9:.2f} of {capacity / 1e9:.2f} GB"
            )
    return (
        f"{reason}; no batch size is predicted to fit the {capacity / 1e9:.2f} GB of this device: choose a method "
        "with smaller blocks, dtype=bfloat16 or a smaller model (python -m experiments.profile predicts each)"
    )


def device_bytes(device: torch.device) -> int:
    """Bytes of memory that a GPU has."""
    return torch.cuda.mem_get_info(device)[1]
