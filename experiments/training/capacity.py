"""What to say when a device has no memory for a run: what was asked for, and what would fit."""

import torch

from experiments.training.planning import Plan


def out_of_memory(planned: Plan, failure: BaseException) -> str:
    """What to tell of a run that ran out of memory: the first sentence of `failure` and what accumulation would fit.

    The examples of a forward pass are halved until the prediction of `experiments.cost.predict` is below the memory of
    the device.
    """
    # imports transformers' attention, which a wrong value need not wait for
    from experiments.cost.predict import predict

    capacity, config = device_bytes(planned.device), planned.config
    sequence = planned.workload.sequence
    reason = f"OutOfMemoryError: {str(failure).split('. ')[0]}"
    accumulation = config.accumulation
    while config.batch_size % (2 * accumulation) == 0:
        accumulation *= 2
        batch = config.batch_size // accumulation
        model = planned.workload.model.skeleton(getattr(torch, config.dtype))
        size = {"batch": batch, "sequence": sequence, "limit": capacity, "accumulated": True}
        peak = predict(model, planned.method(), planned.execution(), **size).phases.peak
        if peak <= capacity:
            return (
                f"{reason}; {config.batch_size // config.accumulation} examples at once are too many here: "
                f"accumulation={accumulation} (batch_size={config.batch_size} in parts of {batch}) is predicted to "
                f"need {peak / 1e9:.2f} of {capacity / 1e9:.2f} GB"
            )
    return (
        f"{reason}; no accumulation is predicted to fit the {capacity / 1e9:.2f} GB of this device: choose a method "
        "with smaller blocks, dtype=bfloat16 or a smaller model (python -m experiments.profile predicts each)"
    )


def device_bytes(device: torch.device) -> int:
    """Bytes of memory that a GPU has."""
    return torch.cuda.mem_get_info(device)[1]
